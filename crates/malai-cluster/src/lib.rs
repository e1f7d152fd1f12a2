//! malai's decisions: identities, configuration, policy, snapshots.
//!
//! Everything here is a pure function of its arguments: no IO, no clock, no randomness.

pub mod accept;
pub mod address;
pub mod allow;
pub mod cluster;
pub mod command;
pub mod diagnostic;
pub mod distribution;
pub mod environment;
pub mod folder;
pub mod group;
pub mod identity;
pub mod invitation;
pub mod machine;
pub mod name;
pub mod network;
pub mod policy;
pub mod sanitize;
pub mod service;
pub mod shell_words;
pub mod snapshot;

#[cfg(test)]
mod testing;

pub use accept::{Accept, AcceptEntry, AcceptEntryError, Admitted};
pub use address::{
    AddressError, ClusterRef, MachineRef, ResolveError, Resolved, ResolvedMachine, Target, Targets,
    compress_names, unknown_cluster,
};
pub use allow::AllowList;
pub use cluster::{
    Change, Checked, Cluster, ContentError, EditError, FORMAT, ListChange, Location,
    MAX_COMMAND_LINE, MAX_COMMANDS, MAX_CONTENT, MAX_ENTRIES, MAX_ENV_PATTERNS, MAX_FOLDERS,
    MAX_FOREIGN_IDS, MAX_GROUP_DEPTH, MAX_GROUPS, MAX_MACHINES, MAX_RELAYS, MAX_SERVICES,
    MAX_USERS, MachineChange, UserChange, add_machine, change_machine, changes, check,
    follow_alias, forget_alias, initial_document, locate, locate_in_content, locate_span,
    machine_section, read_content, remove_machine, rename_machine, without_consequences,
};
pub use command::Command;
pub use diagnostic::{Diagnostic, SHOWN_LINE, Severity, nearest};
pub use distribution::members_needing_update;
pub use environment::{
    DEFAULT_ACCEPT_ENV, EnvPattern, EnvPatternError, accepts_env, is_never_accepted,
};
pub use folder::Folder;
pub use group::{Entry, Group};
pub use identity::{ClusterId, IdError, MachineId, SecretSeed, SeedError, looks_like_id52};
pub use invitation::{
    Asked, Claim, Hint, Invitation, InvitationError, InvitationId, NamePattern, NoName,
    PatternError, SECRET_BYTES, choose_name,
};
pub use machine::Machine;
pub use name::{
    ClusterAlias, CommandName, FolderName, GroupName, MachineName, NameError, ServiceName,
    UserName, VERBS, sanitize_host,
};
pub use network::{ADDRESS_DISCOVERY_PORT, Network, Pin, RelayAddress, RelayAddressError};
pub use policy::{
    Access, Action, Decision, Grant, Refusal, Request, Rule, Run, ServedFolder, access, decide,
    may_use_folder, may_use_service,
};
pub use sanitize::{escape, escape_bytes, escape_line, is_unsafe, without_error_numbers};
pub use service::{Service, Upstream, UpstreamError};
pub use shell_words::{
    NeedsShell, quote, quote_bytes, split_command, split_line, split_list, split_sole,
};
pub use snapshot::{Header, Snapshot, SnapshotError, Standing, next_revision, signed_bytes};
