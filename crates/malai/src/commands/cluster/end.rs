//! `malai cluster delete` and `malai cluster leave`: a cluster's folder goes, and its key is kept unless its
//! destruction is asked for.

use malai_cluster::ClusterAlias;
use malai_node::{Home, Role, aside, control, display_path};
use malai_wire::control::{Reply, Request, Rescan};

use super::{Asked, alias, ask, usage};
use crate::cli::EndArgs;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Stops managing a cluster here.
pub(super) fn delete(
    home: &Home,
    text: &str,
    args: &EndArgs,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let alias = match alias(text) {
        Ok(alias) => alias,
        Err(error) => return usage("delete the cluster", &error, printer),
    };
    aside::find(home, &alias, Role::Manager)?;
    let consequence = format!(
        "This computer is the manager of {alias}: without its key no change of the cluster's configuration is possible any more, and its machines go on by the last one"
    );
    if let Some(exit) = not_confirmed("delete", &alias, &consequence, args, printer) {
        return Ok(exit);
    }
    end(home, &alias, Role::Manager, args, printer)?;
    printer.out(&format!(
        "   Its machines keep their last configuration, and go on by it: malai cluster leave {alias}, on each of them, ends that\n"
    ));
    tell(home, &alias, printer)
}

/// Leaves a cluster that is managed elsewhere.
pub(super) fn leave(
    home: &Home,
    text: &str,
    args: &EndArgs,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let alias = match alias(text) {
        Ok(alias) => alias,
        Err(error) => return usage("leave the cluster", &error, printer),
    };
    aside::find(home, &alias, Role::Machine)?;
    let consequence = format!(
        "This computer leaves {alias}: no member can run commands on it any more, and it cannot run any on them; to join again takes a new key"
    );
    if let Some(exit) = not_confirmed("leave", &alias, &consequence, args, printer) {
        return Ok(exit);
    }
    end(home, &alias, Role::Machine, args, printer)?;
    printer.out("   The manager lists this machine until it is removed there: malai cluster remove <alias> <name>\n");
    tell(home, &alias, printer)
}

/// Asks, where it was not said already that it is meant. Returns the exit code if it is not done.
fn not_confirmed(
    verb: &str,
    alias: &ClusterAlias,
    consequence: &str,
    args: &EndArgs,
    printer: &Printer,
) -> Option<Exit> {
    if args.yes {
        return None;
    }
    let key = match args.destroy_key {
        true => "Its key is DESTROYED: nothing brings it back but a copy of your own",
        false => "Its folder, with the key, is kept in $MALAI_HOME/removed",
    };
    let question = format!("{consequence}. {key}. Type the cluster's name to go on:");
    match ask(&question) {
        Asked::Line(answer) if answer == alias.as_str() => None,
        Asked::Line(_) | Asked::End => {
            printer.say("that is not its name; nothing was changed");
            Some(Exit::FAILED)
        }
        Asked::NoTerminal => {
            printer.say(&format!(
                "{consequence}. {key}. There is no terminal to ask on, so nothing was changed: malai cluster {verb} {alias} --yes"
            ));
            Some(Exit::FAILED)
        }
    }
}

fn end(
    home: &Home,
    alias: &ClusterAlias,
    role: Role,
    args: &EndArgs,
    printer: &Printer,
) -> anyhow::Result<()> {
    let kept = aside::set_aside(home, alias, role)?;
    let done = match role {
        Role::Manager => format!("The cluster {alias} is not managed here any more"),
        Role::Machine => format!("This computer has left the cluster {alias}"),
    };
    printer.out(&format!("{done}\n"));
    if args.destroy_key {
        aside::destroy(&kept)?;
        printer.out("   Its folder and its key are deleted\n");
    } else {
        printer.out(&format!(
            "   Its folder, with the key, is kept: {}\n   Back it comes by: mv {} {} && malai rescan\n",
            display_path(&kept),
            display_path(&kept),
            display_path(&home.cluster_dir(alias).path)
        ));
    }
    Ok(())
}

/// Lets a running daemon serve it no more.
fn tell(home: &Home, alias: &ClusterAlias, printer: &Printer) -> anyhow::Result<Exit> {
    let request = Request::Rescan(Rescan {
        cluster: Some(alias.to_string()),
        publish_older: false,
    });
    match control::ask(home, &request) {
        Ok(None) => Ok(Exit::OK),
        Ok(Some(Reply::Rescanned(_))) => {
            printer.out("🔄 The running daemon serves it no more\n");
            Ok(Exit::OK)
        }
        // One that did not serve it does not know it.
        Ok(Some(Reply::Failed(_))) => Ok(Exit::OK),
        Ok(Some(_)) => {
            printer.say("the running daemon sent an unexpected reply: run malai rescan");
            Ok(Exit::FAILED)
        }
        Err(error) => {
            printer.say(&format!(
                "the running daemon was not told: {error}; run malai rescan"
            ));
            Ok(Exit::FAILED)
        }
    }
}
