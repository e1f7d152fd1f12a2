//! The probe: a connection that proves that a key is served at an address, and nothing more.
//!
//! It has its own ALPN ([`crate::version::PROBE_ALPN`]), and the prober uses a new key for it: the handshake
//! proves only the key of the answering side, and no peer is authorized. The answering side sends one
//! unidirectional stream of sixteen bytes, its instance ([`super::hello::InstanceId`]). The prober opens no stream
//! and closes with one of the codes below. A daemon that probes for its own key and receives an instance other
//! than its own has found a duplicate: a second daemon with the same key.

/// The prober has what it needs.
pub const PROBE_DONE: u32 = 0;

/// The prober was looking for its own key: the answering side, which has it, should look for duplicates
/// as well. The code proves nothing by itself.
pub const PROBE_DUPLICATE: u32 = 1;
