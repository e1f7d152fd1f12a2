//! The wire from outside: golden bytes, round trips, damaged bytes, caps.

mod caps;
mod fixture;
mod golden;
mod properties;
