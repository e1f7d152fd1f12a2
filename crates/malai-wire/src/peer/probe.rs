//! The probe: a connection that proves that a key lives at an address, and nothing more.
//!
//! It has an ALPN of its own ([`crate::version::PROBE_ALPN`]), and the prober uses a key that it makes
//! up for it: the handshake proves the answering side's key alone, and nobody is judged. The answering
//! side sends one unidirectional stream of sixteen bytes, its instance ([`super::hello::InstanceId`]);
//! the prober opens none and closes with one of the codes below. Whoever probes for its own key and is
//! told another instance than its own has found a duplicate: a second daemon with the same key.

/// The prober knows what it wanted to know.
pub const PROBE_DONE: u32 = 0;

/// The prober was looking for its own key: the answering side, which has it, should look for duplicates
/// as well. It proves nothing by itself.
pub const PROBE_DUPLICATE: u32 = 1;
