//! Snapshots: the signed bytes, rollback and fork, and everything that is not what was signed.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::testing::*;

fn sections() -> String {
    format!("[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\n")
}

fn sealed(revision: u64) -> Snapshot {
    Snapshot::seal(&seed(1), revision, &cluster(&sections()))
}

fn company() -> ClusterId {
    ClusterId::new(id(MANAGER))
}

#[test]
fn the_signed_bytes() {
    let bytes = signed_bytes(&company(), 0x0102_0304_0506_0708, &[0xab; 32]);
    assert_eq!(bytes.len(), 17 + 32 + 8 + 32);
    assert_eq!(&bytes[..17], b"malai-snapshot-1\0");
    assert_eq!(&bytes[17..49], id(MANAGER).as_bytes());
    expect!["6d616c61692d736e617073686f742d31008a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c0102030405060708abababababababababababababababababababababababababababababababab"].assert_eq(&HEXLOWER.encode(&bytes));
}

#[test]
fn the_file() {
    expect![[r##"
        # malai snapshot: revision 7, signature 6f909cfd0de9c44972473c09b1a64fdc2d2812f339a00dbf67255c8c39508838c683e6c65d0d99c128df88d63cf1519fbc82b1ad464f31221250fb57e52ef504; written by malai, edits are not obeyed
        format = 1

        [cluster_manager]
        id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"

        [machine.web01]
        allow_from = ["*"]
        id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
    "##]].assert_eq(&sealed(7).to_file());
}

#[test]
fn a_snapshot_comes_back() {
    let snapshot = sealed(7);
    let file = snapshot.to_file();
    let read = Snapshot::from_file(&company(), &file).unwrap();
    assert_eq!(read.header(), snapshot.header());
    assert_eq!(read.content(), snapshot.content());
    assert_eq!(read.revision(), 7);
    assert_eq!(read.to_file(), file);
    assert_eq!(**read.cluster(), **snapshot.cluster());

    let content = snapshot.content().to_owned();
    let opened = Snapshot::open(&company(), snapshot.header().clone(), content).unwrap();
    assert_eq!(opened.to_file(), file);
}

#[test]
fn headers_travel() {
    let header = sealed(7).header().clone();
    let bytes = postcard::to_allocvec(&header).unwrap();
    assert_eq!(bytes.len(), 32 + 1 + 32 + 64);
    assert_eq!(postcard::from_bytes::<Header>(&bytes).unwrap(), header);
    let text = serde_json::to_string(&header).unwrap();
    assert_eq!(serde_json::from_str::<Header>(&text).unwrap(), header);
    assert!(
        serde_json::from_str::<Header>(&text.replace("signature\":\"", "signature\":\"00"))
            .is_err()
    );
}

#[test]
fn files_that_are_refused() {
    let file = sealed(7).to_file();
    let (first, content) = file.split_once('\n').unwrap();
    refused(
        "",
        expect!["its first line is damaged or was changed, so the signature cannot be checked"],
    );
    refused(
        &file[..100],
        expect!["its first line is damaged or was changed, so the signature cannot be checked"],
    );
    refused(
        content,
        expect!["its first line is damaged or was changed, so the signature cannot be checked"],
    );
    refused(
        first,
        expect!["its first line is damaged or was changed, so the signature cannot be checked"],
    );
    refused(
        &file.replace("revision 7", "revision 07"),
        expect!["its first line is damaged or was changed, so the signature cannot be checked"],
    );
    refused(
        &file.replace("revision 7", "revision 8"),
        expect!["it was edited or damaged: its content does not match the manager's signature"],
    );
    refused(
        &file.replace("web01", "web02"),
        expect!["it was edited or damaged: its content does not match the manager's signature"],
    );
    refused(
        &file[..file.len() - 1],
        expect!["it was edited or damaged: its content does not match the manager's signature"],
    );
    refused(
        &format!("{file}\n"),
        expect!["it was edited or damaged: its content does not match the manager's signature"],
    );

    let other = format!("[cluster_manager]\nid52 = \"{LAPTOP}\"\n");
    let other = crate::check("x", &other).cluster.unwrap();
    refused(
        &Snapshot::seal(&seed(3), 9, &other).to_file(),
        expect![
            "it belongs to cluster tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g, not ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"
        ],
    );
    // The right key over another cluster's content.
    refused(
        &signed(7, &other.render()).to_file(),
        expect![
            "it belongs to cluster tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g, not ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"
        ],
    );
    refused(
        &signed(7, "format = 3\nnew = 1\n").to_file(),
        expect!["it is in format 3, this malai knows up to 2: install a newer malai here"],
    );
    refused(
        &signed(7, "format = 1\nnew = 1\n").to_file(),
        expect!["its content is not valid: an empty line is missing"],
    );
    refused(
        &signed(7, "nonsense").to_file(),
        expect!["its content is not valid: `format` is missing"],
    );
}

fn refused(file: &str, expected: Expect) {
    expected.assert_eq(
        &Snapshot::from_file(&company(), file)
            .unwrap_err()
            .to_string(),
    );
}

/// Any content, signed by the manager as if it were a snapshot.
fn signed(revision: u64, content: &str) -> Snapshot {
    let hash = *blake3::hash(content.as_bytes()).as_bytes();
    let signature = seed(1).sign(&signed_bytes(&company(), revision, &hash));
    let header = Header {
        cluster: company(),
        revision,
        hash,
        signature,
    };
    Snapshot {
        header,
        content: content.into(),
        cluster: Arc::new(cluster("")),
    }
}

#[test]
fn what_comes_over_the_network() {
    let (snapshot, other) = (sealed(7), Snapshot::seal(&seed(1), 8, &cluster("")));
    let open = |header: &Header, content: &str| {
        Snapshot::open(&company(), header.clone(), content.to_owned()).map(|s| s.revision())
    };
    assert_eq!(open(snapshot.header(), snapshot.content()), Ok(7));
    assert_eq!(
        open(snapshot.header(), other.content()),
        Err(SnapshotError::Hash)
    );
    assert_eq!(open(snapshot.header(), ""), Err(SnapshotError::Hash));
    let huge = "#".repeat(MAX_CONTENT + 1);
    assert_eq!(open(snapshot.header(), &huge), Err(SnapshotError::TooLarge));

    // A revision, hash or cluster under another's signature; somebody else's key.
    let forged = Header {
        revision: 9,
        ..snapshot.header().clone()
    };
    assert_eq!(
        open(&forged, snapshot.content()),
        Err(SnapshotError::Signature)
    );
    let forged = Header {
        hash: other.header().hash,
        ..snapshot.header().clone()
    };
    assert_eq!(
        open(&forged, other.content()),
        Err(SnapshotError::Signature)
    );
    let stranger = Snapshot::seal(&seed(4), 9, &cluster(""));
    assert_eq!(
        open(stranger.header(), stranger.content()),
        Err(SnapshotError::Signature)
    );
    let staging = ClusterId::new(id(LAPTOP));
    let error = snapshot.header().verify(&staging).unwrap_err();
    assert_eq!(
        error,
        SnapshotError::OtherCluster {
            expected: staging,
            found: company()
        }
    );
}

#[test]
fn rollback_and_fork() {
    let other = Snapshot::seal(&seed(1), 7, &cluster(""));
    let staging = Header {
        cluster: ClusterId::new(id(LAPTOP)),
        ..sealed(9).header().clone()
    };
    for (received, current, standing) in [
        (sealed(7).header(), None, Standing::Newer),
        (
            sealed(8).header(),
            Some(sealed(7).header()),
            Standing::Newer,
        ),
        (sealed(7).header(), Some(sealed(7).header()), Standing::Same),
        (
            sealed(6).header(),
            Some(sealed(7).header()),
            Standing::Older,
        ),
        (other.header(), Some(sealed(7).header()), Standing::Fork),
        (other.header(), Some(sealed(8).header()), Standing::Older),
        (&staging, Some(sealed(7).header()), Standing::Fork),
    ] {
        assert_eq!(
            received.standing(current),
            standing,
            "{received:?} {current:?}"
        );
    }
}

#[test]
fn revisions() {
    for (previous, now, next) in [
        (None, 1_700_000_000, 1_700_000_000),
        (None, 0, 1),
        (Some(1_700_000_000), 1_700_000_000, 1_700_000_001),
        (Some(5), 1_700_000_000, 1_700_000_000),
        (Some(1_800_000_000), 1_700_000_000, 1_800_000_001),
        (Some(u64::MAX), 1, u64::MAX),
    ] {
        assert_eq!(next_revision(previous, now), next);
    }
}

proptest! {
    #[test]
    fn a_perturbed_file_is_never_accepted(at: prop::sample::Index, bit in 0u8..8, cut: bool) {
        let file = sealed(7).to_file();
        let mut bytes = file.clone().into_bytes();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(Snapshot::from_file(&company(), &text).is_err(), "{}", text);
        }
    }

    #[test]
    fn a_perturbed_header_is_never_accepted(at in 0usize..129, bit in 0u8..8) {
        let snapshot = sealed(7);
        let mut bytes = postcard::to_allocvec(snapshot.header()).unwrap();
        bytes[at] ^= 1 << bit;
        if let Ok(header) = postcard::from_bytes::<Header>(&bytes) {
            prop_assert!(Snapshot::open(&company(), header, snapshot.content().to_owned()).is_err());
        }
    }

    #[test]
    fn any_text_is_an_error_and_no_panic(text in ".*", content in ".*") {
        prop_assert!(Snapshot::from_file(&company(), &text).is_err());
        let first = first_line(7, &[0; 64]);
        let file = format!("{first}\n{content}");
        prop_assert!(Snapshot::from_file(&company(), &file).is_err());
    }
}
