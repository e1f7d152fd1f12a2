//! Tests that take long: lost ends, crashes, floods, many machines and commands. Plain `cargo test` skips them;
//! `cargo test -p malai --test stress` runs them, and `scripts/test` does so last.

mod attack;
mod crash;
mod exactly_once;
mod floods;
#[path = "../common/harness.rs"]
#[allow(dead_code, reason = "shared with other test programs")]
mod harness;
#[path = "../common/hostile.rs"]
#[allow(dead_code, reason = "shared with other test programs")]
mod hostile;
mod http;
mod loss;
mod many;
#[path = "../common/measure.rs"]
#[allow(dead_code, reason = "shared with other test programs")]
mod measure;
#[path = "../common/terminal.rs"]
#[allow(dead_code, reason = "shared with other test programs")]
mod terminal;
mod two_hundred;
