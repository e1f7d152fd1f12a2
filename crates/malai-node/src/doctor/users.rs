//! As whom commands run here, and what that means for the keys of this home.

use super::{Context, Finding};

use crate::doctor::configuration;
use crate::inspect::check_users::user_notes;
use crate::os::user;

const CHECK: &str = "user";

pub(super) fn check(patient: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    // What is said of users beside everything else that the check of the home says.
    let notes = user_notes(patient.home, &patient.clusters);
    for (report, problem) in patient.clusters.iter().zip(notes) {
        let Some(problem) = problem else { continue };
        found.push(Finding {
            check: CHECK,
            remedy: Some(format!(
                "$EDITOR {}",
                crate::os::fs::display_path(&report.path.join("cluster.toml"))
            ))
            .filter(|_| report.role == Some(crate::home::Role::Manager)),
            ..configuration::of(&problem, None)
        });
    }
    let may_switch = user::may_switch();
    let own = user::own_name().unwrap_or_default();
    for report in &patient.clusters {
        let Some(here) = report.own_id.and_then(|id| report.cluster()?.machine(&id)) else {
            continue;
        };
        let users = here.commands().iter().map(|command| command.username());
        let users = users.chain([here.username()]).flatten();
        for user in users.filter(|user| user.as_str() != own) {
            if !user::exists(user) {
                found.push(
                    Finding::warning(
                        CHECK,
                        format!(
                            "this computer has no user {user}, as whom commands of {} are to run",
                            report.alias
                        ),
                    )
                    .because("they are refused, never run as somebody else")
                    .fix(format!("sudo useradd -m {user}")),
                );
            } else if !may_switch {
                found.push(
                    Finding::warning(CHECK, format!("commands of {} are to run as {user}, and malai runs as {own}", report.alias))
                        .because("only a daemon that is root may become another user; they are refused")
                        .fix("sudo systemctl edit malai   # User=root, once you have read SECURITY.md about it"),
                );
            }
        }
    }
    found.dedup();
    if found.is_empty() {
        let whom = if own.is_empty() {
            "a user without a name".to_owned()
        } else {
            own
        };
        found.push(Finding::fine(CHECK, format!("malai runs as {whom}")));
    }
    found
}
