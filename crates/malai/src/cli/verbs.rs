//! What can follow each verb. The doc comments are the help that is printed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use crate::cli::TargetOptions;
use crate::cli::target_options::TerminalArgs;
use crate::output::duration;

pub(super) const MACHINE_EXAMPLES: &str = "\
Examples:
  malai machine init <manager-id52> company
  malai machine init --replace <new-manager-id52> company";

/// What can be done with this computer as a machine.
#[derive(Debug, Subcommand)]
pub enum MachineCommand {
    /// Create this computer's identity in a cluster
    #[command(before_help = MACHINE_EXAMPLES)]
    Init {
        /// Follow another manager under an alias that is taken: the old one's key is lost or stolen. Makes a
        /// new identity; the old folder is kept in $MALAI_HOME/replaced
        #[arg(long)]
        replace: bool,
        /// The cluster manager's id52, as its `malai status` shows it
        manager_id52: String,
        /// The local name of the cluster: lower-case letters, digits and -
        alias: String,
    },
}

/// How to serve.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai daemon
  RUST_LOG=malai=debug malai daemon --foreground")]
pub struct DaemonArgs {
    /// Stay in the foreground and show everything
    #[arg(long)]
    pub foreground: bool,
    /// Do not start if the files of any cluster have errors; otherwise what was published last is served
    #[arg(long)]
    pub strict: bool,
    /// Started by `malai daemon`, which waits at the other end of standard input
    #[arg(long, hide = true, requires = "foreground")]
    pub in_background: bool,
}

/// How to show how things are.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai status
  malai status company
  malai status --json")]
pub struct StatusArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Only this cluster, by its alias
    pub cluster: Option<String>,
}

/// Whose id52 to show.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai id
  malai id company")]
pub struct IdArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Only the id52 in this cluster, by its alias
    pub cluster: Option<String>,
}

/// Which machines to list.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai list
  malai list company
  malai list --json")]
pub struct ListArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Ask no machine whether it is there: show what the daemon knows
    #[arg(long)]
    pub no_ping: bool,
    /// Only this cluster, by its alias
    pub cluster: Option<String>,
}

/// Which machines to ask, and how.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai ping web01.company
  malai ping '*.company'
  malai ping -c 10 @web.company,db.company")]
pub struct PingArgs {
    /// Ask each machine so many times
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// Give a machine up after this long: 500ms, 5s, 1m [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// One JSON object a machine
    #[arg(long)]
    pub json: bool,
    /// The machines
    pub targets: String,
}

/// What to show of the live sessions, or what to do with one.
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
    /// As JSON
    #[arg(long)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Option<SessionsCommand>,
}

/// What can be done with a live session.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// End a session: its command gets SIGHUP, then SIGKILL, and its client is told
    #[command(before_help = "Example:\n  malai sessions end 17")]
    End {
        /// Its number, as `malai sessions` lists it
        id: u64,
    },
}

/// What to apply or check.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai rescan company
  malai rescan --check")]
pub struct RescanArgs {
    /// Only check; needs no daemon
    #[arg(long)]
    pub check: bool,
    /// The findings as JSON
    #[arg(long, requires = "check")]
    pub json: bool,
    /// Publish cluster.toml although members have a newer revision, which undoes what was changed since
    #[arg(long, requires = "cluster", conflicts_with = "check")]
    pub publish_older: bool,
    /// Only this cluster, by its alias
    pub cluster: Option<String>,
}

/// What to show of the audit record.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai audit --since 24h --refused
  malai audit -f --cluster company")]
pub struct AuditArgs {
    /// Stay, and show what comes (after the last 10 lines, unless -n says otherwise)
    #[arg(short, long)]
    pub follow: bool,
    /// Only of this cluster: its alias or id52
    #[arg(long)]
    pub cluster: Option<String>,
    /// Only what this machine asked for: its name or id52
    #[arg(long, visible_alias = "machine")]
    pub from: Option<String>,
    /// Only what was refused
    #[arg(long)]
    pub refused: bool,
    /// Only from then on: 30m, 12h, 7d (ago), 2026-11-23 or 2026-11-23T07:22:48Z (times are UTC)
    #[arg(long)]
    pub since: Option<String>,
    /// The records as they are in the file, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Only the last so many lines
    #[arg(short = 'n', long)]
    pub lines: Option<usize>,
}

pub(super) const EXEC_EXAMPLES: &str = "\
Examples:
  malai exec web01.company systemctl status nginx
  malai exec -t web01.company htop
  malai exec web01.company sh -c 'du -sh /var/* | sort -h'
  malai exec --parallel 10 --timeout 30s @web.company uptime";

/// What follows `exec`. The target is parsed as a subcommand, since clap touches nothing after an
/// unknown one.
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

/// What follows `ssh`: ssh's options, host and words, read by [`crate::cli::ssh`].
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

/// What follows `sftp-server`.
#[derive(Debug, clap::Args)]
pub struct SftpServerArgs {
    /// Serve what is below this folder, and nothing else
    #[arg(long)]
    pub folder: Option<PathBuf>,
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

/// What follows `shell`.
#[derive(Debug, clap::Args)]
#[command(before_help = SHELL_EXAMPLES)]
pub struct ShellArgs {
    #[command(flatten)]
    pub terminal: TerminalArgs,
    /// The machine
    pub target: OsString,
}

/// Who may do what where?
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai why laptop web01.company restart-nginx
  malai why admins web01.company")]
pub struct WhyArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// A machine, an id52 or a group
    pub who: String,
    /// The machine that is asked
    pub target: String,
    /// What would be run there; a shell without it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// What to show of the log.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai logs -n 50
  malai logs -f
  malai logs --since 30m")]
pub struct LogsArgs {
    /// Stay, and show what comes (after the last 10 lines, unless -n says otherwise)
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last so many lines
    #[arg(short = 'n', long)]
    pub lines: Option<usize>,
    /// Only from then on: 30m, 12h, 7d (ago), 2026-11-23 or 2026-11-23T07:22:48Z (times are UTC)
    #[arg(long)]
    pub since: Option<String>,
}

/// How to show what was found.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai doctor
  sudo -u malai env MALAI_HOME=/opt/malai malai doctor
  malai doctor --json")]
pub struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// For which shell.
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
    /// What can stand where the cursor is, for those scripts
    #[arg(long, hide = true)]
    pub candidates: bool,
    /// The words after `malai` up to the cursor
    #[arg(last = true, hide = true, requires = "candidates")]
    pub words: Vec<OsString>,
}

/// A shell that is completed for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    /// Source the script, or put it where bash-completion looks
    Bash,
    /// Put it on the fpath as _malai
    Zsh,
    /// Put it into ~/.config/fish/completions
    Fish,
}

/// Which page, or where to.
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
    /// The command that the page is about
    pub verb: Vec<String>,
}

/// What becomes of the demo.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  malai demo
  malai demo --keep")]
pub struct DemoArgs {
    /// Leave it running, and say how to go on by hand and how to end it
    #[arg(long)]
    pub keep: bool,
}

/// How the reaper was started.
#[derive(Debug, clap::Args)]
pub struct ReaperArgs {
    /// Its messages go to malai.log
    #[arg(long)]
    pub in_background: bool,
}
