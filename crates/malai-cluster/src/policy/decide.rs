//! The decision itself.

use super::{Action, Decision, Grant, Refusal, Request, Rule};
use crate::accept::Accept;
use crate::allow::AllowList;
use crate::cluster::{Cluster, key};
use crate::command::Command;
use crate::group::{Member, path_to};
use crate::machine::Machine;

/// Decides a request by the rules of product.md section 3. What nothing allows is refused, and what
/// the owner of the computer that is asked does not accept is refused too.
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
    };
    match request.action {
        Action::Shell => asked.shell(),
        Action::Exec(argv) => {
            let program = argv.first().filter(|program| !program.is_empty());
            let program = program.ok_or(Refusal::EmptyCommand)?;
            if argv.iter().any(|argument| argument.contains(&0)) {
                return Err(Refusal::Nul);
            }
            match machine.command(program) {
                Some(command) => asked.command(command, &argv[1..]),
                None => asked.exec(argv),
            }
        }
    }
}

/// A member who asks a machine.
struct Asked<'c> {
    cluster: &'c Cluster,
    member: Member,
    machine: &'c Machine,
}

impl Asked<'_> {
    fn exec(&self, argv: &[Vec<u8>]) -> Result<Grant, Refusal> {
        let rule = self.rule(
            self.machine.allow_from(),
            || self.path("allow_from"),
            |rule| Refusal::NotInMachine { rule },
        )?;
        Ok(Grant {
            argv: argv.to_vec(),
            user: self.machine.username().cloned(),
            rule,
        })
    }

    fn command(&self, command: &Command, arguments: &[Vec<u8>]) -> Result<Grant, Refusal> {
        let path = |last: &str| {
            let name = key(command.name().as_str());
            self.path(&format!("command.{name}.{last}"))
        };
        let own = command.allow_from();
        let rule = self.rule(
            own.or(self.machine.allow_from()),
            || own.map_or_else(|| self.path("allow_from"), |_| path("allow_from")),
            |rule| Refusal::NotInCommand { rule },
        )?;
        if !arguments.is_empty() && !command.takes_arguments() {
            return Err(Refusal::Arguments { rule: path("args") });
        }
        let words = command.words().map(|word| word.as_bytes().to_vec());
        Ok(Grant {
            argv: words.chain(arguments.iter().cloned()).collect(),
            user: command.username().or(self.machine.username()).cloned(),
            rule,
        })
    }

    fn shell(&self) -> Result<Grant, Refusal> {
        let own = self.machine.allow_shell();
        let rule = self.rule(
            own.or(self.machine.allow_from()),
            || self.path(own.map_or("allow_from", |_| "allow_shell")),
            |rule| Refusal::NotInShell { rule },
        )?;
        Ok(Grant {
            argv: Vec::new(),
            user: self.machine.username().cloned(),
            rule,
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

    fn path(&self, last: &str) -> String {
        format!("machine.{}.{last}", self.machine.name())
    }
}
