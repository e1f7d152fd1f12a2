//! Any bytes as frames of a peer: never a panic, nothing above its limit, and every decoded message round-trips.
#![no_main]

use libfuzzer_sys::fuzz_target;
use malai_wire::frame::{self, HEAD, Tagged};
use malai_wire::peer::connect;
use malai_wire::peer::exec::{FromClient, FromServer};
use malai_wire::peer::hello::Greeting;
use malai_wire::peer::sync::{Compare, Fetch, Fetched};
use malai_wire::peer::{RequestKind, StreamKind};

fn read<T: Tagged + PartialEq + std::fmt::Debug>(mut bytes: &[u8], cap: usize) {
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let Ok((tag, length)) = frame::parse_head(*head, cap) else { return };
        assert!(length < cap);
        let Some(body) = rest.get(..length) else { return };
        if let Ok(Some(message)) = T::decode(tag, body) {
            let (tag, body) = message.encode();
            assert_eq!(T::decode(tag, &body), Ok(Some(message)));
        }
        bytes = &rest[length..];
    }
}

fuzz_target!(|bytes: &[u8]| {
    read::<Greeting>(bytes, frame::SMALL);
    read::<FromClient>(bytes, frame::OPEN);
    read::<FromServer>(bytes, frame::SMALL);
    read::<connect::FromClient>(bytes, frame::SMALL);
    read::<connect::FromServer>(bytes, frame::SMALL);
    read::<Compare>(bytes, frame::SMALL);
    read::<Fetch>(bytes, frame::SMALL);
    read::<Fetched>(bytes, frame::CONTENT);
    if let Some(first) = bytes.first() {
        let _ = (RequestKind::from_byte(*first), StreamKind::from_byte(*first));
    }
});
