//! Any bytes from a SOCKS client, in any pieces: never a panic, and always the same outcome as in one piece.
#![no_main]

use libfuzzer_sys::fuzz_target;
use malai_wire::socks::{Negotiation, Next};

/// The outcome, with all bytes that were not read by the negotiation.
fn outcome(pieces: &[&[u8]]) -> Next {
    let mut negotiation = Negotiation::default();
    for (at, piece) in pieces.iter().enumerate() {
        let mut next = negotiation.read(piece);
        while let Next::Answer(_) = next {
            next = negotiation.read(&[]);
        }
        match next {
            Next::More | Next::Answer(_) => {}
            Next::Connect { version, to, mut rest } => {
                rest.extend(pieces[at + 1..].concat());
                return Next::Connect { version, to, rest };
            }
            close => return close,
        }
    }
    Next::More
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(size).max(1)).collect();
    assert_eq!(outcome(&[bytes]), outcome(&pieces));
});
