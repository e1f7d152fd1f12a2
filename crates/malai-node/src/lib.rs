//! malai's IO: the home and its files, connections to peers, commands, the daemon.
//!
//! The modules are on floors: each imports only from those above it in this list, which
//! `crates/malai/tests/architecture.rs` checks.
//!
//! | floor | modules | what they know |
//! |--:|---|---|
//! | 1 | `os` | the operating system, and nothing of malai |
//! | 2 | `home` | the files of `$MALAI_HOME`, and who owns them |
//! | 3 | `settings`, [`control`] | `malai.toml`; the client of the daemon's socket |
//! | 4 | `audit`, `inspect`, `net` | the record; answers that need no daemon; endpoints and addresses |
//! | 5 | `node` | what a process has once: sessions, limits, the reaper |
//! | 6 | `cluster` | one cluster's state, and who may do what in it |
//! | 7 | `peer` | connections to members |
//! | 8 | `exec`, `files`, `forward`, `sync` | a child process and its bytes; files; connections to services; revisions that arrive and leave |
//! | 9 | `server`, `client` | serves members; sends requests to them |
//! | 10 | `service` | one cluster at work |
//! | 11 | `daemon`, `doctor` | all clusters at work; finds problems |

#![deny(unreachable_pub)]

mod os;

mod home;

pub mod control;
mod settings;

mod audit;
mod inspect;
mod net;

mod node;

mod cluster;

mod peer;

mod exec;
mod files;
pub mod forward;
mod sync;

mod client;
mod server;

mod service;

mod daemon;
mod doctor;
mod relay;

pub use audit::{Audit, AuditReader, Entry};
pub use client::Caller;
pub use daemon::systemd::{self, Supervisor};
pub use daemon::{Daemon, StartPolicy, Started, check_start};
pub use doctor::{Diagnosis, Finding, State, examine};
pub use exec::io::{PauseGate, Sink, Source};
pub use exec::spawn::keep_descriptors;
pub use exec::stdio::ControlEvent;
pub use exec::surroundings;
pub use files::{copy, sftp};
pub use home::init::{
    InitError, NewCluster, NewMachine, init_cluster, init_machine, replace_machine,
};
pub use home::lock::{self, HomeLock, LockState};
pub use home::{
    ClusterDir, Home, Role, aside, draft, edit, invitations, joining, keystore, manager_file,
};
pub use inspect::check::{ClusterReport, Condition, Problem, verify_home, verify_settings};
pub use inspect::check_users::note_users;
pub use inspect::explain::{
    Answer, ConfigurationUsed, Explanation, Located, Reason, ServiceUsed, why,
};
pub use inspect::names::{ClusterNames, MachineNames, Names};
pub use inspect::status::{DaemonState, Facts, LocalCluster, Sign, gather};
pub use inspect::unpublished::unpublished_changes;
pub use net::discovery::own_addresses;
pub use net::endpoint::{self, Ports, derived_ports, endpoint_id};
pub use net::framing;
pub use node::Node;
pub use node::reaper::GRACE;
pub use node::reaper::{self, Program, Reaper};
pub use os::fd::{self, Direction, Fd, raise_limit};
pub use os::fs::{StoreError, display_path, open_own, own_flags};
pub use os::process_group::own_group;
pub use os::rotated_log::RotatedReader;
pub use os::user::keep_capabilities;
pub use relay::{Admitted, Relay, RelayError, RelayOptions};
pub use service::dispatch::{self, CommandResult, EXIT_MALAI_FAILURE, EXIT_READER_GONE};
pub use service::forward::{ForwardBoard, ForwardRoute};
pub use service::standalone::{JoinAlone, JoinError, Standalone, StandaloneError};
#[doc(hidden)]
pub use service::testing;
pub use service::{Service, ping};
pub use settings::forward::reached;
pub use settings::log::FORMAT_VARIABLE;
pub use settings::run_as;
pub use settings::{LogFormat, LogSettings, Reach, Settings};
