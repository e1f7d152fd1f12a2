//! The daemon: whether one runs and responds, its lock, its socket, its version, and its notices.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{Context, Finding};

use crate::home::keystore::quoted;
use crate::home::lock::LockState;
use crate::os::fs::display_path;

const CHECK: &str = "daemon";

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let home = context.home;
    let held = match &context.lock {
        Err(error) => {
            return vec![
                Finding::error(CHECK, format!("cannot tell whether a daemon runs: {error}"))
                    .because("the lock on the home shows it, but cannot be checked")
                    .fix(format!("ls -ld {}", quoted(home.root()))),
            ];
        }
        Ok(LockState::Held { pid }) => Some(*pid),
        Ok(LockState::Free) => None,
    };
    let mut found = match (held, &context.daemon) {
        (Some(_), Some(Ok(facts))) => {
            let mut line = vec![Finding::fine(
                CHECK,
                format!("it runs (pid {}) and answers", facts.pid),
            )];
            line.extend(version(&facts.version));
            line.extend(facts.notices.iter().map(|notice| {
                Finding::warning(CHECK, notice.text.clone()).fix("malai logs -n 50")
            }));
            line
        }
        (Some(pid), answer) => {
            let pid = pid.map_or_else(|| "<pid>".to_owned(), |pid| pid.to_string());
            let why = answer.as_ref().and_then(|answer| answer.as_ref().err());
            let why = why.map_or("no reason given", String::as_str);
            vec![
                Finding::error(
                    CHECK,
                    format!("it holds the home (pid {pid}) but does not respond: {why}"),
                )
                .because("commands from here need it, so none can run")
                .fix(format!("kill {pid}; sleep 15; kill -9 {pid}; malai daemon")),
            ]
        }
        (None, _) => absent(context),
    };
    if let Ok(socket) = fs::symlink_metadata(home.socket())
        && socket.mode() & 0o077 != 0
        && context.is_held()
    {
        let mode = socket.mode() & 0o7777;
        found.push(
            Finding::warning(
                CHECK,
                format!("{} has mode {mode:04o}", display_path(&home.socket())),
            )
            .because("the daemon checks the user of each caller, so it rejects others anyway")
            .fix(format!("chmod 600 {}", quoted(&home.socket()))),
        );
    }
    found
}

fn absent(context: &Context<'_>) -> Vec<Finding> {
    let home = context.home;
    if context.clusters.is_empty() {
        return vec![Finding::note(
            CHECK,
            "none is running, and there is no cluster to serve",
        )];
    }
    let left = [home.lock_file(), home.socket()];
    let left: Vec<String> = left
        .iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| display_path(path))
        .collect();
    let why = "nobody can run commands on this computer, and it learns of no change; commands from here \
               connect by themselves";
    let finding = match left.is_empty() {
        true => Finding::warning(CHECK, "none is running"),
        false => Finding::warning(
            CHECK,
            format!("one has died and left {} behind", left.join(" and ")),
        ),
    };
    vec![finding.because(why).fix("malai daemon")]
}

/// Compares the daemon's version with this program's.
fn version(theirs: &str) -> Option<Finding> {
    let ours = env!("CARGO_PKG_VERSION");
    (theirs != ours).then(|| {
        Finding::warning(
            CHECK,
            format!("it is malai {theirs}, and this is malai {ours}"),
        )
        .because("an upgrade takes effect when the daemon is restarted")
        .fix("malai stop && malai daemon   # under systemd: sudo systemctl restart malai")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_a_warning_with_its_remedy() {
        assert_eq!(version(env!("CARGO_PKG_VERSION")), None);
        let found = version("0.0.9").unwrap();
        assert!(found.what.contains("0.0.9") && found.remedy.is_some());
    }
}
