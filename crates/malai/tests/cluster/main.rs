//! The real binary with real daemons, in homes of their own on loopback, as people use it.

mod accept;
mod audit;
mod crash;
mod descriptors;
mod distribution;
mod exactly_once;
mod examined;
mod floods;
mod harness;
mod house;
mod keeper;
mod limits;
mod manage;
mod many;
mod peer;
mod quick_start;
mod refusals;
mod restored;
mod sessions;
mod several;
mod signals;
mod streams;
mod strict_start;
mod supervised;
mod username;
