//! Golden bytes; and no input makes the codec panic or take more bytes than it has.

use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

#[test]
fn requests_as_openssh_sends_them() {
    for (packet, expected) in [
        ("01 00000003", Request::Init { version: 3 }),
        (
            "03 00000007 00000002 2f61 0000001a 00000004 000081a4",
            Request::Open {
                id: 7,
                path: b"/a".to_vec(),
                flags: OpenFlags(0x1a),
                attributes: Attributes {
                    mode: Some(0o100_644),
                    ..Attributes::default()
                },
            },
        ),
        (
            "05 00000001 00000001 68 0000000000000400 00008000",
            Request::Read {
                id: 1,
                handle: b"h".to_vec(),
                offset: 1024,
                length: 32768,
            },
        ),
        (
            "06 00000002 00000001 68 0000000000000000 00000002 6869",
            Request::Write {
                id: 2,
                handle: b"h".to_vec(),
                offset: 0,
                data: b"hi".to_vec(),
            },
        ),
        (
            "c8 00000003 00000018 706f7369782d72656e616d65406f70656e7373682e636f6d 00000001 61 00000001 e9",
            Request::Rename {
                id: 3,
                from: b"a".to_vec(),
                to: b"\xe9".to_vec(),
                replace: true,
            },
        ),
        ("c8 00000004 00000001 78 ffff", Request::Unknown { id: 4 }),
    ] {
        assert_eq!(Request::decode(&bytes(packet)), Ok(expected), "{packet}");
    }
}

#[test]
fn what_is_not_a_request_keeps_its_id() {
    for (packet, id, unknown_type) in [
        ("", None, true),
        ("01", None, false),
        ("63 00000009", Some(9), true),
        ("05 00000009 00000001", Some(9), false),
        ("05 0000", None, false),
        // A string longer than the packet.
        ("0d 00000009 ffffffff 61", Some(9), false),
    ] {
        let expected = Err(BadRequest { id, unknown_type });
        assert_eq!(Request::decode(&bytes(packet)), expected, "{packet}");
    }
}

#[test]
fn answers_as_openssh_sends_them() {
    for (answer, expected) in [
        (
            Response::Status(StatusCode::NoSuchFile),
            "00000021 65 00000005 00000002 0000000c 4e6f20737563682066696c65 00000000".replace("00000021", "0000001d"),
        ),
        (Response::Handle(b"\0\0\0\x01".to_vec()), "0000000d 66 00000005 00000004 00000001".to_owned()),
        (Response::Data(b"hi".to_vec()), "0000000b 67 00000005 00000002 6869".to_owned()),
        (
            Response::Attributes(Attributes {
                size: Some(3),
                owner: Some((1, 2)),
                mode: Some(0o644),
                times: Some((5, 6)),
            }),
            "00000025 69 00000005 0000000f 0000000000000003 00000001 00000002 000001a4 00000005 00000006".to_owned(),
        ),
        (Response::numbers(&[1]), "0000000d c9 00000005 0000000000000001".to_owned()),
    ] {
        assert_eq!(hex(&answer.encode(5)), hex(&bytes(&expected)), "{answer:?}");
    }
    let version = Response::Version.encode(0);
    assert!(version.windows(8).any(|window| window == b"statvfs@"));
}

proptest! {
    #[test]
    fn no_bytes_panic(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::decode(&packet);
    }

    #[test]
    fn attributes_come_back(size in any::<Option<u64>>(), owner in any::<Option<(u32, u32)>>(), mode in any::<Option<u32>>(), times in any::<Option<(u32, u32)>>()) {
        let attributes = Attributes { size, owner, mode, times };
        let mut out = Vec::new();
        attributes.write(&mut out);
        let mut cursor = Cursor(&out);
        prop_assert_eq!(Attributes::read(&mut cursor), Some(attributes));
        prop_assert!(cursor.0.is_empty());
    }
}
