//! The arguments of each verb. The doc comments are the help text.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use malai_cluster::RelayAddress;

use crate::cli::target_options::TerminalArgs;
use crate::cli::{TargetOptions, number};
use crate::output::duration;

pub(super) const MACHINE_EXAMPLES: &str = "\
Examples:
  malai machine init <manager-id52> company
  malai machine init --replace <new-manager-id52> company";

/// Subcommands of `malai machine`.
#[derive(Debug, Subcommand)]
pub enum MachineCommand {
    /// Create this computer's identity in a cluster
    #[command(before_help = MACHINE_EXAMPLES)]
    Init {
        /// Switch to another manager under an existing alias, because the old manager's key is lost or stolen. Creates a new
        /// identity; the old folder is kept in $MALAI_HOME/replaced
        #[arg(long)]
        replace: bool,
        /// The cluster's own relay, as `malai relay` printed it, if the manager cannot be reached directly. Until this computer
        /// has its configuration, it then uses nothing public
        #[arg(long, value_name = "ADDRESS")]
        relay: Vec<RelayAddress>,
        /// The cluster manager's id52, as its `malai status` shows it
        manager_id52: String,
        /// The local name of the cluster: lowercase letters, digits and -
        alias: String,
    },
}

/// Options of `malai daemon`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai daemon
  RUST_LOG=malai=debug malai daemon --foreground")]
pub struct DaemonArgs {
    /// Stay in the foreground and log to standard error
    #[arg(long)]
    pub foreground: bool,
    /// Do not start if the files of any cluster have errors; by default its last published revision is served
    #[arg(long)]
    pub strict: bool,
    /// Started by `malai daemon`, which waits at the other end of standard input
    #[arg(long, hide = true, requires = "foreground")]
    pub in_background: bool,
}

/// Options of `malai restart`.
#[derive(Debug, clap::Args)]
pub struct RestartArgs {
    /// Started by `malai restart`, which waits at the other end of standard input
    #[arg(long, hide = true)]
    pub detached: bool,
}

/// Options of `malai status`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai status
  malai status company
  malai status --json")]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Only this cluster, by its alias
    pub cluster: Option<String>,
}

/// Options of `malai id`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai id
  malai id company")]
pub struct IdArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Only the id52 in this cluster (its alias)
    pub cluster: Option<String>,
}

/// Options of `malai list`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai list
  malai list company
  malai list --json")]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Do not contact any machine: show what the daemon knows
    #[arg(long)]
    pub no_ping: bool,
    /// Only this cluster, by its alias
    pub cluster: Option<String>,
}

/// Options of `malai ping`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai ping web01.company
  malai ping '*.company'
  malai ping -c 10 @web.company,db.company")]
pub struct PingArgs {
    /// Number of pings per machine
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = number::within::<u16>(1..=1000))]
    pub count: u16,
    /// Give up on a machine after this time: 500ms, 5s, 1m [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Print one JSON object per machine
    #[arg(long)]
    pub json: bool,
    /// The machines
    pub targets: String,
}

/// Options of `malai sessions`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    before_help = "\
Examples:
  malai sessions
  malai sessions --json
  malai sessions end 17"
)]
pub struct SessionsArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Option<SessionsCommand>,
}

/// Subcommands of `malai sessions`.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// End a session: its command gets SIGHUP, then SIGKILL, and its client is told
    #[command(before_help = "Example:\n  malai sessions end 17")]
    End {
        /// Its number, as `malai sessions` lists it
        #[arg(value_parser = number::any::<u64>)]
        id: u64,
    },
}

/// Options of `malai rescan`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai rescan company
  malai rescan --check")]
pub struct RescanArgs {
    /// Only check; needs no daemon
    #[arg(long)]
    pub check: bool,
    /// Print the findings as JSON
    #[arg(long, requires = "check")]
    pub json: bool,
    /// Publish cluster.toml even if members have a newer revision; this undoes the changes made since
    #[arg(long, requires = "cluster", conflicts_with = "check")]
    pub publish_older: bool,
    /// Only this cluster, by its alias
    pub cluster: Option<String>,
}

/// Options of `malai audit`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai audit --since 24h --refused
  malai audit -f --cluster company")]
pub struct AuditArgs {
    /// Keep running and show new records (after the last 10, unless -n is given)
    #[arg(short, long)]
    pub follow: bool,
    /// Only this cluster: its alias or id52
    #[arg(long)]
    pub cluster: Option<String>,
    /// Only requests from this machine: its name or id52
    #[arg(long, visible_alias = "machine")]
    pub from: Option<String>,
    /// Only refused requests
    #[arg(long)]
    pub refused: bool,
    /// Only since then: an age (30m, 12h, 7d) or a UTC time (2026-11-23, 2026-11-23T07:22:48Z)
    #[arg(long)]
    pub since: Option<String>,
    /// Print the records as they are in the file, one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Only the last N records
    #[arg(short = 'n', long, value_parser = number::any::<usize>)]
    pub lines: Option<usize>,
}

pub(super) const EXEC_EXAMPLES: &str = "\
Examples:
  malai exec web01.company systemctl status nginx
  malai exec -t web01.company htop
  malai exec web01.company sh -c 'du -sh /var/* | sort -h'
  malai exec --parallel 10 --timeout 30s @web.company uptime";

/// The arguments of `exec`. The target is parsed as an external subcommand, because clap leaves everything after one
/// unchanged.
#[derive(Debug, clap::Args)]
#[command(
    before_help = EXEC_EXAMPLES,
    override_usage = "malai exec [OPTIONS] <TARGET> <COMMAND ON IT>...",
    disable_help_subcommand = true
)]
pub struct ExecArgs {
    #[command(flatten)]
    pub on: TargetOptions,
    #[command(subcommand)]
    pub command: ExecCommand,
}

/// A target and what to run there.
#[derive(Debug, Subcommand)]
pub enum ExecCommand {
    /// A target and what to run there.
    #[command(external_subcommand)]
    Target(Vec<OsString>),
}

pub(super) const SSH_EXAMPLES: &str = "\
Examples:
  malai ssh web@web01.company 'cd /srv && ls *.log | wc -l'
  malai ssh --shim ~/.malai/shim";

/// The arguments of `ssh`: ssh's options, host and words, parsed by [`crate::cli::ssh`].
#[derive(Debug, clap::Args)]
pub struct SshArgs {
    /// ssh's options, a target, and the words of a line
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "SSH'S ARGUMENTS"
    )]
    pub arguments: Vec<OsString>,
    /// Whether this program was called as `ssh`.
    #[arg(skip)]
    pub is_shim: bool,
}

/// The arguments of `sftp-server`.
#[derive(Debug, clap::Args)]
pub struct SftpServerArgs {
    /// Serve only what is below this folder
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Change nothing in the folder
    #[arg(long, requires = "folder")]
    pub read_only: bool,
    /// The number of a descriptor on which it reports what is done to files
    #[arg(long)]
    pub reports: Option<i32>,
}

const SHELL_EXAMPLES: &str = "\
Examples:
  malai shell web01.company
  cat script.sh | malai shell web01.company

Escapes, where you type on a terminal, at the beginning of a line:
  ~.  end the session    ~^Z  suspend    ~?  list these    ~~  a tilde";

/// The arguments of `shell`.
#[derive(Debug, clap::Args)]
#[command(before_help = SHELL_EXAMPLES)]
pub struct ShellArgs {
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// The machine
    pub target: OsString,
}

/// The arguments of `why`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai why laptop web01.company restart-nginx
  malai why laptop grafana.company
  malai why admins web01.company")]
pub struct WhyArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// A machine, an id52 or a group
    pub who: String,
    /// The machine it asks, a service, or what a machine reaches: <machine>.<cluster>:<host>:<port>
    pub target: String,
    /// The command to run there; a shell if omitted
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// Options of `malai logs`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai logs -n 50
  malai logs -f
  malai logs --since 30m")]
pub struct LogsArgs {
    /// Keep running and show new lines (after the last 10, unless -n is given)
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_parser = number::any::<usize>)]
    pub lines: Option<usize>,
    /// Only since then: an age (30m, 12h, 7d) or a UTC time (2026-11-23, 2026-11-23T07:22:48Z)
    #[arg(long)]
    pub since: Option<String>,
}

/// Options of `malai doctor`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai doctor
  sudo -u malai env MALAI_HOME=/opt/malai malai doctor
  malai doctor --json")]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `malai completions`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai completions bash   > ~/.local/share/bash-completion/completions/malai
  malai completions zsh    > \"${fpath[1]}/_malai\"
  malai completions fish   > ~/.config/fish/completions/malai.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, required_unless_present = "candidates")]
    pub shell: Option<Shell>,
    /// Print the completions at the cursor, for those scripts
    #[arg(long, hide = true)]
    pub candidates: bool,
    /// The words after `malai` up to the cursor
    #[arg(last = true, hide = true, requires = "candidates")]
    pub words: Vec<OsString>,
}

/// A shell with completions.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    /// Source the script, or put it where bash-completion looks
    Bash,
    /// Put it on the fpath as _malai
    Zsh,
    /// Put it into ~/.config/fish/completions
    Fish,
}

/// Options of `malai man`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai man
  malai man cluster add
  malai man --out /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write all pages into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "verb")]
    pub out: Option<PathBuf>,
    /// The command to describe
    pub verb: Vec<String>,
}

/// Options of `malai demo`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai demo
  malai demo --keep")]
pub struct DemoArgs {
    /// Leave it running, and print how to use it by hand and how to end it
    #[arg(long)]
    pub keep: bool,
}

/// Options of the reaper.
#[derive(Debug, clap::Args)]
pub struct ReaperArgs {
    /// Write messages to malai.log
    #[arg(long)]
    pub in_background: bool,
}
