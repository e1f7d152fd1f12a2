//! Any bytes on the control socket: never a panic, and every decoded message round-trips.
#![no_main]

use libfuzzer_sys::fuzz_target;
use malai_wire::control::{self, ClientMessage, PREAMBLE, Reply, Request};
use malai_wire::frame::{self, HEAD, Tagged};

fn read<T: Tagged + PartialEq + std::fmt::Debug>(mut bytes: &[u8]) {
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let Ok((tag, length)) = frame::parse_head(*head, control::CAP) else { return };
        let Some(body) = rest.get(..length) else { return };
        if let Ok(Some(message)) = T::decode(tag, body) {
            let (tag, body) = message.encode();
            assert_eq!(T::decode(tag, &body), Ok(Some(message)));
        }
        bytes = &rest[length..];
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((preamble, _)) = bytes.split_first_chunk::<PREAMBLE>() {
        if let Some(version) = control::parse_preamble(*preamble) {
            assert_eq!(control::preamble(version), *preamble);
        }
    }
    read::<Request>(bytes);
    read::<ClientMessage>(bytes);
    read::<Reply>(bytes);
});
