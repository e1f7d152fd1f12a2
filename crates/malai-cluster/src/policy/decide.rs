//! Decides requests.

use super::{Action, Decision, Grant, Refusal, Request, Rule, Run, ServedFolder};
use crate::accept::Accept;
use crate::allow::AllowList;
use crate::cluster::{Cluster, key};
use crate::command::Command;
use crate::group::{Member, path_to};
use crate::machine::Machine;
use crate::name::UserName;
use crate::sanitize::escape;
use crate::service::{Upstream, UpstreamError};
use crate::shell_words::{quote_exactly, split_line};

/// The subsystem of `malai cp`.
pub(super) const COPY: &str = "malai-cp";

/// Decides a request by the rules of docs/cluster-toml.md and docs/ssh.md. It is refused unless a rule allows it and
/// the owner of the computer accepts it.
pub fn decide(cluster: &Cluster, request: &Request<'_>, accept: Option<&Accept>) -> Decision {
    let narrowed = grant(cluster, request).and_then(|grant| match accept {
        Some(accept) => accept
            .narrow(cluster, &request.from, &grant)
            .map(|()| grant),
        None => Ok(grant),
    });
    match narrowed {
        Ok(grant) => Decision::Allow(grant),
        Err(refusal) => Decision::Refuse(refusal),
    }
}

fn grant(cluster: &Cluster, request: &Request<'_>) -> Result<Grant, Refusal> {
    let member = cluster.member(&request.from).ok_or(Refusal::NotAMember)?;
    let machine = cluster.machine(&request.to).ok_or(Refusal::NotAMachine)?;
    let asked = Asked {
        cluster,
        member,
        machine,
        user: request.user,
    };
    // Services and folders have lists of their own, so a forced command of their machine does not replace them.
    let has_own_list = matches!(request.action, Action::Service(_) | Action::Folder { .. });
    if !has_own_list && let Some(command) = asked.forced_command() {
        if matches!(request.action, Action::Tcp(_) | Action::Unix(_)) {
            let rule = asked.path(&format!("command.{}", key(command.name().as_str())));
            return Err(Refusal::OnlyForced { rule });
        }
        return asked.forced(command, original(request.action)?);
    }
    match request.action {
        Action::Shell => asked.shell(Run::Shell),
        Action::Exec(argv) => asked.argument_list(argv),
        Action::Subsystem(name) => asked.files(file_server(name, None)?),
        Action::Folder { folder, subsystem } => asked.folder(folder, subsystem),
        Action::Service(name) => asked.service(name),
        Action::Tcp(address) => asked.address(address, Upstream::tcp(address)),
        Action::Unix(path) => asked.address(path, Upstream::unix(path)),
        Action::Line(line) if line.contains(&0) => Err(Refusal::Nul),
        Action::Line(line) if line.trim_ascii().is_empty() => Err(Refusal::EmptyCommand),
        Action::Line(line) => match split_line(line) {
            Ok(argv) => asked.argument_list(&argv),
            Err(_) => asked.shell(Run::Line(line.to_vec())),
        },
    }
}

/// Which of malai's file servers a subsystem is.
fn file_server(subsystem: &str, folder: Option<ServedFolder>) -> Result<Run, Refusal> {
    match subsystem {
        "sftp" => Ok(Run::Sftp(folder)),
        COPY => Ok(Run::Copy(folder)),
        name => Err(Refusal::NoSubsystem { name: shown(name) }),
    }
}

/// A name as asked for, made safe to show.
fn shown(name: &str) -> String {
    escape(name).chars().take(80).collect()
}

/// The original request, as the value of `SSH_ORIGINAL_COMMAND`.
fn original(action: Action<'_>) -> Result<Vec<u8>, Refusal> {
    let line = match action {
        Action::Shell => Vec::new(),
        Action::Line(line) => line.to_vec(),
        Action::Subsystem(name)
        | Action::Service(name)
        | Action::Tcp(name)
        | Action::Unix(name)
        | Action::Folder {
            subsystem: name, ..
        } => name.as_bytes().to_vec(),
        Action::Exec(argv) => {
            let words: Vec<_> = argv.iter().map(|word| quote_exactly(word)).collect();
            words.join(&b' ')
        }
    };
    match line.contains(&0) {
        true => Err(Refusal::Nul),
        false => Ok(line),
    }
}

/// A member and the machine that it asks.
struct Asked<'c> {
    cluster: &'c Cluster,
    member: Member,
    machine: &'c Machine,
    user: Option<&'c str>,
}

impl Asked<'_> {
    fn argument_list(&self, argv: &[Vec<u8>]) -> Result<Grant, Refusal> {
        let program = argv.first().filter(|program| !program.is_empty());
        let program = program.ok_or(Refusal::EmptyCommand)?;
        if argv.iter().any(|argument| argument.contains(&0)) {
            return Err(Refusal::Nul);
        }
        match self.machine.command(program) {
            Some(command) => self.command(command, &argv[1..]),
            None => self.exec(argv),
        }
    }

    fn exec(&self, argv: &[Vec<u8>]) -> Result<Grant, Refusal> {
        let rule = self.rule(
            self.machine.allow_from(),
            || self.path("allow_from"),
            |rule| Refusal::NotInMachine { rule },
        )?;
        Ok(Grant {
            run: Run::Command(argv.to_vec()),
            user: self.user_of(self.machine.usernames(), || self.path("username"))?,
            rule,
        })
    }

    fn command(&self, command: &Command, arguments: &[Vec<u8>]) -> Result<Grant, Refusal> {
        let rule = self.command_rule(command)?;
        if !arguments.is_empty() && !command.takes_arguments() {
            let rule = self.command_path(command, "args");
            return Err(Refusal::Arguments { rule });
        }
        let words = command.words().map(|word| word.as_bytes().to_vec());
        Ok(Grant {
            run: Run::Command(words.chain(arguments.iter().cloned()).collect()),
            user: self.command_user(command)?,
            rule,
        })
    }

    /// The command entry that replaces whatever this member asks for. The check ensures that there is at most one.
    fn forced_command(&self) -> Option<&Command> {
        let mut forced = self
            .machine
            .commands()
            .iter()
            .filter(|command| command.is_forced());
        let holds = |list: &AllowList| {
            let groups = self.cluster.group_table();
            list.matching(self.member, groups).is_some()
        };
        // The machine's own list is evaluated only once, however many commands depend on it.
        let mut by_machine = None;
        forced.find(|command| match command.allow_from() {
            Some(list) => holds(list),
            None => *by_machine.get_or_insert_with(|| self.machine.allow_from().is_some_and(holds)),
        })
    }

    fn forced(&self, command: &Command, original: Vec<u8>) -> Result<Grant, Refusal> {
        Ok(Grant {
            rule: self.command_rule(command)?,
            user: self.command_user(command)?,
            run: Run::Forced {
                argv: command
                    .words()
                    .map(|word| word.as_bytes().to_vec())
                    .collect(),
                original,
            },
        })
    }

    fn command_rule(&self, command: &Command) -> Result<Rule, Refusal> {
        let own = command.allow_from();
        self.rule(
            own.or(self.machine.allow_from()),
            || match own {
                Some(_) => self.command_path(command, "allow_from"),
                None => self.path("allow_from"),
            },
            |rule| Refusal::NotInCommand { rule },
        )
    }

    fn command_user(&self, command: &Command) -> Result<Option<UserName>, Refusal> {
        match command.usernames() {
            [] => self.user_of(self.machine.usernames(), || self.path("username")),
            own => self.user_of(own, || self.command_path(command, "username")),
        }
    }

    fn shell(&self, run: Run) -> Result<Grant, Refusal> {
        let own = self.machine.allow_shell();
        let rule = self.rule(
            own.or(self.machine.allow_from()),
            || self.path(own.map_or("allow_from", |_| "allow_shell")),
            |rule| Refusal::NotInShell { rule },
        )?;
        Ok(Grant {
            run,
            user: self.user_of(self.machine.usernames(), || self.path("username"))?,
            rule,
        })
    }

    /// The daemon itself connects, so no user is chosen.
    fn service(&self, name: &str) -> Result<Grant, Refusal> {
        let service = self.cluster.service_named(name);
        let service = service.filter(|service| service.machine() == self.machine.name());
        let service = service.ok_or_else(|| Refusal::NoService { name: shown(name) })?;
        let rule = self.rule(
            service.allow_from(),
            || format!("service.{}.allow_from", service.name()),
            |rule| Refusal::NotInService { rule },
        )?;
        Ok(Grant {
            run: Run::Connect(service.upstream().clone()),
            user: None,
            rule,
        })
    }

    /// What the machine reaches needs `allow_forward`, which defaults to `allow_shell`: with a shell, a program there could
    /// pass the bytes on. A Unix socket is opened as the user of that shell, whose rights count; for a port, no user does.
    fn address(
        &self,
        address: &str,
        upstream: Result<Upstream, UpstreamError>,
    ) -> Result<Grant, Refusal> {
        let machine = self.machine;
        let own = (machine.allow_forward(), "allow_forward");
        let rule = self.or_shell(own, |rule| Refusal::NotInForward { rule })?;
        let upstream = upstream.map_err(|why| Refusal::Address {
            address: shown(address),
            why,
        })?;
        let user = match (&upstream, self.user) {
            (Upstream::Tcp { .. }, None) => None,
            _ => self.user_of(machine.usernames(), || self.path("username"))?,
        };
        Ok(Grant {
            run: Run::Connect(upstream),
            user,
            rule,
        })
    }

    /// Files need `allow_files`, which defaults to `allow_shell`: writing files as a user amounts to being that user.
    fn files(&self, run: Run) -> Result<Grant, Refusal> {
        let machine = self.machine;
        let own = (machine.allow_files(), "allow_files");
        let rule = self.or_shell(own, |rule| Refusal::NotInFiles { rule })?;
        Ok(Grant {
            run,
            user: self.user_of(machine.usernames(), || self.path("username"))?,
            rule,
        })
    }

    /// The rule by which a list of the machine, or else the one for shells, admits the member.
    fn or_shell(
        &self,
        own: (Option<&AllowList>, &str),
        refused: impl FnOnce(String) -> Refusal,
    ) -> Result<Rule, Refusal> {
        let lists = [own, (self.machine.allow_shell(), "allow_shell")];
        let found = lists.into_iter().find(|(list, _)| list.is_some());
        let (list, name) = found.unwrap_or((self.machine.allow_from(), "allow_from"));
        self.rule(list, || self.path(name), refused)
    }

    /// A folder has a list of its own: the lists of its machine do not matter.
    fn folder(&self, name: &str, subsystem: &str) -> Result<Grant, Refusal> {
        let folder = self.cluster.folder_named(name);
        let folder = folder.filter(|folder| folder.machine() == self.machine.name());
        let folder = folder.ok_or_else(|| Refusal::NoFolder { name: shown(name) })?;
        let path = |last: &str| format!("folder.{}.{last}", folder.name());
        let served = ServedFolder {
            name: folder.name().clone(),
            path: folder.path().into(),
            write: folder.is_writable(),
        };
        let run = file_server(subsystem, Some(served))?;
        let rule = self.rule(
            folder.allow_from(),
            || path("allow_from"),
            |rule| Refusal::NotInFiles { rule },
        )?;
        let user = match folder.usernames() {
            [] => self.user_of(self.machine.usernames(), || self.path("username")),
            own => self.user_of(own, || path("username")),
        }?;
        Ok(Grant { run, user, rule })
    }

    /// The user to run as: the one asked for, if `username` lists it, otherwise the first one listed.
    fn user_of(
        &self,
        names: &[UserName],
        path: impl FnOnce() -> String,
    ) -> Result<Option<UserName>, Refusal> {
        let Some(user) = self.user else {
            return Ok(names.first().cloned());
        };
        let found = names.iter().find(|name| name.as_str() == user);
        found.cloned().map(Some).ok_or_else(|| {
            let allowed = match names {
                [] => "it is not set, so everything runs as the daemon's user".to_owned(),
                names => {
                    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                    format!("it names {}", names.join(", "))
                }
            };
            Refusal::NotAsUser {
                rule: path(),
                user: shown(user),
                allowed,
            }
        })
    }

    /// The rule by which the list admits the member.
    fn rule(
        &self,
        list: Option<&AllowList>,
        path: impl FnOnce() -> String,
        refused: impl FnOnce(String) -> Refusal,
    ) -> Result<Rule, Refusal> {
        let Some(list) = list else {
            return Err(Refusal::NoRule { rule: path() });
        };
        let groups = self.cluster.group_table();
        let Some((entry, group)) = list.matching(self.member, groups) else {
            return Err(refused(path()));
        };
        Ok(Rule {
            path: path(),
            entry: entry.to_string(),
            via: group.map_or_else(Vec::new, |group| path_to(groups, group, self.member)),
        })
    }

    fn command_path(&self, command: &Command, last: &str) -> String {
        let name = key(command.name().as_str());
        self.path(&format!("command.{name}.{last}"))
    }

    fn path(&self, last: &str) -> String {
        format!("machine.{}.{last}", self.machine.name())
    }
}
