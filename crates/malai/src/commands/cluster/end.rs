//! `malai cluster delete` and `malai cluster leave`: remove a cluster's folder. The key is kept unless told to destroy it.

use malai_cluster::ClusterAlias;
use malai_node::{Home, Role, aside, control, display_path};
use malai_wire::control::{Reply, Request, Rescan};

use super::{Asked, alias, ask, usage};
use crate::cli::EndArgs;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Gives up a cluster that is managed here.
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
        "Without the key of `{alias}`, which this computer holds as its manager, the cluster's configuration can no longer be changed; its machines keep the last one"
    );
    if let Some(exit) = not_confirmed("delete", &alias, &consequence, args, printer) {
        return Ok(exit);
    }
    end(home, &alias, Role::Manager, args, printer)?;
    printer.out(&format!(
        "   Its machines keep running with their last configuration, until you run malai cluster leave {alias} on each of them\n"
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
        "After this computer has left `{alias}`, members can no longer run commands on it, nor can it run any on them; joining again requires a new key"
    );
    if let Some(exit) = not_confirmed("leave", &alias, &consequence, args, printer) {
        return Ok(exit);
    }
    end(home, &alias, Role::Machine, args, printer)?;
    printer.out("   The manager lists this machine until it is removed there: malai cluster remove <alias> <name>\n");
    tell(home, &alias, printer)
}

/// Asks for confirmation unless it was given already. Returns the exit code if it is refused.
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
        true => "Its key will be DESTROYED: only a copy of your own can bring it back",
        false => "Its folder, with the key, will be kept in $MALAI_HOME/removed",
    };
    let question = format!("{consequence}. {key}. Type the cluster's name to continue:");
    match ask(&question) {
        Asked::Line(answer) if answer == alias.as_str() => None,
        Asked::Line(_) | Asked::End => {
            printer.say("that is not its name; nothing was changed");
            Some(Exit::FAILED)
        }
        Asked::NoTerminal => {
            let destroy = match args.destroy_key {
                true => " --destroy-key",
                false => "",
            };
            printer.say(&format!(
                "nothing was changed: this has to be confirmed, and there is no terminal to ask on. {consequence}. {key}. To confirm: malai cluster {verb} {alias}{destroy} --yes"
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
        Role::Manager => format!("The cluster {alias} is no longer managed here"),
        Role::Machine => format!("This computer has left the cluster {alias}"),
    };
    printer.out(&format!("{done}\n"));
    if args.destroy_key {
        aside::destroy(&kept)?;
        printer.out("   Its folder and its key are deleted\n");
    } else {
        printer.out(&format!(
            "   Its folder, with the key, is kept: {}\n   To restore it: mv {} {} && malai rescan\n",
            display_path(&kept),
            display_path(&kept),
            display_path(&home.cluster_dir(alias).path)
        ));
    }
    Ok(())
}

/// Makes a running daemon stop serving it.
fn tell(home: &Home, alias: &ClusterAlias, printer: &Printer) -> anyhow::Result<Exit> {
    let request = Request::Rescan(Rescan {
        cluster: Some(alias.to_string()),
        publish_older: false,
    });
    match control::ask(home, &request) {
        Ok(None) => Ok(Exit::OK),
        Ok(Some(Reply::Rescanned(_))) => {
            printer.out("🔄 The running daemon no longer serves it\n");
            Ok(Exit::OK)
        }
        // A daemon that did not serve it does not know it.
        Ok(Some(Reply::Failed(_))) => Ok(Exit::OK),
        Ok(Some(_)) => {
            printer.say("the running daemon sent an unexpected reply: run malai rescan");
            Ok(Exit::FAILED)
        }
        Err(error) => {
            printer.say(&format!(
                "the running daemon could not be notified: {error}; run malai rescan"
            ));
            Ok(Exit::FAILED)
        }
    }
}
