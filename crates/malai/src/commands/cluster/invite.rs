//! `malai cluster invite`, `invites` and `revoke-invite`: lines that let a new machine in.

use std::time::Duration;

use anyhow::Context;
use malai_cluster::{Cluster, Hint, Invitation, InvitationId, MachineId, NamePattern, escape};
use malai_node::invitations::{self, Invited};
use malai_node::{Home, Settings, edit, keystore, own_addresses};
use malai_wire::time::Timestamp;
use serde::Serialize;

use super::change::groups;
use super::{alias, usage};
use crate::cli::InviteArgs;
use crate::commands::reload::runs;
use crate::output::Printer;
use crate::output::exit::Exit;
use crate::output::table::Table;

/// How many addresses of this computer an invitation has.
const MAX_ADDRESSES: usize = 4;

/// How many of the cluster's own relays it has.
const MAX_RELAYS: usize = 2;

/// The longest time for which an invitation can be good.
const MAX_EXPIRY: Duration = Duration::from_secs(90 * 86_400);

/// Makes an invitation, and prints its line.
pub(super) fn invite(home: &Home, args: &InviteArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let parsed = (|| {
        let names = NamePattern::parse(&args.name).map_err(|error| error.to_string())?;
        if names.only().is_some() && args.uses > 1 {
            return Err(format!(
                "several machines cannot have the name {names}: use a pattern, as in --name 'web*'"
            ));
        }
        if args.expires > MAX_EXPIRY {
            return Err("an invitation is good for at most 90 days".to_owned());
        }
        Ok((alias(&args.alias)?, names, groups(&args.group)?))
    })();
    let (alias, names, groups) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let error: String = error;
            return usage("invite a machine", &error, printer);
        }
    };
    let dir = edit::managed(home, &alias)?;
    let manager = keystore::load(&dir.cluster_key())?.id();
    let cluster = edit::would_admit(&dir, &groups, &args.allow_from)?;
    if let Some(only) = names.only()
        && cluster.machine_named(only.as_str()).is_some()
    {
        anyhow::bail!("{alias} already has a machine {only}; nothing was changed");
    }
    let invitation = Invitation {
        cluster: cluster.id(),
        secret: invitations::new_secret(),
        alias: Some(alias.clone()),
        hints: hints(home, &manager, &cluster)?,
    };
    let now = invitations::now();
    let lasts = u64::try_from(args.expires.as_millis()).unwrap_or(u64::MAX);
    let invited = Invited {
        names,
        groups,
        allow_from: args.allow_from.clone(),
        uses: args.uses,
        created: now,
        expires: Timestamp(now.0.saturating_add(lasts)),
        key: invitation.key(),
        revoked: None,
        revoked_because: None,
        used: Vec::new(),
    };
    let id = invitations::create(&dir, &invited)?;
    printer.out(&format!("{}\n", invitation.to_line()));
    printer.say(&format!(
        "the invitation {id} is for {}, until {}; on the new machine: malai join <this line>",
        for_whom(&invited),
        short(invited.expires),
    ));
    if invited.allow_from.is_empty() {
        printer.say(&format!(
            "it lets no one run commands there, except where a group's rules do: --allow-from <list>, or later malai cluster set {alias} <name> --allow-from <list>"
        ));
    }
    if !runs(home) {
        printer.say(
            "no daemon is running here: start it (malai daemon), machines join only while it runs",
        );
    }
    Ok(Exit::OK)
}

/// Where the manager may be found.
fn hints(home: &Home, manager: &MachineId, cluster: &Cluster) -> anyhow::Result<Vec<Hint>> {
    let reach = Settings::load(home)?.effective_reach()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let addresses = runtime.block_on(own_addresses(manager, reach, MAX_ADDRESSES));
    let relays = cluster.network().relays().iter().take(MAX_RELAYS);
    let relays = relays.map(|relay| Hint::Relay(relay.to_string()));
    Ok(relays
        .chain(addresses.into_iter().map(Hint::Address))
        .collect())
}

fn for_whom(invited: &Invited) -> String {
    match invited.uses {
        1 => format!("one machine named {}", invited.names),
        uses => format!("{uses} machines named {}", invited.names),
    }
}

/// Lists the invitations.
pub(super) fn list(home: &Home, text: &str, json: bool, printer: &Printer) -> anyhow::Result<Exit> {
    let alias = match alias(text) {
        Ok(alias) => alias,
        Err(error) => return usage("list the invitations", &error, printer),
    };
    let dir = edit::managed(home, &alias)?;
    let all = invitations::list(&dir)?;
    let now = invitations::now();
    let mut listed = Vec::new();
    let mut is_whole = true;
    for (id, invited) in &all {
        match invited {
            Ok(invited) => listed.push(Listed::of(*id, invited, now)),
            Err(error) => {
                printer.say(&error.to_string());
                is_whole = false;
            }
        }
    }
    let exit = if is_whole { Exit::OK } else { Exit::FAILED };
    if json {
        printer.out(&format!("{}\n", serde_json::to_string_pretty(&listed)?));
        return Ok(exit);
    }
    if listed.is_empty() {
        printer.out(&format!(
            "No invitations to {alias}: malai cluster invite {alias} --name <name> makes one\n"
        ));
        return Ok(exit);
    }
    let mut table = Table::new(["ID", "NAMES", "GROUPS", "USES LEFT", "STATE", "USED BY"]);
    for invited in &listed {
        let used = invited
            .used
            .iter()
            .map(|used| format!("{} ({}) at {}", used.name, used.short, short(used.at)));
        let used: Vec<String> = used.collect();
        let or_dash = |text: String| match text.is_empty() {
            true => "-".to_owned(),
            false => text,
        };
        table.row([
            invited.id.clone(),
            invited.names.clone(),
            or_dash(invited.groups.join(", ")),
            format!("{} of {}", invited.uses_left, invited.uses),
            invited.state(),
            or_dash(used.join(", ")),
        ]);
    }
    printer.out(&table.to_string());
    Ok(exit)
}

/// An invitation, as printed by `--json`.
#[derive(Serialize)]
struct Listed {
    id: String,
    names: String,
    groups: Vec<String>,
    allow_from: Vec<String>,
    uses: u32,
    uses_left: u32,
    created: Timestamp,
    expires: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_because: Option<String>,
    /// Whether it may still let a machine in.
    open: bool,
    used: Vec<ListedUse>,
}

/// A use, as printed by `--json`.
#[derive(Serialize)]
struct ListedUse {
    name: String,
    id52: String,
    at: Timestamp,
    from: String,
    #[serde(skip)]
    short: String,
}

impl Listed {
    fn of(id: InvitationId, invited: &Invited, now: Timestamp) -> Self {
        let used = invited.used.iter().map(|used| ListedUse {
            name: used.name.to_string(),
            id52: used.id52.to_string(),
            at: used.at,
            from: used.from.clone(),
            short: used.id52.short(),
        });
        Self {
            id: id.to_string(),
            names: invited.names.to_string(),
            groups: invited.groups.iter().map(ToString::to_string).collect(),
            allow_from: invited.allow_from.clone(),
            uses: invited.uses,
            uses_left: invited.left(),
            created: invited.created,
            expires: invited.expires,
            revoked: invited.revoked,
            revoked_because: invited.revoked_because.clone(),
            open: invited.is_open(now),
            used: used.collect(),
        }
    }

    fn state(&self) -> String {
        match (&self.revoked, self.open) {
            (Some(at), _) => {
                let because = self.revoked_because.as_deref().map(escape);
                let because = because.map(|why| format!(" ({why})"));
                format!("revoked at {}{}", short(*at), because.unwrap_or_default())
            }
            (None, true) => format!("open until {}", short(self.expires)),
            (None, false) if self.uses_left == 0 => "used".to_owned(),
            (None, false) => format!("expired at {}", short(self.expires)),
        }
    }
}

/// A time without its milliseconds.
fn short(at: Timestamp) -> String {
    let text = at.to_string();
    let (seconds, _) = text.split_once('.').unwrap_or((&text, ""));
    format!("{seconds}Z")
}

/// Revokes an invitation.
pub(super) fn revoke(
    home: &Home,
    [alias_, id]: [&str; 2],
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let alias = match alias(alias_) {
        Ok(alias) => alias,
        Err(error) => return usage("revoke the invitation", &error, printer),
    };
    let dir = edit::managed(home, &alias)?;
    let invited = invitations::revoke(&dir, id, invitations::now(), None)?;
    printer.out(&format!("The invitation {id} to {alias} is revoked\n"));
    for used in &invited.used {
        printer.out(&format!(
            "   {} has joined with it and stays: malai cluster remove {alias} {}\n",
            used.name, used.name
        ));
    }
    Ok(Exit::OK)
}
