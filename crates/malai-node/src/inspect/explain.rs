//! Explains who may do what, and why: the policy's decision, with the places of the rules behind it. Reads the home, and
//! needs no daemon.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use malai_cluster::{
    Accept, Action, Admitted, Cluster, Decision, Grant, Location, MachineId, MachineRef, Refusal,
    Request, Rule, Snapshot, Target, decide, escape, escape_bytes, locate, locate_in_content,
    looks_like_id52, nearest, unknown_cluster,
};
use malai_wire::peer::connect::Destination;
use serde::Serialize;

use crate::home::cluster_files::{Condition, LoadedCluster, says};
use crate::home::{ClusterDir, Home, Role, manager_file};
use crate::os::fs::display_path;
use crate::os::user::{self, RunAs};
use crate::settings::{Settings, run_as};

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// Whether every member asked about may do it.
    pub allowed: bool,
    /// The member asked about, as typed.
    pub who: String,
    /// The machine and the cluster, as `web01.company`.
    pub target: String,
    /// The argument list, safe to show; `None` for a shell and for a service.
    pub command: Option<Vec<String>>,
    /// The service, if the target is one, or the address that is asked about.
    pub service: Option<ServiceUsed>,
    /// The folder, if the target is one.
    pub folder: Option<FolderUsed>,
    /// The configuration used.
    pub configuration: ConfigurationUsed,
    /// Whether the target is this computer, so that its owner's `[accept]` is known.
    pub target_is_here: bool,
    /// One answer for each group of members with the same answer.
    pub answers: Vec<Answer>,
}

/// A service that is asked about, or an address that a machine reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceUsed {
    /// The machine that it runs on.
    pub machine: String,
    /// Where it listens there.
    pub address: String,
    /// `tcp`, `http` or `unix`.
    pub protocol: &'static str,
}

/// A folder that is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FolderUsed {
    /// The machine that it is on.
    pub machine: String,
    /// Its path there.
    pub path: String,
    /// Whether files in it may be changed.
    pub write: bool,
}

/// The configuration that the decision is based on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigurationUsed {
    /// The file that the line numbers refer to.
    pub file: PathBuf,
    /// The revision in force: on a manager the one published, on a machine the one received.
    pub revision: Option<u64>,
    /// On a manager: whether `cluster.toml` differs from the revision in force.
    pub unpublished: bool,
}

/// The answer for some members.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// The members: names, or id52s of those without a name.
    pub members: Vec<String>,
    /// Whether they may do it.
    pub allowed: bool,
    /// The cluster's rule that allowed or refused it, and its place.
    pub rule: Option<Located>,
    /// The entry of the rule's list that matches them.
    pub entry: Option<String>,
    /// The groups that lead to them, each with the place of its `members`.
    pub groups: Vec<Located>,
    /// The user it runs as; `None` is the daemon's own, whose name is not known here.
    pub user: Option<String>,
    /// Whether that is the daemon's own user.
    pub own_user: bool,
    /// What is run; empty for a shell, and if nothing is run.
    pub runs: Vec<String>,
    /// The list in this computer's `[accept]` that accepts or refuses them, if one applies.
    pub accepted: Option<Located>,
    /// Why it is refused.
    #[serde(serialize_with = "as_text")]
    pub refusal: Option<Reason>,
}

/// Why it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Refused by the cluster's rules or this computer's owner.
    Policy(Refusal),
    /// Allowed, but it cannot run as its user here.
    User(String),
}

/// A key of a configuration file, and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Located {
    /// The key, as `machine.web01.allow_from`, or the name of a group.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, if there is one; for a missing key, the line of its section.
    pub line: Option<usize>,
}

fn as_text<S: serde::Serializer>(
    reason: &Option<Reason>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = reason.as_ref().map(|reason| match reason {
        Reason::Policy(refusal) => refusal.to_string(),
        Reason::User(why) => why.clone(),
    });
    text.serialize(serializer)
}

/// Decides, from the files of this home, whether a member may run a command, open a shell if there is none, or connect to
/// a service if the target is one; or to what a machine reaches. `user` is the user that the member asks for, if any.
///
/// # Errors
///
/// The question cannot be answered, as text: no such cluster, machine or member, or an invalid configuration.
pub fn why(
    home: &Home,
    who: &str,
    target: &Target,
    user: Option<&str>,
    argv: Option<&[Vec<u8>]>,
    reached: Option<&Destination>,
) -> Result<Explanation, String> {
    let settings = Settings::load(home).map_err(|error| error.to_string())?;
    let dirs = home.survey().map_err(|error| error.to_string())?.dirs;
    let dir = dirs
        .iter()
        .find(|dir| manager_file::is_of(dir, &target.cluster));
    let Some(dir) = dir else {
        let known: Vec<_> = dirs.iter().map(|dir| dir.alias.to_string()).collect();
        return Err(unknown_cluster(
            &target.cluster,
            Some(&target.machine),
            &known,
            Some(&display_path(home.root())),
        ));
    };
    let known = KnownCluster::load(dir)?;
    let cluster = &known.cluster;
    let service = match &target.machine {
        MachineRef::Name(name) => cluster.service_named(name.as_str()),
        MachineRef::Id(_) => None,
    };
    if let (Some(reached), true) = (reached, argv.is_some() || service.is_some()) {
        return Err(format!(
            "`{target}:{}` is not reached by a command, or through a service: `malai why {} <machine>.{}:<host>:<port>`",
            reached.shown(),
            escape(who),
            dir.alias
        ));
    }
    if let (Some(service), true) = (service, argv.is_some()) {
        let name = service.name();
        return Err(format!(
            "`{name}` is a service, on which no commands run: `malai why {} {name}.{}`",
            escape(who),
            dir.alias
        ));
    }
    let machine = match (service, &target.machine) {
        (Some(service), _) => cluster.machine_named(service.machine().as_str()),
        (None, MachineRef::Name(name)) => cluster.machine_named(name.as_str()),
        (None, MachineRef::Id(id)) => cluster.machine(id),
    };
    let folder = match &target.machine {
        MachineRef::Name(name) => cluster.folder_named(name.as_str()),
        MachineRef::Id(_) => None,
    };
    if let (Some(folder), true) = (folder, argv.is_some()) {
        let name = folder.name();
        return Err(format!(
            "`{name}` is a folder, on which no commands run: `malai why {} {name}.{}`",
            escape(who),
            dir.alias
        ));
    }
    let on = folder.and_then(|folder| cluster.machine_named(folder.machine().as_str()));
    let machine = machine.or(on).ok_or_else(|| {
        let wanted = target.machine.to_string();
        let near = cluster.nearest_machine(&wanted);
        let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        format!(
            "cluster `{}` has no machine `{}`{near}",
            dir.alias,
            escape(&wanted)
        )
    })?;
    let members = members(cluster, who)?;
    let target_is_here = machine.id() == known.local_id;
    let accept = target_is_here.then(|| settings.accept.of_this_computer(&dir.alias));
    let accept = accept.flatten();

    let asked = Query {
        home,
        settings: &settings,
        known: &known,
        located: RefCell::default(),
        target_is_here,
        accept: accept.as_ref(),
    };

    let mut answers: Vec<Answer> = Vec::new();
    for from in members {
        let reached = reached.map(Destination::asked);
        let action = reached.unwrap_or_else(|| match (service, folder) {
            (Some(service), _) => Action::Service(service.name().as_str()),
            (None, Some(folder)) => Action::Folder {
                folder: folder.name().as_str(),
                subsystem: "sftp",
            },
            (None, None) => argv.map_or(Action::Shell, Action::Exec),
        });
        let to = machine.id();
        let answer = asked.answer(&Request {
            from,
            to,
            action,
            user,
        });
        match answers
            .iter_mut()
            .find(|other| other.says_the_same(&answer))
        {
            Some(other) => other.merge(answer),
            None => answers.push(answer),
        }
    }
    Ok(Explanation {
        allowed: !answers.is_empty() && answers.iter().all(|answer| answer.allowed),
        who: escape(who),
        target: match (service, folder) {
            (Some(service), _) => format!("{}.{}", service.name(), dir.alias),
            (None, Some(folder)) => format!("{}.{}", folder.name(), dir.alias),
            (None, None) => match reached {
                Some(reached) => format!("{}.{}:{}", machine.name(), dir.alias, reached.shown()),
                None => format!("{}.{}", machine.name(), dir.alias),
            },
        },
        service: service
            .map(|service| {
                (
                    service.upstream().to_string(),
                    service.upstream().protocol(),
                )
            })
            .or(reached.map(|reached| (reached.shown(), protocol(reached))))
            .map(|(address, protocol)| ServiceUsed {
                machine: machine.name().to_string(),
                address,
                protocol,
            }),
        folder: folder.map(|folder| FolderUsed {
            machine: folder.machine().to_string(),
            path: folder.path().to_owned(),
            write: folder.is_writable(),
        }),
        command: argv.map(|argv| argv.iter().map(|word| escape_bytes(word)).collect()),
        configuration: known.used,
        target_is_here,
        answers,
    })
}

/// Resolves text to a machine, a key, or a group's members.
fn members(cluster: &Cluster, who: &str) -> Result<Vec<MachineId>, String> {
    if looks_like_id52(who) {
        let id = MachineId::parse(who).map_err(|error| error.to_string())?;
        return Ok(vec![id]);
    }
    let (name, group_only) = match who.strip_prefix('@') {
        Some(group) => (group, true),
        None => (who, false),
    };
    if let Some(machine) = cluster.machine_named(name).filter(|_| !group_only) {
        return Ok(vec![machine.id()]);
    }
    if let Some(group) = cluster.group_named(name) {
        return Ok(cluster.members_of(group).collect());
    }
    let groups = cluster.groups().map(|group| group.name().as_str());
    let machines = cluster.machines().filter(|_| !group_only);
    let names = groups.chain(machines.map(|machine| machine.name().as_str()));
    let what = if group_only {
        "group"
    } else {
        "machine or group"
    };
    let near = match nearest(name, names) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    };
    Err(format!("there is no {what} `{}`{near}", escape(name)))
}

/// A cluster as this home knows it.
struct KnownCluster {
    cluster: Cluster,
    local_id: MachineId,
    source: String,
    /// Whether the source is signed content rather than a file written by a person.
    is_content: bool,
    used: ConfigurationUsed,
}

impl KnownCluster {
    /// Loads `cluster.toml` on a manager, as it would be published; on a machine, what it has received.
    fn load(dir: &ClusterDir) -> Result<Self, String> {
        let files = LoadedCluster::load(dir);
        let (Some(role), Some(local_id)) = (files.role, files.own_id()) else {
            return Err(files.all_errors());
        };
        let Some(cluster) = files.configuration().cloned() else {
            return Err(match (role, files.condition) {
                (Role::Machine, Condition::Waiting) => format!(
                    "cluster `{}` has not sent its configuration yet: everything is refused here",
                    dir.alias
                ),
                (Role::Manager, _) => format!(
                    "cannot answer while cluster.toml is invalid\n{}",
                    files.all_errors()
                ),
                (Role::Machine, _) => files.all_errors(),
            });
        };
        let (file, unpublished) = match role {
            Role::Machine => (dir.machine_toml(), false),
            Role::Manager => {
                let published = files.snapshot.as_ref();
                let is_published = published.is_some_and(|published| says(&cluster, published));
                (dir.cluster_toml(), !is_published)
            }
        };
        Ok(KnownCluster {
            cluster,
            local_id,
            is_content: role == Role::Machine,
            used: ConfigurationUsed {
                file,
                revision: files.snapshot.as_ref().map(Snapshot::revision),
                unpublished,
            },
            source: files.source.unwrap_or_default(),
        })
    }
}

/// What an answer is made from.
struct Query<'a> {
    home: &'a Home,
    settings: &'a Settings,
    known: &'a KnownCluster,
    /// Rules already located, because a group of thousands is decided by a few rules.
    located: RefCell<HashMap<String, Located>>,
    target_is_here: bool,
    accept: Option<&'a Accept>,
}

impl Query<'_> {
    fn answer(&self, request: &Request<'_>) -> Answer {
        let cluster = &self.known.cluster;
        let name = cluster.machine(&request.from);
        let name = name.map(|machine| machine.name().to_string());
        let mut answer = Answer {
            members: vec![name.unwrap_or_else(|| request.from.to_string())],
            allowed: false,
            rule: None,
            entry: None,
            groups: Vec::new(),
            user: None,
            own_user: false,
            runs: Vec::new(),
            accepted: None,
            refusal: None,
        };
        match decide(cluster, request, None) {
            Decision::Allow(grant) => self.granted(&mut answer, grant),
            Decision::Refuse(refusal) => {
                answer.rule = refusal.rule().map(|rule| self.placed(rule));
                answer.refusal = Some(Reason::Policy(refusal));
                return answer;
            }
        }
        // Removed here as far as this computer's owner does not accept it.
        if let Decision::Refuse(refusal) = decide(cluster, request, self.accept) {
            answer.allowed = false;
            answer.accepted = refusal.rule().map(|rule| self.placed(rule));
            answer.refusal = Some(Reason::Policy(refusal));
        } else if let Some(accept) = self.accept
            && let Admitted::By(rule) = accept.admits(cluster, &request.from)
        {
            answer.accepted = Some(Located {
                name: rule.to_string(),
                ..self.placed(&rule.path)
            });
        }
        answer
    }

    fn granted(&self, answer: &mut Answer, grant: Grant) {
        answer.runs = grant.argv().iter().map(|word| escape_bytes(word)).collect();
        let Grant { user, rule, .. } = grant;
        answer.own_user = user.is_none();
        answer.user = match &user {
            Some(user) => Some(user.to_string()),
            None if self.target_is_here => match run_as::default_user() {
                Ok(Some(user)) => Some(user.to_string()),
                _ => user::own_name(),
            },
            None => None,
        };
        let Rule { path, entry, via } = rule;
        answer.groups = via
            .iter()
            .map(|group| Located {
                name: group.to_string(),
                ..self.placed(&format!("group.{group}.members"))
            })
            .collect();
        answer.rule = Some(self.placed(&path));
        answer.entry = Some(entry);
        let run_as = user
            .filter(|_| self.target_is_here)
            .map(|user| RunAs::named(&user));
        match run_as {
            Some(Err(error)) => answer.refusal = Some(Reason::User(error.to_string())),
            _ => answer.allowed = true,
        }
    }

    fn placed(&self, rule: &str) -> Located {
        if let Some(located) = self.located.borrow().get(rule) {
            return located.clone();
        }
        let known = self.known;
        let (file, place) = match rule.strip_prefix("malai.toml ") {
            Some(path) => {
                let source = self.settings.accept.source();
                let place = nearest_place(path, |path| locate(source, path));
                (self.home.settings(), place)
            }
            None if known.is_content => {
                let find = |path: &str| locate_in_content(&known.source, path);
                (known.used.file.clone(), nearest_place(rule, find))
            }
            None => {
                let find = |path: &str| locate(&known.source, path);
                (known.used.file.clone(), nearest_place(rule, find))
            }
        };
        let located = Located {
            name: rule.to_owned(),
            file,
            line: place.map(|place| place.line),
        };
        let mut known = self.located.borrow_mut();
        known.insert(rule.to_owned(), located.clone());
        located
    }
}

/// The place of a key; for a key that is not set, the place of its section.
fn nearest_place(path: &str, find: impl Fn(&str) -> Option<Location>) -> Option<Location> {
    let mut path = path;
    loop {
        if let Some(found) = find(path) {
            return Some(found);
        }
        (path, _) = path.rsplit_once('.')?;
    }
}

impl Answer {
    fn says_the_same(&self, other: &Answer) -> bool {
        let key = |answer: &Answer| {
            (
                answer.allowed,
                answer.rule.clone(),
                answer.entry.clone(),
                answer.user.clone(),
                answer.refusal.clone(),
                answer.accepted.as_ref().map(|accepted| accepted.line),
            )
        };
        key(self) == key(other)
    }

    /// Merges the members of another answer. Of the chains of groups, the common part stays.
    fn merge(&mut self, other: Answer) {
        let same = self.groups.iter().zip(&other.groups);
        let same = same.take_while(|(one, other)| one == other).count();
        self.groups.truncate(same);
        self.members.extend(other.members);
    }
}

/// How a machine reaches it, as in [`malai_cluster::Upstream::protocol`].
fn protocol(reached: &Destination) -> &'static str {
    match reached {
        Destination::Unix { .. } => "unix",
        Destination::Service(_) | Destination::Tcp(_) => "tcp",
    }
}
