//! malai's wire formats: bytes to values and back. Pure: no IO, no clock, no randomness.
//!
//! `PROTOCOL.md` at the root of the repository describes every stream, frame, cap and code; the types here
//! implement it.

pub mod action;
pub mod argument;
pub mod audit;
pub mod control;
pub mod copy;
pub mod file_report;
pub mod frame;
mod json;
pub mod peer;
pub mod ping;
pub mod refusal;
pub mod sessions;
pub mod sftp;
pub mod socks;
pub mod status;
pub mod time;
pub mod version;
pub mod whois;

pub use frame::{FrameError, Tagged};
pub use refusal::{Refusal, RefusalCode};
