//! Golden bytes, and tests of damaged ones.

use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn offer(path: &[u8], kind: Kind) -> Offer {
    Offer {
        id: 7,
        source: 1,
        path: path.to_vec(),
        kind,
        mode: 0o644,
        modified: Time {
            seconds: -1,
            nanoseconds: 999_999_999,
        },
        accessed: Time::default(),
        owner: None,
        attributes: Vec::new(),
    }
}

#[test]
fn the_bytes_are_those_of_the_protocol() {
    let options = Options {
        recursive: true,
        ..Options::default()
    };
    let get = Opening::Get(Get {
        version: 1,
        sources: vec![b"/a".to_vec()],
        options,
    });
    assert_eq!(hex(&get.to_frame()), "0000000a010101022f6101000000");
    let put = Opening::Put(Put {
        version: 1,
        target: b"d".to_vec(),
        names: vec![b"a".to_vec(), Vec::new()],
        options,
    });
    assert_eq!(
        hex(&put.to_frame()),
        "0000000c02010164020161000100000 0".replace(' ', "")
    );
    assert_eq!(hex(&Opened::Ready.to_frame()), "0000000101");
    let said = FromSender::Offer(offer(b"x", Kind::File(Some(5))));
    assert_eq!(
        hex(&said.to_frame()),
        "0000001401070101780001 05a40301ff93ebdc0300000000".replace(' ', "")
    );
    let said = FromSender::Begin(Begin { id: 7, offset: 300 });
    assert_eq!(hex(&said.to_frame()), "000000040207ac02");
    assert_eq!(hex(&FromSender::Hole(4096).to_frame()), "00000003048020");
    assert_eq!(hex(&FromSender::Offered.to_frame()), "0000000108");
    let said = FromReceiver::Want(Want { id: 7, base: None });
    assert_eq!(hex(&said.to_frame()), "00000003010700");
    let said = FromReceiver::Settled(Settled {
        id: 7,
        outcome: Outcome::Failed("no".into()),
    });
    assert_eq!(hex(&said.to_frame()), "00000006020703026e6f");
    assert_eq!(hex(&data_head(3)), "0000000403");
}

#[test]
fn a_path_leads_nowhere_else() {
    for good in ["", "a", "a/b", "…", "a b/-c", ".a/..b"] {
        assert!(names_of(good.as_bytes()).is_ok(), "{good}");
    }
    for bad in [
        "/", "/a", "a/", "a//b", "..", "a/../b", ".", "a/./b", "a\0b",
    ] {
        let said = names_of(bad.as_bytes()).unwrap_err();
        assert!(!said.contains('\0'), "{said}");
    }
    assert!(names_of(&vec![b'a'; MAX_PATH + 1]).is_err());
}

#[test]
fn the_name_of_a_source_is_its_last() {
    for (source, name) in [
        ("a", Some("a")),
        ("/x/a", Some("a")),
        ("/x/a//", Some("a")),
        ("a/.", None),
        ("..", None),
        ("/", None),
        ("", None),
        ("~", None),
        ("...", Some("...")),
    ] {
        assert_eq!(
            name_of(source.as_bytes()),
            name.map(str::as_bytes),
            "{source}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(tag: u8, body: Vec<u8>) {
        if let Ok(said) = decode::<FromSender>(tag, &body) {
            prop_assert_eq!(&decode::<FromSender>(tag, &said.encode().1), &Ok(said));
        }
        if let Ok(said) = decode::<FromReceiver>(tag, &body) {
            prop_assert_eq!(&decode::<FromReceiver>(tag, &said.encode().1), &Ok(said));
        }
        let _ = decode::<Opening>(tag, &body);
        let _ = decode::<Opened>(tag, &body);
    }

    #[test]
    fn whatever_is_offered_arrives(path: Vec<u8>, link: Vec<u8>, mode: u32) {
        for kind in [Kind::File(None), Kind::Symlink(link.clone()), Kind::HardLink(3, link.clone())] {
            let mut sent = offer(&path, kind);
            sent.mode = mode;
            let sent = FromSender::Offer(sent);
            let (tag, body) = sent.encode();
            prop_assert_eq!(decode::<FromSender>(tag, &body), Ok(sent));
        }
    }

    #[test]
    fn names_make_their_path_again(path: Vec<u8>) {
        if let Ok(names) = names_of(&path) {
            prop_assert_eq!(names.join(&b'/'), path.clone());
            prop_assert!(names.iter().all(|name| !name.contains(&b'/') && *name != b".."));
        }
    }
}
