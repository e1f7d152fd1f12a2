//! What a session was asked to do, as recorded in the audit record and in the list of live sessions.

use serde::{Deserialize, Serialize};

use crate::argument::Argument;
use crate::peer::connect::Destination;
use crate::peer::exec::Action;

/// What a session was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To run something.
    Run(Action),
    /// To connect to something.
    Connect(Destination),
}

/// An action. The key `action` names its kind; readers turn a kind that they do not know into
/// [`RecordedAction::Other`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum RecordedAction {
    /// A command.
    Exec {
        /// Its argument list, as far as it fits and may be recorded.
        argv: Vec<Argument>,
        /// How many arguments are missing from `argv`.
        #[serde(default, skip_serializing_if = "is_zero")]
        argv_left_out: u64,
    },
    /// The login shell.
    Shell,
    /// A line written for a shell.
    Line {
        /// The line, as far as it fits and may be recorded.
        line: Argument,
    },
    /// A subsystem.
    Subsystem {
        /// Its name.
        name: String,
        /// The folder that it serves, if it is not for all files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<String>,
    },
    /// A connection.
    Connect {
        /// The name of the service, or the address.
        to: String,
    },
    /// A kind that only a newer malai knows.
    #[serde(other)]
    Other,
}

impl RecordedAction {
    /// What was asked, as recorded. Without `arguments`, only the name of a command.
    pub fn of(asked: &Asked, arguments: bool) -> Self {
        match asked {
            Asked::Run(action) => Self::new(action, arguments),
            Asked::Connect(destination) => Self::Connect {
                to: destination.shown(),
            },
        }
    }

    /// The action as recorded. Without `arguments`, only the name of the command.
    pub fn new(action: &Action, arguments: bool) -> Self {
        match action {
            Action::Shell => Self::Shell,
            Action::Line(line) => {
                // The first word of a line is the name of its command.
                let end = line.iter().position(u8::is_ascii_whitespace);
                let kept = match arguments {
                    true => line,
                    false => &line[..end.unwrap_or(line.len())],
                };
                let (mut list, _) = Argument::list(&[kept.to_vec()], true);
                Self::Line {
                    line: list.pop().unwrap_or(Argument::Text(String::new())),
                }
            }
            Action::Subsystem(name) => Self::Subsystem {
                name: short(name),
                folder: None,
            },
            Action::Folder { folder, subsystem } => Self::Subsystem {
                name: short(subsystem),
                folder: Some(short(folder)),
            },
            Action::Exec(argv) => {
                let (argv, argv_left_out) = Argument::list(argv, arguments);
                Self::Exec {
                    argv,
                    argv_left_out,
                }
            }
        }
    }

    /// The action without what a caller can make long, for records that have something else to tell.
    pub fn brief(&self) -> Self {
        match self {
            Self::Exec { .. } | Self::Line { .. } => Self::Other,
            brief => brief.clone(),
        }
    }

    /// The recorded arguments; empty unless the action is a command.
    pub fn argv(&self) -> &[Argument] {
        match self {
            Self::Exec { argv, .. } => argv,
            Self::Shell
            | Self::Line { .. }
            | Self::Subsystem { .. }
            | Self::Connect { .. }
            | Self::Other => &[],
        }
    }

    /// The action as one line of text, safe to show on a terminal.
    pub fn shown(&self) -> String {
        match self {
            Self::Exec {
                argv,
                argv_left_out,
            } => {
                let mut words: Vec<_> = argv.iter().map(Argument::shown).collect();
                if *argv_left_out > 0 {
                    words.push(format!("…(+{argv_left_out} arguments)"));
                }
                words.join(" ")
            }
            Self::Shell => "(a shell)".to_owned(),
            Self::Line { line } => format!("(a line) {}", line.shown()),
            Self::Subsystem { name, folder } => {
                let name = malai_cluster::escape(name);
                match folder {
                    None => format!("(subsystem {name})"),
                    Some(folder) => {
                        let folder = malai_cluster::escape(folder);
                        format!("(subsystem {name} of folder {folder})")
                    }
                }
            }
            Self::Connect { to } => format!("(a connection to {})", malai_cluster::escape(to)),
            Self::Other => "(an action that only a newer malai knows)".to_owned(),
        }
    }
}

/// A name, safe to show and bounded.
fn short(name: &str) -> String {
    malai_cluster::escape(name).chars().take(64).collect()
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
