//! The real binary with real daemons, in homes of their own on loopback, as people use it.

mod harness;
mod quick_start;
mod streams;
