//! Any bytes from the other end of a copy: never a panic, and what can be read is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use malai_wire::copy::{self, FromReceiver, FromSender, Opened, Opening};
use malai_wire::frame::{HEAD, Tagged};

fuzz_target!(|bytes: &[u8]| {
    let _ = copy::names_of(bytes);
    let _ = copy::name_of(bytes);
    let Some((head, body)) = bytes.split_first_chunk::<HEAD>() else {
        return;
    };
    let Ok((tag, length)) = copy::head(*head) else {
        return;
    };
    let body = &body[..length.min(body.len())];
    again::<Opening>(tag, body);
    again::<Opened>(tag, body);
    again::<FromSender>(tag, body);
    again::<FromReceiver>(tag, body);
});

fn again<T: Tagged + PartialEq + std::fmt::Debug>(tag: u8, body: &[u8]) {
    if let Ok(message) = copy::decode::<T>(tag, body) {
        let frame = message.to_frame();
        assert_eq!(copy::decode::<T>(tag, &frame[HEAD..]).ok(), Some(message));
    }
}
