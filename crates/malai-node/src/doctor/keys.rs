//! The private keys: whether they are valid, and readable only by their owner.

use super::{Context, Finding};

use crate::home::keystore::{self, KeyError, quoted};
use crate::home::{ClusterDir, Role};

const CHECK: &str = "keys";

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let dirs = context.home.survey().map(|survey| survey.dirs);
    let dirs = dirs.unwrap_or_default();
    let mut found = Vec::new();
    let mut sound = 0;
    for dir in &dirs {
        match of_cluster(dir) {
            Ok(()) => sound += 1,
            Err(problem) => found.push(*problem),
        }
    }
    if sound > 0 {
        found.push(Finding::fine(
            CHECK,
            match sound {
                1 => "the private key is readable only by its owner".to_owned(),
                _ => format!("{sound} private keys are readable only by their owner"),
            },
        ));
    }
    found
}

fn of_cluster(dir: &ClusterDir) -> Result<(), Box<Finding>> {
    let path = match dir.role() {
        Ok(Role::Manager) => dir.cluster_key(),
        Ok(Role::Machine) => dir.machine_key(),
        // Reported by the check of the configuration.
        Err(_) => return Ok(()),
    };
    let Err(error) = keystore::load(&path) else {
        return Ok(());
    };
    let problem = Finding::error(CHECK, error.to_string());
    let alias = &dir.alias;
    Err(Box::new(match error {
        KeyError::Exposed { .. } => problem
            .because(
                "anyone who has read it can act as this computer; the daemon does not start with it",
            )
            .fix(format!("chmod 600 {}", quoted(&path))),
        _ => problem
            .because(format!(
                "without it this computer has no identity in {alias}, and the daemon does not start"
            ))
            .fix(format!(
                "tar -xzf <backup> -C / {}   # or move it away: mv {} {}",
                quoted(path.strip_prefix("/").unwrap_or(&path)),
                quoted(&dir.path),
                quoted(&dir.path.with_file_name(format!(".{alias}.away"))),
            )),
    }))
}
