//! `malai cluster show <alias> [name]`: a cluster's configuration as this home has it.

use malai_cluster::{
    AllowList, Cluster, Command, Entry, Group, Machine, UserName, escape, nearest, quote,
};
use malai_node::{ClusterReport, Home, Role, unpublished_changes, verify_home};
use serde_json::{Value, json};

use super::offered::{self, folder_json, service_json};
use super::{alias, joined, show_changes, usage};
use crate::output::Printer;
use crate::output::exit::Exit;
use crate::output::table::Table;

/// Shows the cluster, or one machine or group of it.
pub(super) fn run(
    home: &Home,
    text: &str,
    name: Option<&str>,
    as_json: bool,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let alias = match alias(text) {
        Ok(alias) => alias,
        Err(error) => return usage("show the cluster", &error, printer),
    };
    let report = verify_home(home, Some(alias.as_str()))?.into_iter().next();
    let Some(report) = report else {
        anyhow::bail!("there is no cluster `{alias}` here");
    };
    let Some(cluster) = report.cluster() else {
        anyhow::bail!(match report.role {
            Some(Role::Machine) if report.problems.is_empty() => format!(
                "{alias} has not sent its configuration yet: its manager has to add this machine ({})",
                report.own_id.map(|id| id.to_string()).unwrap_or_default()
            ),
            _ => format!("the configuration of {alias} is not valid: malai rescan --check {alias}"),
        });
    };
    if let Some(name) = name {
        return one(cluster, name, as_json, printer);
    }
    if as_json {
        let text = serde_json::to_string_pretty(&cluster_json(&report, cluster))?;
        printer.out(&format!("{text}\n"));
        return Ok(Exit::OK);
    }
    printer.out(&head(&report, cluster));
    printer.out(&offered::network(cluster));
    printer.out(&machines(cluster));
    printer.out(&commands(cluster));
    printer.out(&offered::tables(cluster));
    printer.out(&groups(cluster));
    if report.role == Some(Role::Manager)
        && let Some(changes) = unpublished_changes(home, &alias)
        && !changes.is_empty()
    {
        printer.out(&format!(
            "\n⚠️  Not published yet (publish with malai rescan {alias}):\n"
        ));
        show_changes(&changes, printer);
    }
    Ok(Exit::OK)
}

fn head(report: &ClusterReport, cluster: &Cluster) -> String {
    let role = match report.role {
        Some(Role::Manager) => "managed here",
        _ => "this computer is a machine of it",
    };
    let name = match cluster.name() {
        "" => String::new(),
        name if name == report.alias => String::new(),
        name => format!(" \"{}\"", escape(name)),
    };
    let revision = report
        .revision
        .map_or_else(String::new, |revision| format!(", revision {revision}"));
    format!(
        "{}{name}: {role}{revision}\n🆔 Manager: {}\n",
        escape(&report.alias),
        cluster.manager()
    )
}

fn machines(cluster: &Cluster) -> String {
    let mut table = Table::new(["MACHINE", "ID52", "ALLOW_FROM", "ALLOW_SHELL", "USER"]);
    for machine in cluster.machines() {
        let shell = match machine.allow_shell() {
            Some(list) => listed(Some(list)),
            None => "(as allow_from)".to_owned(),
        };
        table.row([
            machine.name().to_string(),
            machine.id().short(),
            listed(machine.allow_from()),
            shell,
            users(machine.usernames(), "(the daemon's)"),
        ]);
    }
    match cluster.machines().next() {
        Some(_) => format!("\n{table}"),
        None => "\nNo machines yet: malai cluster add <alias> <name> <id52>\n".to_owned(),
    }
}

fn commands(cluster: &Cluster) -> String {
    let mut table = Table::new(["COMMAND", "ON", "RUNS", "ALLOW_FROM", "USER"]);
    let mut any = false;
    for machine in cluster.machines() {
        for command in machine.commands() {
            any = true;
            let forced = match command.is_forced() {
                true => " (forced)",
                false => "",
            };
            table.row([
                escape(command.name().as_str()),
                machine.name().to_string(),
                format!("{}{forced}", runs(command)),
                match command.allow_from() {
                    Some(list) => listed(Some(list)),
                    None => "(the machine's)".to_owned(),
                },
                users(command.usernames(), "(the machine's)"),
            ]);
        }
    }
    if any {
        format!("\n{table}")
    } else {
        String::new()
    }
}

/// What a command runs, as it can be typed and written in cluster.toml.
fn runs(command: &Command) -> String {
    let words: Vec<String> = command.words().map(quote).collect();
    let arguments = match command.takes_arguments() {
        true => " …",
        false => "",
    };
    format!("{}{arguments}", escape(&words.join(" ")))
}

fn groups(cluster: &Cluster) -> String {
    let mut table = Table::new(["GROUP", "MEMBERS"]);
    for group in cluster.groups() {
        table.row([group.name().to_string(), entries(group.entries())]);
    }
    match cluster.groups().next() {
        Some(_) => format!("\n{table}"),
        None => String::new(),
    }
}

pub(super) fn users(users: &[UserName], none: &str) -> String {
    match users {
        [] => none.to_owned(),
        users => joined(users.iter().map(UserName::as_str)),
    }
}

pub(super) fn names(users: &[UserName]) -> Vec<&str> {
    users.iter().map(UserName::as_str).collect()
}

pub(super) fn listed(list: Option<&AllowList>) -> String {
    match list {
        Some(list) => entries(list.entries()),
        None => "(not set)".to_owned(),
    }
}

fn entries(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "(none)".to_owned();
    }
    let shown = entries.iter().map(|entry| match entry {
        Entry::Id(id) => id.short(),
        other => other.to_string(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// One machine or one group.
fn one(cluster: &Cluster, name: &str, as_json: bool, printer: &Printer) -> anyhow::Result<Exit> {
    if let Some(machine) = cluster.machine_named(name) {
        let json = machine_json(cluster, machine);
        if as_json {
            printer.out(&format!("{}\n", serde_json::to_string_pretty(&json)?));
            return Ok(Exit::OK);
        }
        let groups = groups_of(cluster, machine);
        let mut lines = vec![
            ("id52", machine.id().to_string()),
            (
                "groups",
                match groups.is_empty() {
                    true => "(none)".to_owned(),
                    false => joined(groups.iter().map(String::as_str)),
                },
            ),
            ("allow_from", listed(machine.allow_from())),
            (
                "allow_shell",
                match machine.allow_shell() {
                    Some(list) => listed(Some(list)),
                    None => "(as allow_from)".to_owned(),
                },
            ),
        ];
        if let Some(list) = machine.allow_files() {
            lines.push(("allow_files", listed(Some(list))));
        }
        if let Some(list) = machine.allow_forward() {
            lines.push(("allow_forward", listed(Some(list))));
        }
        if machine.username().is_some() {
            lines.push(("username", users(machine.usernames(), "")));
        }
        printer.out(&format!("machine {}\n", machine.name()));
        for (key, value) in lines {
            printer.out(&format!("   {key}: {value}\n"));
        }
        for command in machine.commands() {
            let list = command.allow_from().or(machine.allow_from());
            printer.out(&format!(
                "   command {}: {}   allow_from: {}\n",
                escape(command.name().as_str()),
                runs(command),
                listed(list)
            ));
        }
        printer.out(&offered::lines(cluster, machine));
        return Ok(Exit::OK);
    }
    if let Some(group) = cluster.group_named(name) {
        if as_json {
            let text = serde_json::to_string_pretty(&group_json(cluster, group))?;
            printer.out(&format!("{text}\n"));
            return Ok(Exit::OK);
        }
        let all = members(cluster, group);
        printer.out(&format!(
            "group {}\n   members: {}\n   machines in it: {}\n",
            group.name(),
            entries(group.entries()),
            joined(all.iter().map(String::as_str))
        ));
        return Ok(Exit::OK);
    }
    let machines = cluster.machines().map(|machine| machine.name().as_str());
    let groups = cluster.groups().map(|group| group.name().as_str());
    let near = nearest(name, machines.chain(groups));
    let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    anyhow::bail!("there is no machine or group `{}`{near}", escape(name))
}

fn groups_of(cluster: &Cluster, machine: &Machine) -> Vec<String> {
    let holds = |group: &&Group| cluster.members_of(group).any(|id| id == machine.id());
    let groups = cluster.groups().filter(holds);
    groups.map(|group| group.name().to_string()).collect()
}

fn members(cluster: &Cluster, group: &Group) -> Vec<String> {
    let members = cluster.members_of(group);
    let named = members.map(|id| match cluster.machine(&id) {
        Some(machine) => machine.name().to_string(),
        None => "(manager)".to_owned(),
    });
    named.collect()
}

fn cluster_json(report: &ClusterReport, cluster: &Cluster) -> Value {
    json!({
        "alias": report.alias,
        "name": cluster.name(),
        "role": report.role,
        "id": cluster.manager().to_string(),
        "revision": report.revision,
        "network": offered::network_json(cluster),
        "machines": cluster.machines().map(|machine| machine_json(cluster, machine)).collect::<Vec<_>>(),
        "folders": cluster.folders().map(folder_json).collect::<Vec<_>>(),
        "services": cluster.services().map(service_json).collect::<Vec<_>>(),
        "groups": cluster.groups().map(|group| group_json(cluster, group)).collect::<Vec<_>>(),
    })
}

pub(super) fn list_json(list: Option<&AllowList>) -> Option<Vec<String>> {
    list.map(|list| list.entries().iter().map(ToString::to_string).collect())
}

fn machine_json(cluster: &Cluster, machine: &Machine) -> Value {
    let commands = machine.commands().iter().map(|command| {
        json!({
            "name": command.name().as_str(),
            "runs": command.words().collect::<Vec<_>>(),
            "args": command.takes_arguments(),
            "allow_from": list_json(command.allow_from()),
            "forced": command.is_forced(),
            "username": names(command.usernames()),
        })
    });
    json!({
        "name": machine.name().as_str(),
        "id": machine.id().to_string(),
        "groups": groups_of(cluster, machine),
        "allow_from": list_json(machine.allow_from()),
        "allow_shell": list_json(machine.allow_shell()),
        "allow_files": list_json(machine.allow_files()),
        "allow_forward": list_json(machine.allow_forward()),
        "username": names(machine.usernames()),
        "commands": commands.collect::<Vec<_>>(),
        "folders": offered::folders_on(cluster, machine).map(folder_json).collect::<Vec<_>>(),
        "services": offered::services_on(cluster, machine).map(service_json).collect::<Vec<_>>(),
    })
}

fn group_json(cluster: &Cluster, group: &Group) -> Value {
    json!({
        "name": group.name().as_str(),
        "members": group.entries().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "machines": members(cluster, group),
    })
}
