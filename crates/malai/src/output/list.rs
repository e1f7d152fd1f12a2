//! The tables of `malai list`. Pure.

use std::time::Duration;

use malai_cluster::{MachineId, escape};
use malai_wire::ping::{PingAnswer, Pinged};
use malai_wire::status::{MachineFacts, MachineState, NetworkPath};
use serde::{Serialize, Serializer};

use crate::output::duration;
use crate::output::ping::milliseconds;
use crate::output::table::Table;

/// A cluster and its machines.
#[derive(Debug, Serialize)]
pub struct ListedCluster {
    /// Its alias.
    pub alias: String,
    /// Whether it is managed here.
    pub managed: bool,
    /// The revision in force here, if a daemon reports it.
    pub revision: Option<u64>,
    /// The daemon's notices about it, in complete sentences.
    pub notices: Vec<String>,
    /// Whether this computer has a configuration of it.
    #[serde(skip)]
    pub has_configuration: bool,
    /// Its machines, by name.
    #[serde(serialize_with = "machines")]
    pub machines: Vec<ListedMachine>,
    /// Its folders, by name.
    pub folders: Vec<ListedFolder>,
    /// Its services, by name.
    pub services: Vec<ListedService>,
}

/// A folder.
#[derive(Debug, Serialize)]
pub struct ListedFolder {
    /// Its name.
    pub name: String,
    /// The machine that it is on.
    pub machine: String,
    /// Its path there.
    pub path: String,
    /// Whether files in it may be changed.
    pub write: bool,
    /// Whether this computer may copy files from it.
    pub may: bool,
}

/// A service.
#[derive(Debug, Serialize)]
pub struct ListedService {
    /// Its name.
    pub name: String,
    /// The machine that it runs on.
    pub machine: String,
    /// Where it listens there.
    pub address: String,
    /// `tcp`, `http` or `unix`.
    pub protocol: &'static str,
    /// Whether this computer may connect to it.
    pub may: bool,
}

/// A machine.
#[derive(Debug)]
pub struct ListedMachine {
    /// Its name.
    pub name: String,
    /// Its key.
    pub id: MachineId,
    /// Its groups.
    pub groups: Vec<String>,
    /// Whether it is this computer.
    pub is_here: bool,
    /// What the daemon knows of it.
    pub known: Option<MachineFacts>,
    /// The result of pinging it just now.
    pub asked: Option<Pinged>,
    /// Whether this computer may run any command there.
    pub may_run_commands: bool,
    /// Whether it may open a shell there.
    pub may_open_shell: bool,
    /// The command entry that replaces whatever is asked for there.
    pub forced: Option<String>,
    /// The command entries that it may run there.
    pub may_run: Vec<String>,
    /// The user that commands run as there; `None` is the daemon's own.
    pub user: Option<String>,
}

/// Whether a machine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Presence {
    Here,
    Online,
    Refuses,
    Offline,
    Unknown,
}

impl ListedMachine {
    fn presence(&self) -> Presence {
        if self.is_here {
            return Presence::Here;
        }
        match &self.asked {
            Some(asked) => match asked.answer {
                PingAnswer::Here => Presence::Here,
                PingAnswer::Answers => Presence::Online,
                PingAnswer::Refused => Presence::Refuses,
                PingAnswer::None => Presence::Offline,
            },
            None => match self.known.as_ref().map(|known| known.state) {
                Some(MachineState::Answering) => Presence::Online,
                Some(MachineState::NotAnswering) => Presence::Offline,
                Some(MachineState::Idle) | None => Presence::Unknown,
            },
        }
    }

    /// Seconds since it was last heard from.
    fn last_seen(&self) -> Option<u64> {
        match self.presence() {
            Presence::Online => Some(0),
            _ => self.known.as_ref()?.heard_seconds_ago,
        }
    }

    fn path(&self) -> Option<NetworkPath> {
        let asked = self.asked.as_ref().and_then(|asked| asked.path);
        asked.or_else(|| self.known.as_ref()?.path)
    }

    fn round_trip(&self) -> Option<f64> {
        let asked = self.asked.as_ref().and_then(|asked| asked.least_ms);
        asked.or_else(|| self.known.as_ref()?.rtt_ms)
    }

    fn why(&self) -> Option<&str> {
        let asked = self.asked.as_ref().and_then(|asked| asked.why.as_deref());
        asked.or_else(|| self.known.as_ref()?.failure.as_deref())
    }

    fn may(&self) -> String {
        // The configuration here may differ from the one in force there.
        if self.presence() == Presence::Refuses {
            return "nothing: it refuses this computer".to_owned();
        }
        let mut may = Vec::new();
        if let Some(forced) = &self.forced {
            may.push(format!("only {}", escape(forced)));
        }
        if self.may_run_commands {
            may.push("any command".to_owned());
        }
        if self.may_open_shell {
            may.push("a shell".to_owned());
        }
        if !self.may_run_commands {
            may.extend(self.may_run.iter().map(|name| escape(name)));
        }
        if may.is_empty() {
            return "nothing".to_owned();
        }
        let user = self.user.as_ref();
        let user = user.map_or_else(String::new, |user| format!(" (as {})", escape(user)));
        format!("{}{user}", may.join(", "))
    }
}

fn machines<S: Serializer>(machines: &[ListedMachine], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(machines.iter().map(|machine| {
        serde_json::json!({
            "name": machine.name,
            "id": machine.id.to_string(),
            "groups": machine.groups,
            "state": machine.presence(),
            "last_seen_seconds_ago": machine.last_seen(),
            "path": machine.path(),
            "rtt_ms": machine.round_trip(),
            "why": machine.why(),
            "may": {
                "run_commands": machine.may_run_commands,
                "open_shell": machine.may_open_shell,
                "forced": machine.forced,
                "run": machine.may_run,
                "as": machine.user,
            },
        })
    }))
}

/// One table per cluster.
pub fn render(clusters: &[ListedCluster]) -> String {
    let mut out = String::new();
    for (index, cluster) in clusters.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        out.push_str(&one(cluster));
    }
    out
}

/// What the configuration here allows. A machine's own `[accept]` may allow less, which only that machine knows.
const MAY: &str = "YOU MAY (BY THE CONFIGURATION)";

fn folders(folders: &[ListedFolder]) -> String {
    let mut table = Table::new(["FOLDER", "MACHINE", "PATH", MAY]);
    for folder in folders {
        let may = match (folder.may, folder.write) {
            (true, true) => "read and write",
            (true, false) => "read",
            (false, _) => "nothing",
        };
        table.row([
            folder.name.clone(),
            folder.machine.clone(),
            escape(&folder.path),
            may.to_owned(),
        ]);
    }
    table.to_string()
}

fn services(services: &[ListedService]) -> String {
    let mut table = Table::new(["SERVICE", "MACHINE", "ADDRESS", MAY]);
    for service in services {
        table.row([
            service.name.clone(),
            service.machine.clone(),
            match service.protocol {
                "http" => format!("{} (HTTP)", escape(&service.address)),
                _ => escape(&service.address),
            },
            match service.may {
                true => "connect".to_owned(),
                false => "nothing".to_owned(),
            },
        ]);
    }
    table.to_string()
}

fn one(cluster: &ListedCluster) -> String {
    let role = if cluster.managed {
        ", managed here"
    } else {
        ""
    };
    let revision = cluster
        .revision
        .map_or_else(String::new, |revision| format!(", revision {revision}"));
    let count = match cluster.has_configuration {
        true => super::text::counted(cluster.machines.len(), "machine"),
        false => "no configuration".to_owned(),
    };
    let mut out = format!("{}: {count}{role}{revision}\n", escape(&cluster.alias));
    for notice in &cluster.notices {
        out.push_str(&format!("⚠️  {}\n", escape(notice)));
    }
    if cluster.machines.is_empty() {
        return out;
    }
    let mut table = Table::new(["MACHINE", "STATE", "LAST SEEN", "PATH", "GROUPS", MAY]);
    for machine in &cluster.machines {
        let state = match machine.presence() {
            Presence::Here => "this computer",
            Presence::Online => "online",
            Presence::Refuses => "refuses",
            Presence::Offline => "no answer",
            Presence::Unknown => "unknown",
        };
        let seen = match machine.last_seen() {
            _ if machine.is_here => "-".to_owned(),
            Some(0) if machine.presence() == Presence::Online => "now".to_owned(),
            Some(seconds) => format!("{} ago", duration::format(Duration::from_secs(seconds))),
            None => "never".to_owned(),
        };
        let path = match machine.path() {
            _ if machine.presence() != Presence::Online => "-".to_owned(),
            Some(path) => {
                let word = match path {
                    NetworkPath::Direct => "direct",
                    NetworkPath::Relayed => "relayed",
                    NetworkPath::Other => "other",
                };
                match machine.round_trip() {
                    Some(time) => format!("{word} {}", milliseconds(time)),
                    None => word.to_owned(),
                }
            }
            None => "-".to_owned(),
        };
        let groups = match machine.groups.is_empty() {
            true => "-".to_owned(),
            false => machine.groups.join(","),
        };
        table.row([
            machine.name.clone(),
            state.to_owned(),
            seen,
            path,
            groups,
            machine.may(),
        ]);
    }
    out.push_str(&table.to_string());
    if !cluster.folders.is_empty() {
        out.push_str(&format!("\n{}", folders(&cluster.folders)));
    }
    if !cluster.services.is_empty() {
        out.push_str(&format!("\n{}", services(&cluster.services)));
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const ID: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";

    fn machine(name: &str) -> ListedMachine {
        ListedMachine {
            name: name.to_owned(),
            id: ID.parse().unwrap(),
            groups: Vec::new(),
            is_here: false,
            known: None,
            asked: None,
            may_run_commands: true,
            may_open_shell: true,
            forced: None,
            may_run: vec!["reload".to_owned()],
            user: None,
        }
    }

    #[test]
    fn the_table() {
        let known = |text: &str| {
            let text = format!(r#"{{"id": "{ID}"{text}}}"#);
            Some(serde_json::from_str(&text).unwrap())
        };
        let asked = |text: &str| {
            let text = format!(r#"{{"machine": "m", "cluster": "c", "id": "{ID}"{text}}}"#);
            Some(serde_json::from_str(&text).unwrap())
        };
        let mut here = machine("boss");
        here.is_here = true;
        let mut online = machine("db");
        online.asked = asked(r#", "answer": "answers", "least_ms": 0.7, "path": "direct""#);
        online.known = known(r#", "heard_seconds_ago": 100"#);
        online.groups = vec!["web".to_owned(), "all".to_owned()];
        online.may_run_commands = false;
        online.may_open_shell = false;
        online.user = Some("web".to_owned());
        let mut silent = machine("laptop");
        silent.asked = asked(r#", "answer": "none", "why": "no answer""#);
        silent.known = known(r#", "heard_seconds_ago": 4000"#);
        silent.may_open_shell = false;
        let mut unknown = machine("web01");
        unknown.may_run_commands = false;
        unknown.may_open_shell = false;
        unknown.may_run.clear();
        let clusters = [
            ListedCluster {
                alias: "company".to_owned(),
                managed: true,
                revision: Some(7),
                notices: vec!["look\u{1b}".to_owned()],
                has_configuration: true,
                machines: vec![here, online, silent, unknown],
                folders: [
                    ("drop", true, true),
                    ("logs", false, true),
                    ("old", true, false),
                ]
                .map(|(name, write, may)| ListedFolder {
                    name: name.to_owned(),
                    machine: "db".to_owned(),
                    path: format!("/srv/{name}\u{1b}"),
                    write,
                    may,
                })
                .into(),
                services: [("http", true), ("sql", false)]
                    .map(|(name, may)| ListedService {
                        name: name.to_owned(),
                        machine: "db".to_owned(),
                        address: "127.0.0.1:80".to_owned(),
                        protocol: if name == "http" { "http" } else { "tcp" },
                        may,
                    })
                    .into(),
            },
            ListedCluster {
                alias: "work".to_owned(),
                managed: false,
                revision: None,
                notices: Vec::new(),
                has_configuration: false,
                machines: Vec::new(),
                folders: Vec::new(),
                services: Vec::new(),
            },
        ];
        expect![[r#"
            company: 4 machines, managed here, revision 7
            ⚠️  look\x1b
            MACHINE  STATE          LAST SEEN  PATH           GROUPS   YOU MAY (BY THE CONFIGURATION)
            boss     this computer  -          -              -        any command, a shell
            db       online         now        direct 0.7 ms  web,all  reload (as web)
            laptop   no answer      1h 6m ago  -              -        any command
            web01    unknown        never      -              -        nothing

            FOLDER  MACHINE  PATH           YOU MAY (BY THE CONFIGURATION)
            drop    db       /srv/drop\x1b  read and write
            logs    db       /srv/logs\x1b  read
            old     db       /srv/old\x1b   nothing

            SERVICE  MACHINE  ADDRESS              YOU MAY (BY THE CONFIGURATION)
            http     db       127.0.0.1:80 (HTTP)  connect
            sql      db       127.0.0.1:80         nothing

            work: no configuration
        "#]]
        .assert_eq(&render(&clusters));
        let json = serde_json::to_value(&clusters[0]).unwrap();
        assert_eq!(json["machines"][1]["state"], "online");
        assert_eq!(json["machines"][2]["why"], "no answer");
        assert_eq!(json["folders"][0]["write"], true);
        assert_eq!(json["services"][1]["may"], false);
        assert_eq!(json["machines"][2]["last_seen_seconds_ago"], 4000);
    }
}
