//! The real binary with real daemons, in homes of their own on loopback, as people use it.

mod distribution;
mod harness;
mod peer;
mod quick_start;
mod refusals;
mod restored;
mod streams;
