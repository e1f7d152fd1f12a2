//! What was typed. Arguments meant for a target are taken as they are: neither joined nor looked at.

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use malai_cluster::FORMAT;
use malai_wire::control;
use malai_wire::version::Versions;

use crate::exit::Exit;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let Versions { lowest, highest } = Versions::OURS;
    let peers = match lowest == highest {
        true => format!("{highest}"),
        false => format!("{lowest} to {highest}"),
    };
    format!(
        "{}\npeer protocol {peers}, control socket {}, configuration format {FORMAT}",
        env!("CARGO_PKG_VERSION"),
        control::VERSION,
    )
});

const EXAMPLES: &str = "\
Run a command on a machine:
  malai web01.company ps aux

Exit codes: a command on a target exits with its own; 255 when malai itself failed or refused.
Everything malai keeps is in $MALAI_HOME, by default ~/.malai.";

/// Run commands on your own machines, from your own machines.
#[derive(Debug, Parser)]
#[command(
    name = "malai",
    version = VERSION.as_str(),
    after_help = EXAMPLES,
    override_usage = "malai <COMMAND>\n       malai <TARGET> <COMMAND ON IT>...",
    arg_required_else_help = true
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// The first word.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a cluster that is managed here; add and remove its machines
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Join a cluster that is managed elsewhere
    #[command(subcommand)]
    Machine(MachineCommand),
    /// Check everything, then serve all clusters, in the background unless told otherwise
    Daemon {
        /// Stay in the foreground and show everything
        #[arg(long)]
        foreground: bool,
        /// Started by `malai daemon`, which waits at the other end of standard input
        #[arg(long, hide = true, requires = "foreground")]
        in_background: bool,
    },
    /// End the daemon; running sessions get time to finish
    Stop,
    /// Show whether the daemon runs, and this computer's clusters
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Apply edited configuration files, or only check them
    Rescan {
        /// Only check; needs no daemon
        #[arg(long)]
        check: bool,
        /// The findings as JSON
        #[arg(long, requires = "check")]
        json: bool,
        /// Only this cluster, by its alias
        cluster: Option<String>,
    },
    /// Show the audit record: what was asked of this computer, what was decided, and how it ended
    Audit(AuditArgs),
    /// Run a command on a target: the same as `malai <target> <command>...`
    #[command(
        subcommand,
        override_usage = "malai exec <TARGET> <COMMAND ON IT>...",
        disable_help_subcommand = true
    )]
    Exec(ExecCommand),
    /// Say whether somebody may do something, by which rule, and where it is written
    Why {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// A machine, an id52 or a group
        who: String,
        /// The machine that is asked
        target: String,
        /// What would be run there; a shell without it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Show malai at work: a throwaway cluster of real daemons, on this computer's loopback only
    Demo {
        /// Leave it running, and say how to go on by hand and how to end it
        #[arg(long)]
        keep: bool,
    },
    /// Started by a process that runs commands, to end them should that be killed
    #[command(hide = true)]
    Keeper {
        /// What it has to say goes to malai.log
        #[arg(long)]
        in_background: bool,
    },
    /// A target and what to run there.
    #[command(external_subcommand)]
    Target(Vec<OsString>),
}

/// What to show of the audit record.
#[derive(Debug, clap::Args)]
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

/// What can be done with clusters.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Create a cluster; this computer becomes its manager
    Init {
        /// Its local name: lower-case letters, digits and -
        alias: String,
    },
    /// Add a machine to a cluster that is managed here, and publish that
    Add {
        /// The cluster's local name
        alias: String,
        /// The machine's new name: lower-case letters, digits and -
        name: String,
        /// The machine's id52, as `malai machine init` has printed it there
        id52: String,
        /// Who may run commands on it: machines, id52s, groups, or "*" for every member
        #[arg(long, value_name = "LIST")]
        allow_from: Vec<String>,
    },
    /// Remove a machine from a cluster that is managed here: it is cut off everywhere
    Remove {
        /// The cluster's local name
        alias: String,
        /// The machine's name
        name: String,
    },
}

/// What can be done with this computer as a machine.
#[derive(Debug, Subcommand)]
pub enum MachineCommand {
    /// Create this computer's identity in a cluster
    Init {
        /// The cluster manager's id52, as its `malai status` shows it
        manager_id52: String,
        /// The local name of the cluster: lower-case letters, digits and -
        alias: String,
    },
}

/// What follows `exec`. Parsed as a subcommand, since clap touches nothing after an unknown one.
#[derive(Debug, Subcommand)]
pub enum ExecCommand {
    /// A target and what to run there.
    #[command(external_subcommand)]
    Target(Vec<OsString>),
}

impl Command {
    /// What malai exits with when this command fails with an error.
    pub fn failure(&self) -> Exit {
        match self {
            Command::Target(_) | Command::Exec(_) => Exit::MALAI,
            // A question that has no answer is neither allowed nor refused.
            Command::Why { .. } => Exit::USAGE,
            _ => Exit::FAILED,
        }
    }
}

/// Reads this process's arguments.
pub fn parse() -> Result<Command, clap::Error> {
    Args::try_parse().map(|args| args.command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use malai_cluster::VERBS;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    fn target(line: &[&str]) -> Vec<OsString> {
        match Args::try_parse_from(line).unwrap().command {
            Command::Target(words) | Command::Exec(ExecCommand::Target(words)) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_declaration_is_sound_and_every_verb_is_reserved() {
        let mut command = Args::command();
        command.build();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            assert!(VERBS.contains(&verb.get_name()), "{}", verb.get_name());
        }
    }

    #[test]
    fn nothing_after_the_target_is_touched() {
        for rest in [
            &["ls", "--help"][..],
            &["--help"],
            &["-h"],
            &["--version"],
            &["--", "x"],
            &["a b", "", "--json", "--", "--"],
            &["status"],
            &["exec", "x"],
            &[],
        ] {
            let expected = words(&[&["web01.company"], rest].concat());
            assert_eq!(
                target(&[&["malai", "web01.company"], rest].concat()),
                expected
            );
            let spelled_out = [&["malai", "exec", "web01.company"], rest].concat();
            assert_eq!(target(&spelled_out), expected);
        }
    }

    #[test]
    fn bytes_that_are_no_text_reach_the_target_too() {
        use std::os::unix::ffi::OsStringExt;
        let raw = OsString::from_vec(b"a\xffb".to_vec());
        let line = [words(&["malai", "web01.company", "cat"]), vec![raw.clone()]].concat();
        match Args::try_parse_from(line).unwrap().command {
            Command::Target(words) => assert_eq!(words[2], raw),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn json_findings_need_a_check() {
        assert!(Args::try_parse_from(["malai", "rescan", "--json"]).is_err());
        assert!(Args::try_parse_from(["malai", "rescan", "--check", "--json", "a"]).is_ok());
    }
}
