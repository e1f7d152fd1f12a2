//! Everything that a member may do on a machine, as a summary for people.

use super::decide::COPY;
use super::{Action, Decision, Request, Run, decide};
use crate::accept::Accept;
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::identity::MachineId;
use crate::name::{CommandName, MachineName, UserName};
use crate::service::Service;

/// What a member may do on a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Whether it may run commands that have no entry of their own.
    pub commands: bool,
    /// Whether it may open a shell.
    pub shell: bool,
    /// The command entry that replaces whatever the member asks for; it is then the only thing that runs.
    pub forced: Option<CommandName>,
    /// The command entries that it may run, by name.
    pub entries: Vec<CommandName>,
    /// Whether there are entries that it may not run.
    pub entries_refused: bool,
    /// The user that commands run as; `None` is the daemon's own user.
    pub user: Option<UserName>,
}

/// A summary of what a member may do on a machine. It asks [`decide`] about everything that can be decided.
pub fn access(
    cluster: &Cluster,
    from: MachineId,
    to: MachineId,
    accept: Option<&Accept>,
) -> Access {
    let allowed = |action: Action<'_>| {
        let request = Request {
            from,
            to,
            action,
            user: None,
        };
        match decide(cluster, &request, accept) {
            Decision::Allow(grant) => Some(grant),
            Decision::Refuse(_) => None,
        }
    };
    // No entry can have this name: entries start with a letter or a digit.
    let any = allowed(Action::Exec(&[b"/".to_vec()]));
    let shell = allowed(Action::Shell);
    let machine = cluster.machine(&to);
    let all = machine
        .map(|machine| machine.commands())
        .unwrap_or_default();
    if let Some(Run::Forced { .. }) = any.as_ref().map(|grant| &grant.run) {
        // The entry itself allows it if its list was the rule.
        let forced = all.iter().filter(|entry| entry.is_forced());
        let mut forced = forced.filter(|entry| {
            allowed(Action::Exec(&[entry.name().as_str().into()])).is_some_and(|grant| {
                grant
                    .argv()
                    .iter()
                    .map(Vec::as_slice)
                    .eq(entry.words().map(str::as_bytes))
            })
        });
        let entry = forced.next();
        return Access {
            forced: entry.map(|entry| entry.name().clone()),
            user: any.and_then(|grant| grant.user),
            ..Access::default()
        };
    }
    let entries: Vec<CommandName> = all
        .iter()
        .filter(|entry| allowed(Action::Exec(&[entry.name().as_str().into()])).is_some())
        .map(|entry| entry.name().clone())
        .collect();
    Access {
        commands: any.is_some(),
        forced: None,
        shell: shell.is_some(),
        entries_refused: entries.len() < all.len(),
        entries,
        user: machine.and_then(|machine| machine.username().cloned()),
    }
}

/// Whether a member may copy files from a folder by its name, as far as the configuration goes.
pub fn may_use_folder(cluster: &Cluster, from: MachineId, folder: &Folder) -> bool {
    let action = Action::Folder {
        folder: folder.name().as_str(),
        subsystem: COPY,
    };
    may(cluster, from, folder.machine(), action)
}

/// Whether a member may connect to a service, as far as the configuration goes.
pub fn may_use_service(cluster: &Cluster, from: MachineId, service: &Service) -> bool {
    let action = Action::Service(service.name().as_str());
    may(cluster, from, service.machine(), action)
}

fn may(cluster: &Cluster, from: MachineId, on: &MachineName, action: Action<'_>) -> bool {
    cluster.machine_named(on.as_str()).is_some_and(|machine| {
        let request = Request {
            from,
            to: machine.id(),
            action,
            user: None,
        };
        matches!(decide(cluster, &request, None), Decision::Allow(_))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn a_forced_command_is_all_there_is() {
        let cluster = cluster(&format!(
            "[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\n\
             [machine.web01.command.backup]\ncommand = \"borg serve\"\nallow_from = \"laptop\"\nforced = true\n\
             [machine.laptop]\nid52 = \"{LAPTOP}\"\n"
        ));
        let of = |from: &str| access(&cluster, id(from), id(WEB01), None);
        let forced = of(LAPTOP);
        assert_eq!(
            forced.forced.as_ref().map(CommandName::as_str),
            Some("backup")
        );
        assert!(!forced.commands && !forced.shell);
        assert!(of(WEB01).commands && of(WEB01).forced.is_none());
    }

    #[test]
    fn folders_and_services_have_lists_of_their_own() {
        let cluster = cluster(&format!(
            "[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n\
             [folder.logs]\nmachine = \"web01\"\npath = \"/var/log\"\nallow_from = \"laptop\"\n\
             [service.db]\nmachine = \"web01\"\ntcp = \"localhost:1\"\nallow_from = \"laptop\"\n"
        ));
        let folder = cluster.folder_named("logs").unwrap();
        let service = cluster.service_named("db").unwrap();
        for (from, may) in [(LAPTOP, true), (WEB01, false), (STRANGER, false)] {
            assert_eq!(may_use_folder(&cluster, id(from), folder), may);
            assert_eq!(may_use_service(&cluster, id(from), service), may);
        }
    }

    #[test]
    fn what_each_may_do_where() {
        let cluster = cluster(&format!(
            "[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"laptop\"\nallow_shell = []\nusername = \"web\"\n\
             [machine.web01.command.reload]\nallow_from = \"web01\"\n[machine.web01.command.status]\n\
             [machine.laptop]\nid52 = \"{LAPTOP}\"\n"
        ));
        let shown = |from: &str, to: &str| {
            let access = access(&cluster, id(from), id(to), None);
            let entries: Vec<_> = access.entries.iter().map(CommandName::as_str).collect();
            (
                access.commands,
                access.shell,
                entries.join(","),
                access.entries_refused,
            )
        };
        assert_eq!(shown(LAPTOP, WEB01), (true, false, "status".into(), true));
        assert_eq!(shown(WEB01, WEB01), (false, false, "reload".into(), true));
        assert_eq!(shown(STRANGER, WEB01), (false, false, String::new(), true));
        assert_eq!(shown(WEB01, LAPTOP), (false, false, String::new(), false));
    }
}
