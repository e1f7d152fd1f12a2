//! How to start this program as a reaper: the process that ends commands when the one that runs them is killed.

use malai_node::Program;

/// The reaper of a daemon in the background, whose messages go to `malai.log`.
pub fn of_daemon() -> Program {
    program(&["reaper", "--in-background"], true)
}

/// The reaper of a daemon in the foreground, whose messages go to standard error.
pub fn of_foreground_daemon() -> Program {
    program(&["reaper"], true)
}

/// The reaper of a command without a daemon, which has no log.
pub fn of_command() -> Program {
    program(&["reaper"], false)
}

fn program(arguments: &[&str], keeps_stderr: bool) -> Program {
    Program {
        // Not by its path: an upgrade may have replaced the program there, or be about to.
        path: "/proc/self/exe".into(),
        arguments: arguments.iter().map(ToString::to_string).collect(),
        keeps_stderr,
    }
}
