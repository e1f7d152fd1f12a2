//! The real binary with real daemons, each in its own home, on loopback, as people use it.

mod accept;
mod administer;
mod audit;
mod browse;
mod cp;
mod descriptors;
mod distribution;
mod exact;
mod examined;
mod folders;
mod forward;
mod forward_kept;
#[path = "../common/harness.rs"]
#[allow(dead_code, reason = "shared with other test programs")]
mod harness;
#[path = "../common/hostile.rs"]
#[allow(dead_code, reason = "shared with other test programs")]
mod hostile;
mod hostile_manager;
mod hostile_server;
mod http;
mod limits;
mod logged;
mod manage;
#[path = "../common/measure.rs"]
#[allow(dead_code, reason = "shared with other test programs")]
mod measure;
mod neighbor;
mod presence;
mod purity;
mod quick_start;
mod reaper;
mod refusals;
mod restored;
mod sessions;
mod settings;
mod several;
mod shells;
mod shells_end;
mod shells_refused;
mod signals;
mod ssh;
mod ssh_forward;
mod start;
mod stopped;
mod streams;
mod supervised;
mod surroundings;
#[path = "../common/terminal.rs"]
#[allow(dead_code, reason = "shared with other test programs")]
mod terminal;
mod terminal_left;
mod terminal_options;
mod username;
