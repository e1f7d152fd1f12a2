//! Caps hold before anything is allocated, and unknown tags are what they say they are.

use malai_wire::FrameError;
use malai_wire::control::{self, ClientMessage, Reply, Request};
use malai_wire::frame::{CONTENT, HEAD, OPEN, SKIPPABLE, SMALL, Tagged, parse_head};
use malai_wire::peer::connect;
use malai_wire::peer::exec::{Action, FromClient, FromServer, Open, Term};
use malai_wire::peer::hello::Greeting;
use malai_wire::peer::sync::{Compare, Fetch, Fetched};

fn head(length: u32, tag: u8) -> [u8; HEAD] {
    let [a, b, c, d] = length.to_be_bytes();
    [a, b, c, d, tag]
}

#[test]
fn a_head_is_judged_by_its_cap() {
    for cap in [SMALL, OPEN, CONTENT, control::CAP] {
        let at_cap = u32::try_from(cap).unwrap();
        let too_large = |length| {
            Err(FrameError::TooLarge {
                length: length as usize,
                cap,
            })
        };
        for (length, expected) in [
            (0, Err(FrameError::Empty)),
            (1, Ok((3, 0))),
            (at_cap, Ok((3, cap - 1))),
            (at_cap + 1, too_large(at_cap + 1)),
            (u32::MAX, too_large(u32::MAX)),
        ] {
            assert_eq!(
                parse_head(head(length, 3), cap),
                expected,
                "{length} under {cap}"
            );
        }
    }
}

#[test]
fn the_longest_argument_list_fits_and_a_longer_one_does_not() {
    // Linux allows 6 MiB of arguments at most, each with its end and its pointer counted in.
    let open = |bytes: usize| {
        FromClient::Open(Open {
            request: Action::Exec(vec![vec![b'x'; 128 * 1024]; bytes / (128 * 1024)]).into(),
            stdin: true,
            terminal: None,
        })
        .to_frame()
    };
    let judged = |frame: Vec<u8>| parse_head(*frame.first_chunk().unwrap(), OPEN);
    assert!(judged(open(6 << 20)).is_ok());
    assert!(matches!(
        judged(open((6 << 20) + 128 * 1024)),
        Err(FrameError::TooLarge { cap: OPEN, .. })
    ));
}

/// Nothing that announces a large count of small things makes room for them.
#[test]
fn announced_counts_are_not_believed() {
    // A list of 2^62 arguments; a string of 2^62 bytes.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f];
    assert_eq!(
        FromClient::decode(1, &[&[0], &huge[..]].concat()),
        Err(FrameError::Body(1))
    );
    assert_eq!(
        Fetched::decode(2, &[&[0], &huge[..]].concat()),
        Err(FrameError::Body(2))
    );
    assert_eq!(Reply::decode(1, &huge), Err(FrameError::Body(1)));
    assert_eq!(Reply::decode(2, &huge), Err(FrameError::Body(2)));
    assert_eq!(ClientMessage::decode(1, &huge), Err(FrameError::Body(1)));
}

/// The one tag that a reader may skip and that this side knows, in [`FromServer`].
const INPUT: u8 = 0x81;

/// What one kind of message makes of tags: those it knows, those it may skip, all others.
#[track_caller]
fn tags<T: Tagged + PartialEq + std::fmt::Debug>(known: u8) {
    for tag in (0..=u8::MAX).filter(|tag| *tag != INPUT) {
        let decoded = T::decode(tag, b"");
        match tag {
            tag if tag & SKIPPABLE != 0 => assert_eq!(decoded, Ok(None), "{tag:#04x}"),
            tag if (1..=known).contains(&tag) => {
                assert!(
                    matches!(decoded, Ok(Some(_)) | Err(FrameError::Body(_))),
                    "{tag:#04x}"
                );
            }
            tag => assert_eq!(decoded, Err(FrameError::Tag(tag)), "{tag:#04x}"),
        }
    }
}

#[test]
fn only_marked_tags_are_skipped() {
    tags::<Greeting>(1);
    tags::<FromClient>(3);
    tags::<FromServer>(3);
    tags::<Compare>(2);
    tags::<Fetch>(1);
    tags::<Fetched>(2);
    tags::<Request>(11);
    tags::<ClientMessage>(5);
    tags::<Reply>(13);
    tags::<connect::FromClient>(1);
    tags::<connect::FromServer>(2);
    assert_eq!(
        FromServer::decode(INPUT, b"\x07"),
        Ok(Some(FromServer::Input(7)))
    );
    assert_eq!(FromServer::decode(INPUT, b""), Err(FrameError::Body(INPUT)));
    assert_eq!(FromClient::decode(INPUT, b""), Ok(None));
}

#[test]
fn a_body_with_bytes_left_over_is_malformed() {
    assert_eq!(FromServer::decode(1, b"\0"), Err(FrameError::Body(1)));
    assert_eq!(Fetch::decode(1, b"\x07"), Ok(Some(Fetch::Revision(7))));
    assert_eq!(Fetch::decode(1, b"\x07\0"), Err(FrameError::Body(1)));
}

/// It becomes an environment variable, and part of a path where terminals are looked up.
#[test]
fn a_terminals_kind_is_a_plain_name() {
    let long = "x".repeat(65);
    for name in [
        "xterm-256color",
        "xterm+256color",
        "8bit",
        "a.b_c",
        &long[..64],
    ] {
        assert_eq!(Term::parse(name).unwrap().as_str(), name);
    }
    for name in [
        "", "-x", ".", "..", "a/b", "../x", "a b", "a\n", "a=b", "é", "\0", &long,
    ] {
        assert!(Term::parse(name).is_err(), "{name:?}");
        // An open that names it so is malformed: a shell, its input, a terminal.
        let length = u8::try_from(name.len()).unwrap();
        let body = [&[1, 1, 1, length], name.as_bytes(), &[80, 24, 0, 0]].concat();
        assert_eq!(FromClient::decode(1, &body), Err(FrameError::Body(1)));
    }
}

#[test]
fn another_program_is_told_by_its_preamble() {
    for (bytes, version) in [
        (*b"malai/\0\x01", Some(1)),
        (*b"malai/\xff\xff", Some(u16::MAX)),
        (*b"Malai/\0\x01", None),
        (*b"SSH-2.0-", None),
        ([0; 8], None),
    ] {
        assert_eq!(control::parse_preamble(bytes), version, "{bytes:?}");
    }
}
