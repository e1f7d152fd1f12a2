//! The command line as typed. Arguments for a target are passed on unchanged: neither joined nor interpreted.

pub mod cluster;
pub mod complete;
pub mod cp;
pub mod forward;
pub mod help;
pub mod instead;
pub mod join;
mod number;
pub mod relay;
pub mod services;
pub mod ssh;
pub mod target_options;
pub mod verbs;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use malai_cluster::VERBS;

use crate::output::exit::Exit;

pub use cluster::{ClusterCommand, EndArgs, InviteArgs, NewMachineArgs, SetArgs, Unset};
pub use cp::CpArgs;
pub use forward::ForwardArgs;
pub use join::JoinArgs;
pub use relay::RelayArgs;
pub use services::{BrowseArgs, WhoisArgs};
pub use target_options::{TargetOptions, TtyMode};
pub use verbs::{
    AuditArgs, CompletionsArgs, DaemonArgs, DemoArgs, DoctorArgs, ExecArgs, ExecCommand, IdArgs,
    ListArgs, LogsArgs, MachineCommand, ManArgs, PingArgs, ReaperArgs, RescanArgs, RestartArgs,
    SessionsArgs, SessionsCommand, SftpServerArgs, Shell, ShellArgs, SshArgs, StatusArgs, WhyArgs,
};

/// Run commands on your own machines, from your own machines.
#[derive(Debug, Parser)]
#[command(
    name = "malai",
    version = help::VERSION.as_str(),
    before_help = help::EXAMPLES,
    after_help = help::ENDING,
    override_usage = "malai <COMMAND>\n       malai [OPTIONS] <TARGET> [COMMAND ON IT]...",
    arg_required_else_help = true
)]
struct Args {
    #[command(flatten)]
    on: TargetOptions,
    #[command(subcommand)]
    command: Command,
}

/// The verb. Its arguments are in a file of their own.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create and manage clusters and their machines
    #[command(subcommand, before_help = cluster::EXAMPLES)]
    Cluster(ClusterCommand),
    /// Join a cluster that another machine manages
    #[command(subcommand, before_help = verbs::MACHINE_EXAMPLES)]
    Machine(MachineCommand),
    /// Join a cluster with an invitation that its manager has made
    Join(JoinArgs),
    /// Check the configuration and serve all clusters, in the background by default
    Daemon(DaemonArgs),
    /// Stop the daemon; running sessions get time to finish
    #[command(before_help = "Example:\n  malai stop")]
    Stop,
    /// Restart the daemon, unless a new one could not start
    #[command(before_help = "Example:\n  malai restart")]
    Restart(RestartArgs),
    /// Show whether the daemon runs, and this computer's clusters
    Status(StatusArgs),
    /// List the machines of this computer's clusters: which ones answer, and what you may do on them
    List(ListArgs),
    /// Ping machines: network path and round-trip time
    Ping(PingArgs),
    /// Show this computer's own id52
    Id(IdArgs),
    /// List or end running sessions
    Sessions(SessionsArgs),
    /// Apply edited configuration files, or only check them
    Rescan(RescanArgs),
    /// Show the audit record: requests, decisions, and how sessions ended
    Audit(AuditArgs),
    /// Run a command on a target: the same as `malai <target> <command>...`
    Exec(ExecArgs),
    /// Accept ssh's command line, for tools that call ssh
    #[command(disable_help_flag = true, before_help = verbs::SSH_EXAMPLES)]
    Ssh(SshArgs),
    /// Copy files and folders to machines, from machines, or from one to another
    #[command(before_help = cp::EXAMPLES)]
    Cp(CpArgs),
    /// Pass connections on to a service of another machine
    #[command(before_help = forward::EXAMPLES)]
    Forward(ForwardArgs),
    /// Serve a relay for the members of this computer's clusters, in the foreground
    Relay(RelayArgs),
    /// Open an HTTP service of another machine in the browser
    Browse(BrowseArgs),
    /// Show who is behind a connection to a service of this machine
    Whois(WhoisArgs),
    /// Open a shell on a target: the same as `malai <target>`
    Shell(ShellArgs),
    /// Explain whether a member may do something, and which rule says so
    Why(WhyArgs),
    /// Show the log of the background daemon
    Logs(LogsArgs),
    /// Find problems with this home and its daemon, and say how to fix them
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Show a manual page
    Man(ManArgs),
    /// Show the versions of malai, its protocol and its formats: the same as `malai --version`
    #[command(before_help = "Example:\n  malai version")]
    Version,
    /// Demonstrate malai with a throwaway cluster of real daemons on this computer's loopback
    Demo(DemoArgs),
    /// Internal: serves the sftp subsystem on its standard streams
    #[command(hide = true, name = "sftp-server")]
    SftpServer(SftpServerArgs),
    /// Internal: serves `malai cp` on its standard streams
    #[command(hide = true, name = "cp-server")]
    CpServer(SftpServerArgs),
    /// Internal: ends the commands of a malai process that was killed
    #[command(hide = true)]
    Reaper(ReaperArgs),
    /// A target and what to run there.
    #[command(external_subcommand)]
    Target(Vec<OsString>),
}

impl Command {
    /// The exit code when this command fails with an error.
    pub fn failure(&self) -> Exit {
        match self {
            Command::Target(_)
            | Command::Exec(_)
            | Command::Shell(_)
            | Command::Ssh(_)
            | Command::Cp(_)
            | Command::Forward(_) => Exit::MALAI,
            // An unanswered question is neither "allowed" nor "refused".
            Command::Why(_) => Exit::USAGE,
            _ => Exit::FAILED,
        }
    }
}

/// The clap declaration, with help in malai's order: examples come first.
pub fn declaration() -> clap::Command {
    // Options of commands on targets are in the long help only; `exec -h` shows them.
    help::in_order(Args::command().mut_args(|arg| arg.hide_short_help(true)))
}

/// A parsed command line.
#[derive(Debug)]
pub struct Invocation {
    /// The options before a target.
    pub on: TargetOptions,
    /// The verb and its arguments.
    pub command: Command,
}

/// Parses the arguments of this process.
pub fn parse() -> Result<Invocation, clap::Error> {
    let mut words = std::env::args_os();
    let own_name = words.next();
    if own_name.as_deref().map(Path::new).and_then(Path::file_name) == Some(OsStr::new("ssh")) {
        let arguments = words.collect();
        return Ok(Invocation {
            on: TargetOptions::default(),
            command: Command::Ssh(SshArgs {
                arguments,
                is_shim: true,
            }),
        });
    }
    match words.next() {
        // All its options are ssh's, none malai's.
        Some(first) if first == "ssh" => Ok(Invocation {
            on: TargetOptions::default(),
            command: Command::Ssh(SshArgs {
                arguments: words.collect(),
                is_shim: false,
            }),
        }),
        Some(first) if is_target(&first) => Ok(Invocation {
            on: TargetOptions::default(),
            command: Command::Target(std::iter::once(first).chain(words).collect()),
        }),
        // clap's `help` has no help of its own.
        Some(first) if first == "help" => {
            let words = words.filter(|word| word != "--help" && word != "-h");
            read(own_name.into_iter().chain([first]).chain(words))
        }
        first => read(own_name.into_iter().chain(first).chain(words)),
    }
}

/// Whether the first word is certainly a target. If so, the declaration is not needed; building it would take a tenth
/// of the time of a command.
fn is_target(word: &OsStr) -> bool {
    let bytes = word.as_encoded_bytes();
    !bytes.is_empty()
        && !bytes.starts_with(b"-")
        && VERBS.iter().all(|verb| verb.as_bytes() != bytes)
}

fn read<W: Into<OsString> + Clone>(
    words: impl IntoIterator<Item = W>,
) -> Result<Invocation, clap::Error> {
    let mut declaration = declaration();
    let matches = declaration.try_get_matches_from_mut(words)?;
    let Args { on, command } =
        Args::from_arg_matches(&matches).map_err(|error| error.format(&mut declaration))?;
    if on != TargetOptions::default() && !matches!(command, Command::Target(_)) {
        return Err(declaration.error(
            ErrorKind::ArgumentConflict,
            "put the options of a command on targets before the target (malai -t <machine>.<cluster> …), or after exec and shell",
        ));
    }
    Ok(Invocation { on, command })
}

#[cfg(test)]
mod tests;
