//! Services of one cluster in this process, on loopback: what lies between a decision and a daemon.

mod accept;
mod commands;
mod distribution;
mod duplicates;
mod limits;
mod refusals;
mod streams;
