//! What was typed. Arguments meant for a target are taken as they are: neither joined nor looked at.

pub mod cluster;
pub mod complete;
pub mod help;
pub mod instead;
pub mod ssh;
pub mod target_options;
pub mod verbs;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use malai_cluster::VERBS;

use crate::output::exit::Exit;

pub use cluster::{ClusterCommand, EndArgs, NewMachineArgs, SetArgs, Unset};
pub use target_options::{TargetOptions, TtyMode};
pub use verbs::{
    AuditArgs, CompletionsArgs, DaemonArgs, DemoArgs, DoctorArgs, ExecArgs, ExecCommand, IdArgs,
    ListArgs, LogsArgs, MachineCommand, ManArgs, PingArgs, ReaperArgs, RescanArgs, SessionsArgs,
    SessionsCommand, SftpServerArgs, Shell, ShellArgs, SshArgs, StatusArgs, WhyArgs,
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

/// The first word. What follows each is in a file of its own.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a cluster that is managed here; show and change clusters and their machines
    #[command(subcommand, before_help = cluster::EXAMPLES)]
    Cluster(ClusterCommand),
    /// Join a cluster that is managed elsewhere
    #[command(subcommand, before_help = verbs::MACHINE_EXAMPLES)]
    Machine(MachineCommand),
    /// Check everything, then serve all clusters, in the background unless told otherwise
    Daemon(DaemonArgs),
    /// End the daemon; running sessions get time to finish
    #[command(before_help = "Example:\n  malai stop")]
    Stop,
    /// End the daemon and start it again, if its configuration lets it start
    #[command(before_help = "Example:\n  malai restart")]
    Restart,
    /// Show whether the daemon runs, and this computer's clusters
    Status(StatusArgs),
    /// List the machines of this computer's clusters: which answer, and what it may do on them
    List(ListArgs),
    /// Ask machines whether they are there, by which way, and how long that takes
    Ping(PingArgs),
    /// Show this computer's own id52
    Id(IdArgs),
    /// List what runs here now, for whom and by which rule; end one of these
    Sessions(SessionsArgs),
    /// Apply edited configuration files, or only check them
    Rescan(RescanArgs),
    /// Show the audit record: what was asked of this computer, what was decided, and how it ended
    Audit(AuditArgs),
    /// Run a command on a target: the same as `malai <target> <command>...`
    Exec(ExecArgs),
    /// Run a line on a target by ssh's command line, for the tools that call ssh
    #[command(disable_help_flag = true, before_help = verbs::SSH_EXAMPLES)]
    Ssh(SshArgs),
    /// Open a shell on a target: the same as `malai <target>`
    Shell(ShellArgs),
    /// Say whether somebody may do something, by which rule, and where it is written
    Why(WhyArgs),
    /// Show the log of the daemon that runs in the background
    Logs(LogsArgs),
    /// Find what is wrong with this home and its daemon, and say how to fix it
    Doctor(DoctorArgs),
    /// Print what a shell needs to complete commands, targets and names
    Completions(CompletionsArgs),
    /// Show a manual page
    Man(ManArgs),
    /// Show the versions of malai, its protocol and its formats: the same as `malai --version`
    #[command(before_help = "Example:\n  malai version")]
    Version,
    /// Show malai at work: a throwaway cluster of real daemons, on this computer's loopback only
    Demo(DemoArgs),
    /// Internal: serves the sftp subsystem on its standard streams
    #[command(hide = true, name = "sftp-server")]
    SftpServer(SftpServerArgs),
    /// Internal: ends the commands of a malai process that was killed
    #[command(hide = true)]
    Reaper(ReaperArgs),
    /// A target and what to run there.
    #[command(external_subcommand)]
    Target(Vec<OsString>),
}

impl Command {
    /// What malai exits with when this command fails with an error.
    pub fn failure(&self) -> Exit {
        match self {
            Command::Target(_) | Command::Exec(_) | Command::Shell(_) | Command::Ssh(_) => {
                Exit::MALAI
            }
            // A question that has no answer is neither allowed nor refused.
            Command::Why(_) => Exit::USAGE,
            _ => Exit::FAILED,
        }
    }
}

/// Everything that can be typed, with the help's order of things: examples come first.
pub fn declaration() -> clap::Command {
    // How a command on targets is run is for the long help: `exec -h` says it at once.
    help::in_order(Args::command().mut_args(|arg| arg.hide_short_help(true)))
}

/// What was typed, as a whole.
#[derive(Debug)]
pub struct Invocation {
    /// What stands before a target.
    pub on: TargetOptions,
    /// The first word and what follows it.
    pub command: Command,
}

/// Reads this process's arguments.
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
        // Its options are ssh's, and none of them malai's.
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
        first => read(own_name.into_iter().chain(first).chain(words)),
    }
}

/// Whether the first word is a target for certain. Then nothing of the declaration is needed, and building
/// it would be a tenth of the time that a command takes.
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
            "options of a command on targets stand before the target (malai -t <machine>.<cluster> …), or behind exec and shell",
        ));
    }
    Ok(Invocation { on, command })
}

#[cfg(test)]
mod tests;
