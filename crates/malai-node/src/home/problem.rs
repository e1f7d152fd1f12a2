//! Problems with the files of a home, as data.

use std::fmt;

use malai_cluster::{Diagnostic, Severity, escape};
use serde::Serialize;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Problem {
    /// At a place in a file.
    InFile(Diagnostic),
    /// With a file or folder as a whole.
    Whole {
        /// How bad it is.
        severity: Severity,
        /// What is wrong and what to do about it. Further lines contain details.
        message: String,
    },
}

impl Problem {
    /// An error with a file or folder as a whole.
    pub(crate) fn error(message: impl fmt::Display) -> Problem {
        Problem::Whole {
            severity: Severity::Error,
            message: message.to_string(),
        }
    }

    /// A warning about a file or folder as a whole.
    pub(crate) fn warning(message: impl fmt::Display) -> Problem {
        Problem::Whole {
            severity: Severity::Warning,
            message: message.to_string(),
        }
    }

    /// The problem as one line, for the log.
    pub fn brief(&self) -> String {
        match self {
            Problem::InFile(found) => format!(
                "{}:{}:{}: {}",
                escape(&found.file),
                found.line,
                found.column,
                escape(&found.message)
            ),
            Problem::Whole { message, .. } => escape(message.lines().next().unwrap_or_default()),
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Problem::InFile(diagnostic) => diagnostic.severity,
            Problem::Whole { severity, .. } => *severity,
        }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity() == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::InFile(diagnostic) => diagnostic.fmt(f),
            Problem::Whole { severity, message } => {
                let lines: Vec<String> = message.lines().map(escape).collect();
                write!(f, "{severity}: {}", lines.join("\n"))
            }
        }
    }
}
