//! Which users commands run as here, and what that means for the keys of this home.

use malai_cluster::escape;

use super::{Context, Finding};

use crate::doctor::configuration;
use crate::inspect::check_users::user_notes;
use crate::os::user;

const CHECK: &str = "user";

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    // What the check of the home says about users.
    let notes = user_notes(context.home, &context.clusters, context.answered());
    for (report, problem) in context.clusters.iter().zip(notes) {
        let Some(problem) = problem else { continue };
        found.push(Finding {
            check: CHECK,
            remedy: Some(format!(
                "$EDITOR {}",
                crate::os::fs::display_path(&report.path.join("cluster.toml"))
            ))
            .filter(|_| report.role == Some(crate::home::Role::Manager)),
            ..configuration::of(context.home.root(), &problem, None)
        });
    }
    let may_switch = user::may_switch();
    let daemon = context.answered().filter(|daemon| !daemon.user.is_empty());
    let own = match daemon {
        Some(daemon) => daemon.user.clone(),
        None => user::own_name().unwrap_or_default(),
    };
    for report in &context.clusters {
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
                            "this computer has no user {user}, which commands of {} should run as",
                            report.alias
                        ),
                    )
                    .because("they are refused, and never run as another user")
                    .fix(format!("sudo useradd -m {user}")),
                );
            } else if !may_switch {
                found.push(
                    Finding::warning(CHECK, format!("commands of {} should run as {user}, but malai runs as {own}", report.alias))
                        .because("only a daemon that runs as root, or with the capabilities that the Debian package's unit gives it, can switch users, so they are refused")
                        .fix("sudo systemctl edit malai   # User=root, once you have read SECURITY.md about it"),
                );
            }
        }
    }
    found.dedup();
    found.extend(groups(context));
    if found.is_empty() {
        let whom = if own.is_empty() {
            "a user without a name".to_owned()
        } else {
            own
        };
        let commands = daemon.and_then(|daemon| daemon.default_user.as_deref());
        let commands = commands.map_or_else(String::new, |user| {
            format!(", and commands as {}", escape(user))
        });
        found.push(Finding::fine(
            CHECK,
            format!("malai runs as {whom}{commands}"),
        ));
    }
    found
}

/// Groups that a login as the daemon's user has but commands of the daemon lack: a user added to a group gets it at the next
/// login, and a daemon at its next start. A daemon that runs as root gives its commands the groups of a login.
fn groups(context: &Context<'_>) -> Option<Finding> {
    let pid = context.answered()?.pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let words = line.unwrap_or_default().split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    // Real and effective ids are the first and second fields.
    let uid = *numbers("Uid:").get(1)?;
    let mut groups = numbers("Groups:");
    groups.extend(numbers("Gid:").get(1));
    if uid == 0 {
        return None;
    }
    let lacking = user::groups_lacking(uid, &groups);
    (!lacking.is_empty()).then(|| {
        let finding = Finding::warning(
            CHECK,
            format!(
                "commands lack groups that a login has: {}",
                lacking.join(", ")
            ),
        );
        finding
            .because("the daemon was started before its user was added to them, or without them")
            .fix("malai stop && malai daemon   # from a new login; under systemd: sudo systemctl restart malai")
    })
}
