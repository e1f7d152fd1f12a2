//! The screen of `malai status`. Its first lines are exactly the tutorial's, because scripts grep for them.

use std::cmp::Ordering;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use malai_cluster::escape;
use malai_node::{Condition, DaemonState, Facts, LocalCluster, Role};
use malai_wire::status::{
    ClusterFacts, MachineFacts, MachineState, MembershipState, NetworkPath, Notice, NoticeKind,
    RelayFacts,
};

use crate::output::duration;
use crate::output::text::problems;

/// The indentation of every line below a cluster's name.
const INDENT: &str = "      ";

/// The whole screen, with a newline at its end.
pub fn render(facts: &Facts) -> String {
    let mut out = String::new();
    head(&mut out, facts);
    daemon(&mut out, facts);
    for problem in &facts.problems {
        line(&mut out, &format!("⚠️  {}", escape(problem)));
    }
    clusters(&mut out, facts);
    forwards(&mut out, facts);
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn path(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

fn head(out: &mut String, facts: &Facts) {
    line(out, "📊 malai Status");
    line(out, "═══════════════════════════════════════");
    line(out, &format!("📁 MALAI_HOME: {}", path(&facts.home)));
}

fn daemon(out: &mut String, facts: &Facts) {
    let lock = path(&facts.lock.path);
    let socket = path(&facts.socket.path);
    let pid = facts
        .pid
        .map(|pid| format!(" (pid {pid})"))
        .unwrap_or_default();
    let text = match facts.state {
        DaemonState::Running => format!(
            "🔒 Daemon: RUNNING ✅
   📁 Lock: {lock}
   🔌 Socket: {socket} (CLI communication active)
🔍 Testing daemon responsiveness... ✅ RESPONSIVE"
        ),
        DaemonState::NotResponsive => format!(
            "🔒 Daemon: RUNNING ⚠️
   📁 Lock: {lock}
   🔌 Socket: {socket} (no CLI communication)
🔍 Testing daemon responsiveness... ❌ NOT RESPONSIVE
   ⚠️  {}
   💡 A daemon{pid} holds the lock but does not respond. Check {}, end it{}, and start a new one: malai daemon",
            match &facts.no_answer {
                Some(reason) => escape(reason),
                None => "the daemon was not contacted".to_owned(),
            },
            path(&facts.home.join("malai.log")),
            facts.pid.map(|pid| format!(" (kill {pid}, or kill -9 {pid} if that does nothing)")).unwrap_or_default(),
        ),
        DaemonState::Starting => format!(
            "🔒 Daemon: STARTING ⚠️
   📁 Lock: {lock}
   🔌 Socket: {socket} (not there yet)
   💡 A daemon{pid} holds the lock but is not ready yet; try again shortly: malai status"
        ),
        DaemonState::Crashed => format!(
            "🔒 Daemon: CRASHED ❌
   🔌 Socket: {socket} (left behind by a daemon that did not exit cleanly)
   💡 See why: malai logs
   💡 Start it again: malai daemon"
        ),
        DaemonState::NotRunning if facts.lock.present => format!(
            "🔒 Daemon: NOT RUNNING 💤
   📁 Lock: {lock} (no daemon holds it)
   💡 Start it: malai daemon"
        ),
        // Without a cluster there is nothing to serve: the section of clusters says what comes first.
        DaemonState::NotRunning if facts.clusters.is_empty() => {
            "🔒 Daemon: NOT RUNNING 💤".to_owned()
        }
        DaemonState::NotRunning => "🔒 Daemon: NOT RUNNING 💤
   💡 Start it: malai daemon"
            .to_owned(),
    };
    line(out, &text);
    let Some(daemon) = &facts.daemon else { return };
    if daemon.version != facts.version {
        line(
            out,
            &format!(
                "⚠️  The daemon is malai {}, this command line malai {}: restart the daemon (malai stop, malai daemon)",
                escape(&daemon.version),
                facts.version
            ),
        );
    }
    if let Some(trouble) = &daemon.audit {
        line(out, &format!("⚠️  {}", escape(trouble)));
    }
    for notice in &daemon.notices {
        line(out, &format!("⚠️  {}", escape(&notice.text)));
    }
}

/// What `[forward]` in malai.toml listens on, if it has lines.
fn forwards(out: &mut String, facts: &Facts) {
    let forwards = facts.daemon.iter().flat_map(|daemon| &daemon.forwards);
    let mut forwards = forwards.peekable();
    if forwards.peek().is_none() {
        return;
    }
    line(out, "\n🔀 Forwards ([forward] in malai.toml):");
    for forward in forwards {
        let (listen, to) = (escape(&forward.listen), escape(&forward.to));
        let connections = match forward.problem {
            Some(_) => String::new(),
            None => format!(" ({} open, {} in all)", forward.open, forward.total),
        };
        line(out, &format!("   {listen} → {to}{connections}"));
        if let Some(problem) = &forward.problem {
            line(out, &format!("{INDENT}⚠️  {}", escape(problem)));
        }
        if let (Some(failure), Some(ago)) = (&forward.failure, forward.failed_seconds_ago) {
            let (ago, failure) = (span(ago), escape(failure));
            line(out, &format!("{INDENT}last failure, {ago} ago: {failure}"));
        }
    }
}

fn clusters(out: &mut String, facts: &Facts) {
    let managed = facts
        .clusters
        .iter()
        .filter(|c| c.role == Some(Role::Manager));
    section(out, facts, "🏗️  Cluster Configurations:", managed);
    let joined = facts
        .clusters
        .iter()
        .filter(|c| c.role == Some(Role::Machine));
    section(out, facts, "🖥️  Machine Configurations:", joined);
    let unclear = facts.clusters.iter().filter(|c| c.role.is_none());
    section(out, facts, "❓ Unrecognized folders in clusters/:", unclear);
    if facts.clusters.is_empty() {
        line(
            out,
            "
🏗️  Cluster Configurations:
   none yet
   💡 Create a cluster: malai cluster init <alias>
   💡 Or join one: malai machine init <manager-id52> <alias>",
        );
        if facts.state == DaemonState::NotRunning {
            line(out, "   💡 Then start the daemon: malai daemon");
        }
    }
}

fn section<'a>(
    out: &mut String,
    facts: &Facts,
    heading: &str,
    clusters: impl Iterator<Item = &'a LocalCluster>,
) {
    let mut clusters = clusters.peekable();
    if clusters.peek().is_none() {
        return;
    }
    line(out, &format!("\n{heading}"));
    for cluster in clusters {
        let served = facts
            .daemon
            .as_ref()
            .and_then(|daemon| daemon.clusters.iter().find(|c| c.alias == cluster.alias));
        local_lines(out, cluster, served);
        if let Some(served) = served {
            served_lines(out, cluster, served);
        } else if facts.daemon.is_some() {
            match cluster.condition {
                Condition::Stray => {}
                Condition::Broken => line(out, &format!("{INDENT}❌ The daemon does not serve it")),
                _ => line(
                    out,
                    &format!("{INDENT}⚠️  The daemon does not serve it yet: malai rescan"),
                ),
            }
        }
    }
}

fn local_lines(out: &mut String, cluster: &LocalCluster, served: Option<&ClusterFacts>) {
    let alias = escape(&cluster.alias);
    let config = path(&cluster.config);
    let heading = match cluster.role {
        Some(Role::Manager) => format!("👑 {alias} (Cluster Manager)"),
        Some(Role::Machine) => format!("💻 {alias} (Machine)"),
        None => format!("❓ {alias}"),
    };
    line(out, &format!("   {heading}"));
    let mut item = |text: &str| line(out, &format!("{INDENT}{text}"));
    match cluster.role {
        Some(_) => item(&format!("📄 Config: {config}")),
        None => item(&format!("📁 Folder: {config}")),
    }
    if cluster.role == Some(Role::Manager) {
        match cluster.machines {
            Some(count) => item(&format!("📊 Machines: {count}")),
            None => item("📊 Machines: unknown"),
        }
    }
    if let Some(manager) = &cluster.manager {
        item(&format!("🆔 Manager: {manager}"));
    }
    if let (Some(Role::Machine), Some(own)) = (cluster.role, &cluster.own_id) {
        item(&format!("🔑 This machine: {own}"));
    }
    if cluster.unpublished {
        item(&format!("📝 Unpublished changes: malai rescan {alias}"));
    }
    let membership = served.map(|served| served.membership);
    let joining = served.and_then(|served| {
        let facts = served.joining.as_ref();
        facts.and(served.membership_notice.as_ref())
    });
    let joining = match served {
        Some(_) => joining,
        None => cluster.joining.as_ref(),
    };
    if let Some(notice) = joining {
        item(&format!("⏳ {}", escape(notice)));
    } else if cluster.condition == Condition::Waiting
        && membership != Some(MembershipState::NotAManager)
    {
        item("⏳ Waiting for the first configuration: the manager has to add this machine");
    }
    let is_explained = served.is_some_and(|served| served.notices.iter().any(is_of_files));
    if cluster.errors > 0 && is_explained {
        // The daemon's notice about the files is shown instead.
    } else if cluster.errors + cluster.warnings > 0 {
        let symbol = if cluster.errors > 0 { "❌" } else { "⚠️ " };
        let count = problems(cluster.errors, cluster.warnings);
        // A folder without a role may have a name that cannot be typed.
        match cluster.role {
            Some(_) => item(&format!("{symbol} {count}: malai rescan --check {alias}")),
            None => item(&format!("{symbol} {count}: malai rescan --check")),
        }
    }
}

fn served_lines(out: &mut String, cluster: &LocalCluster, served: &ClusterFacts) {
    let mut item = |text: &str| line(out, &format!("{INDENT}{text}"));
    if matches!(
        served.membership,
        MembershipState::Removed | MembershipState::NotAManager
    ) {
        let notice = served.membership_notice.as_deref().unwrap_or_default();
        item(&format!("❌ {}", escape(notice)));
    }
    // What is known about a false manager is meaningless.
    if served.membership == MembershipState::NotAManager {
        return;
    }
    match served.revision {
        Some(revision) => item(&format!("🔖 Revision: {revision}")),
        None => item("🔖 Revision: none yet"),
    }
    if cluster.role == Some(Role::Machine) {
        match served.manager_reachable_seconds_ago {
            Some(seconds) => item(&format!("📡 Manager last reached: {} ago", span(seconds))),
            None => item("📡 Manager last reached: not since the daemon started"),
        }
    }
    if let Some(relay) = served.relay.as_ref().filter(|relay| relay.own) {
        item(&relay_line(relay));
    }
    let names: Vec<String> = served.machines.iter().map(name).collect();
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or_default();
    for (machine, name) in served.machines.iter().zip(names) {
        let facts = machine_facts(machine, served);
        let symbol = match machine.state {
            MachineState::NotAnswering => "⚠️ ",
            MachineState::Answering | MachineState::Idle => "🖥️ ",
        };
        item(&format!(
            "{symbol} {name:width$} {}  {facts}",
            machine.id.short()
        ));
    }
    for waiting in &served.waiting {
        item(&format!(
            "⏳ {waiting} (compare with what machine init printed)"
        ));
    }
    for notice in &served.notices {
        let symbol = match notice.kind {
            NoticeKind::Invitation => "✉️ ",
            _ if cluster.errors > 0 && is_of_files(notice) => "❌",
            _ => "⚠️ ",
        };
        item(&format!("{symbol} {}", escape(&notice.text)));
    }
}

/// The cluster's own relay.
fn relay_line(relay: &RelayFacts) -> String {
    let url = escape(&relay.url);
    match (&relay.problem, relay.connected) {
        (_, true) => format!("🛰️  Relay: {url} (connected)"),
        (Some(problem), false) => format!("⚠️  Relay: {url} (not connected: {})", escape(problem)),
        (None, false) => format!("⚠️  Relay: {url} (not connected)"),
    }
}

/// Whether the notice is about errors in the cluster's files, which the check of the files also finds.
fn is_of_files(notice: &Notice) -> bool {
    matches!(
        notice.kind,
        NoticeKind::Configuration | NoticeKind::NewerRevision
    )
}

/// A machine's name; a manager may have none.
fn name(machine: &MachineFacts) -> String {
    match &machine.name {
        Some(name) => escape(name),
        None => "(manager)".to_owned(),
    }
}

fn machine_facts(machine: &MachineFacts, cluster: &ClusterFacts) -> String {
    let current = cluster.revision;
    let mut facts = match machine.revision {
        Some(0) => "no configuration".to_owned(),
        Some(revision) => match current.map(|current| revision.cmp(&current)) {
            Some(Ordering::Equal) => format!("revision {revision} (current)"),
            Some(Ordering::Less) => format!("revision {revision} (behind)"),
            Some(Ordering::Greater) => format!("revision {revision} (ahead)"),
            None => format!("revision {revision}"),
        },
        None => "revision unknown".to_owned(),
    };
    match machine.heard_seconds_ago {
        Some(seconds) => _ = write!(facts, " · heard {} ago", span(seconds)),
        None => facts.push_str(" · never heard from"),
    }
    match machine.state {
        MachineState::Answering | MachineState::Idle => {}
        MachineState::NotAnswering => facts.push_str(" · not answering"),
    }
    if let (Some(seconds), Some(why)) = (machine.failed_seconds_ago, &machine.failure) {
        _ = write!(facts, " (tried {} ago: {})", span(seconds), escape(why));
    }
    if let Some(path) = machine.path {
        facts.push_str(match path {
            NetworkPath::Direct => " · direct",
            NetworkPath::Relayed => " · relayed",
            NetworkPath::Other => " · by another path",
        });
        if let Some(rtt) = machine.rtt_ms {
            let digits = if rtt < 10.0 { 1 } else { 0 };
            _ = write!(facts, " {rtt:.digits$} ms");
        }
        if let (NetworkPath::Relayed, Some(why)) = (path, &cluster.obstacle) {
            _ = write!(facts, " ({})", escape(why));
        }
    }
    facts
}

fn span(seconds: u64) -> String {
    duration::format(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
