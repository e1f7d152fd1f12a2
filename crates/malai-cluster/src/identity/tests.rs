//! Identities: the published vectors, and everything that only looks like one.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// Seed → id52, the test vectors that PROTOCOL.md names.
const VECTORS: [(&str, &str); 3] = [
    (
        "100d7e23f222267ba0be43855a262461b8a7718572edf58c56db912156d2bc25",
        "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60",
    ),
    (
        "e357e8a31fa82958cf0a7697846cb9ed494807d5d8bf95bac9ed21207d8ce6a3",
        "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80",
    ),
    (
        "a0ed7d4cdd3a2941a289f6bde83717898cccde35b0a8c2944aba66f87a2dcfa9",
        "mlk9ubnvu8r1sk06j4tjb98njra0od5d2dglpm8gubbvg4glthng",
    ),
];

#[test]
fn vectors_round_trip() {
    for (seed, id52) in VECTORS {
        let bare = SecretSeed::parse_file(seed).unwrap();
        assert_eq!(bare.id().to_string(), id52);
        assert_eq!(bare.to_file(), format!("{seed}\n"));
        let file = SecretSeed::parse_file(&bare.to_file()).unwrap();
        assert_eq!(file.to_bytes(), bare.to_bytes());
        let id = MachineId::parse(id52).unwrap();
        assert_eq!(id, bare.id());
        assert_eq!(MachineId::from_bytes(id.as_bytes()), Ok(id));
        assert_eq!(id.short(), format!("{}…", &id52[..8]));
        assert!(looks_like_id52(id52) && looks_like_id52(&id52.to_uppercase()));
    }
}

#[test]
fn a_secret_does_not_show_itself() {
    let (seed, id52) = VECTORS[0];
    let shown = format!("{:?}", SecretSeed::parse_file(seed).unwrap());
    assert_eq!(shown, format!("SecretSeed(of {id52})"));
}

#[test]
fn what_is_no_id52() {
    let valid = VECTORS[0].1;
    refused(
        "",
        expect!["an id52 has 52 characters, this has 0: copy all of it from where it was printed"],
    );
    refused(
        &valid[..51],
        expect!["an id52 has 52 characters, this has 51: copy all of it from where it was printed"],
    );
    refused(
        &format!("{valid}\n"),
        expect!["an id52 has 52 characters, this has 53: copy all of it from where it was printed"],
    );
    refused(
        &valid.to_uppercase(),
        expect!["an id52 is lowercase: write it in small letters"],
    );
    refused(
        &valid.replace('i', "w"),
        expect![[
            r#"an id52 has only 0-9 and a-v, character 1 is "w": copy it again from where it was printed"#
        ]],
    );
    refused(
        &valid.replace('i', "\u{1b}"),
        expect![[
            r#"an id52 has only 0-9 and a-v, character 1 is "\x1b": copy it again from where it was printed"#
        ]],
    );
    // A Cyrillic letter that looks like a Latin one.
    refused(
        &valid.replace('a', "а"),
        expect![[
            r#"an id52 has only 0-9 and a-v, character 24 is "а": copy it again from where it was printed"#
        ]],
    );
    let spare = format!("{}1", &valid[..51]);
    refused(
        &spare,
        expect![
            "the last character of this id52 is wrong (it sets bits that no key has): copy it again from where it was printed"
        ],
    );
    refused(
        &valid.replace("i66", "i67"),
        expect![
            "this is not an ed25519 public key: a character was mistyped, copy it again from where it was printed"
        ],
    );
    // y = 0 is of order 4, y = 1 the identity.
    refused(
        &"0".repeat(52),
        expect![
            "this is a weak key, whose signatures anyone can forge: use one that `malai machine init` made"
        ],
    );
    refused(
        &format!("04{}", "0".repeat(50)),
        expect![
            "this is a weak key, whose signatures anyone can forge: use one that `malai machine init` made"
        ],
    );
}

fn refused(text: &str, expected: Expect) {
    expected.assert_eq(&MachineId::parse(text).unwrap_err().to_string());
}

#[test]
fn keys_that_are_encoded_in_a_second_way() {
    // y = p + k decodes to the same point as y = k; every such encoding is refused, with and
    // without the sign bit, whether or not the point is weak.
    let mut not_weak = 0;
    for low in 0xed..=0xffu8 {
        for sign in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, sign);
            assert!(MachineId::from_bytes(&bytes).is_err(), "{bytes:x?}");
            not_weak += u8::from(VerifyingKey::from_bytes(&bytes).is_ok_and(|key| !key.is_weak()));
        }
    }
    assert!(
        not_weak > 0,
        "the test must reach the canonical check itself"
    );
    // The largest canonical y is p − 1, of order 2.
    let mut largest = [0xff; 32];
    (largest[0], largest[31]) = (0xec, 0x7f);
    assert_eq!(MachineId::from_bytes(&largest), Err(IdError::Weak));
}

#[test]
fn key_files() {
    let seed = VECTORS[0].0;
    for bad in [
        "",
        "\n",
        &seed[..63],
        &format!("{seed}\n\n"),
        &format!("{seed}\r\n"),
    ] {
        assert!(
            matches!(SecretSeed::parse_file(bad), Err(SeedError::Length { .. })),
            "{bad:?}"
        );
    }
    for bad in [
        seed.to_uppercase(),
        seed.replace('0', "g"),
        seed.replace("10", "é"),
    ] {
        assert_eq!(
            SecretSeed::parse_file(&bad).unwrap_err(),
            SeedError::Character,
            "{bad:?}"
        );
    }
}

#[test]
fn serde_reads_text_and_bytes_and_checks_both() {
    let id = MachineId::parse(VECTORS[0].1).unwrap();
    let text = serde_json::to_string(&ClusterId::new(id)).unwrap();
    assert_eq!(text, format!("\"{id}\""));
    assert_eq!(serde_json::from_str::<MachineId>(&text).unwrap(), id);
    assert!(serde_json::from_str::<MachineId>(&text.to_uppercase()).is_err());

    let bytes = postcard::to_allocvec(&id).unwrap();
    assert_eq!(bytes, id.as_bytes());
    assert_eq!(
        postcard::from_bytes::<ClusterId>(&bytes).unwrap(),
        ClusterId::new(id)
    );
    assert!(postcard::from_bytes::<MachineId>(&[0; 32]).is_err());
}

proptest! {
    #[test]
    fn only_the_signer_and_only_the_message(seed: [u8; 32], other: [u8; 32], message: Vec<u8>, bit in 0usize..512) {
        prop_assume!(seed != other);
        let (seed, other) = (SecretSeed::from_bytes(seed), SecretSeed::from_bytes(other));
        let mut signature = seed.sign(&message);
        prop_assert!(seed.id().verify(&message, &signature));
        prop_assert!(!other.id().verify(&message, &signature));
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!seed.id().verify(&message, &signature));
    }

    #[test]
    fn one_text_per_key(seed: [u8; 32], text in "[0-9a-v]{52}") {
        let id = SecretSeed::from_bytes(seed).id();
        prop_assert_eq!(MachineId::parse(&id.to_string()), Ok(id));
        if let Ok(read) = MachineId::parse(&text) {
            prop_assert_eq!(read.to_string(), text);
        }
    }
}
