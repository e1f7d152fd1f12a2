//! `malai cluster add`, `set`, `rename` and `remove`: edits of cluster.toml that a running daemon then publishes.

use malai_cluster::{
    ClusterAlias, GroupName, ListChange, MachineChange, MachineId, MachineName, UserChange,
    UserName,
};
use malai_node::{Home, Names, aside, control, display_path, edit};
use malai_wire::control::{Reply, Request, Rescan};

use super::{alias, entries, machine, publish, show_edit, usage};
use crate::cli::{NewMachineArgs, SetArgs, Unset};
use crate::output::Printer;
use crate::output::exit::Exit;

/// Adds a machine.
pub(super) fn add(home: &Home, args: &NewMachineArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let parsed = (|| {
        let id = MachineId::parse(&args.id52);
        let id = id.map_err(|error| {
            format!("the machine's id52 is wrong: {error} (on the machine, malai id shows it)")
        });
        Ok((
            alias(&args.alias)?,
            machine(&args.name)?,
            id?,
            groups(&args.group)?,
        ))
    })();
    let (alias, name, id, groups) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let error: String = error;
            return usage("add the machine", &error, printer);
        }
    };
    let edited = edit::add(home, &alias, &name, &id, &args.allow_from, &groups)?;
    printer.out(&format!(
        "Added machine {name} to {}\n",
        display_path(&edited.path)
    ));
    show_edit(&edited, printer);
    if args.allow_from.is_empty() {
        printer.out(&no_one_yet(&alias, &name));
    }
    publish(home, &alias, printer)
}

/// What to do about a machine that was added without a list.
pub(super) fn no_one_yet(alias: &ClusterAlias, name: &MachineName) -> String {
    format!(
        "   No one may run commands on it yet: malai cluster set {alias} {name} --allow-from <list>\n"
    )
}

/// Changes a machine's section and its groups.
pub(super) fn set(home: &Home, args: &SetArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let parsed = (|| Ok((alias(&args.alias)?, machine(&args.name)?, change(args)?)))();
    let (alias, name, change) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let error: String = error;
            return usage("change the machine", &error, printer);
        }
    };
    if change == MachineChange::default() {
        return usage(
            "change the machine",
            "say what to change, as in --allow-from admins; see malai cluster set --help",
            printer,
        );
    }
    let edited = edit::change(home, &alias, &name, &change)?;
    if edited.changes.is_empty() {
        printer.out(&format!(
            "{name} is already like that: nothing was changed\n"
        ));
        return Ok(Exit::OK);
    }
    printer.out(&format!(
        "Changed machine {name} in {}\n",
        display_path(&edited.path)
    ));
    show_edit(&edited, printer);
    publish(home, &alias, printer)
}

fn change(args: &SetArgs) -> Result<MachineChange, String> {
    let list = |list: &Option<String>, unset: Unset, option: &str| match (
        list,
        args.unset.contains(&unset),
    ) {
        (Some(_), true) => Err(format!("{option} conflicts with --unset of the same key")),
        (Some(list), false) => Ok(Some(ListChange::To(entries(list)))),
        (None, true) => Ok(Some(ListChange::Unset)),
        (None, false) => Ok(None),
    };
    let username = match (&args.username, args.unset.contains(&Unset::Username)) {
        (Some(_), true) => {
            return Err("--username conflicts with --unset of the same key".to_owned());
        }
        (Some(user), false) => {
            // A name with a space is one invalid name, not two names.
            let users = user.split(',').map(UserName::parse).collect();
            let users: Result<Vec<UserName>, _> = users;
            Some(UserChange::To(users.map_err(|error| error.to_string())?))
        }
        (None, true) => Some(UserChange::Unset),
        (None, false) => None,
    };
    let id52 = args.id52.as_deref().map(MachineId::parse).transpose();
    Ok(MachineChange {
        id52: id52.map_err(|error| {
            format!("the machine's id52 is wrong: {error} (on the machine, malai id shows it)")
        })?,
        allow_from: list(&args.allow_from, Unset::AllowFrom, "--allow-from")?,
        allow_shell: list(&args.allow_shell, Unset::AllowShell, "--allow-shell")?,
        allow_files: list(&args.allow_files, Unset::AllowFiles, "--allow-files")?,
        allow_forward: list(&args.allow_forward, Unset::AllowForward, "--allow-forward")?,
        username,
        add_to: groups(&args.add_group)?,
        remove_from: groups(&args.remove_group)?,
    })
}

pub(super) fn groups(names: &[String]) -> Result<Vec<GroupName>, String> {
    let names = names.iter().flat_map(|names| entries(names));
    let groups = names.map(|name| GroupName::parse(&name).map_err(|error| error.to_string()));
    groups.collect()
}

/// Renames a machine.
pub(super) fn rename(
    home: &Home,
    [alias_, old, new]: [&str; 3],
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let parsed = (|| Ok((alias(alias_)?, machine(old)?, machine(new)?)))();
    let (alias, old, new) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let error: String = error;
            return usage("rename the machine", &error, printer);
        }
    };
    let edited = edit::rename(home, &alias, &old, &new)?;
    printer.out(&format!(
        "Renamed machine {old} to {new} in {}, including every list\n",
        display_path(&edited.path)
    ));
    show_edit(&edited, printer);
    printer.out(&format!(
        "   Owners have to change {old} in their own malai.toml ([aliases], [accept.{alias}])\n"
    ));
    publish(home, &alias, printer)
}

/// Renames a cluster on this computer.
pub(super) fn rename_alias(
    home: &Home,
    [old, new]: [&str; 2],
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let parsed = (|| Ok((alias(old)?, alias(new)?)))();
    let (old, new) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let error: String = error;
            return usage("rename the cluster", &error, printer);
        }
    };
    // A machine of this name is probably meant, with its new name forgotten.
    if Names::of(home).has(&format!("{new}.{old}")) {
        anyhow::bail!(
            "{new} is a machine of {old}: malai cluster rename {old} {new} <new name> renames it; nothing was changed, and a cluster cannot be called like one of its machines"
        );
    }
    match aside::rename_alias(home, &old, &new) {
        Ok(()) => {}
        Err(error @ aside::AsideError::Unknown { .. }) => anyhow::bail!(
            "{error} (to rename a machine: malai cluster rename <cluster> {old} {new})"
        ),
        Err(error) => return Err(error.into()),
    }
    printer.out(&format!(
        "The cluster {old} is now called {new} on this computer: targets are <machine>.{new}\n"
    ));
    // The old name first, because one identity cannot be served twice.
    for alias in [&old, &new] {
        let request = Request::Rescan(Rescan {
            cluster: Some(alias.to_string()),
            publish_older: false,
        });
        match control::ask(home, &request) {
            Ok(None) => return Ok(Exit::OK),
            Ok(Some(Reply::Rescanned(reports))) if reports.iter().all(|report| report.ok) => {}
            Ok(Some(Reply::Rescanned(reports))) => {
                let lines = reports.iter().flat_map(|report| &report.lines);
                let lines: Vec<&str> = lines.map(String::as_str).collect();
                printer.say(&format!("the running daemon: {}", lines.join("; ")));
                return Ok(Exit::FAILED);
            }
            Ok(Some(_)) => {
                printer.say("the running daemon sent an unexpected reply: run malai rescan");
                return Ok(Exit::FAILED);
            }
            Err(error) => {
                printer.say(&format!(
                    "the running daemon could not be notified: {error}; run malai rescan"
                ));
                return Ok(Exit::FAILED);
            }
        }
    }
    printer.out("🔄 The running daemon serves it under the new name\n");
    Ok(Exit::OK)
}

/// Removes a machine.
pub(super) fn remove(
    home: &Home,
    [alias_, name]: [&str; 2],
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let parsed = (|| Ok((alias(alias_)?, machine(name)?)))();
    let (alias, name) = match parsed {
        Ok(names) => names,
        Err(error) => {
            let error: String = error;
            return usage("remove the machine", &error, printer);
        }
    };
    let edited = edit::remove(home, &alias, &name)?;
    printer.out(&format!(
        "Removed machine {name} from {}, with its services and folders, and from every list in it\n",
        display_path(&edited.path)
    ));
    show_edit(&edited, printer);
    publish(home, &alias, printer)
}
