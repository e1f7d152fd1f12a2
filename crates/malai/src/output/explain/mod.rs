//! The output of `malai why`.

use malai_cluster::{Refusal, escape, quote};
use malai_node::{Answer, Explanation, Located, Reason};

/// An answer for each kind of member, and what it was based on.
pub fn render(why: &Explanation) -> String {
    let mut out = String::new();
    if why.answers.is_empty() {
        out.push_str(&format!("❌ refused: {} has no members\n", why.who));
    }
    for answer in &why.answers {
        one(&mut out, why, answer);
    }
    for note in notes(why) {
        out.push_str(&format!("ℹ️  {note}\n"));
    }
    out
}

fn one(out: &mut String, why: &Explanation, answer: &Answer) {
    let who = members(&answer.members);
    let what = match (&why.service, &why.folder, &why.command) {
        (Some(_), ..) => format!("connect to {}", why.target),
        (None, Some(_), _) => format!("copy files of {}", why.target),
        (None, None, Some(argv)) => format!("run `{}` on {}", line(argv), why.target),
        (None, None, None) => format!("open a shell on {}", why.target),
    };
    out.push_str(&match answer.refusal {
        None => format!("✅ allowed: {who} may {what}\n"),
        Some(_) => format!("❌ refused: {who} may not {what}\n"),
    });
    let mut line = |name: &str, text: &str| out.push_str(&format!("   {name:<9}{text}\n"));
    match &answer.refusal {
        None => {
            granted(&mut line, why, answer);
            accepted(&mut line, why, answer);
        }
        Some(Reason::User(error)) => {
            granted(&mut line, why, answer);
            line(
                "because",
                &format!("{}; it never runs as another user", escape(error)),
            );
        }
        Some(Reason::Policy(refusal)) => {
            if answer.accepted.is_some() {
                // The cluster's rule allows it; the refusal comes from what this computer's owner accepts.
                granted(&mut line, why, answer);
            }
            line("because", &because(refusal));
            if let Some(rule) = answer.accepted.as_ref().or(answer.rule.as_ref()) {
                line("at", &place(rule));
            }
        }
    }
}

/// An argument list as it would be typed. Its words are safe to show.
fn line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    words.join(" ")
}

fn members(members: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = members[..members.len().min(SHOWN)].join(", ");
    match members.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn granted(line: &mut impl FnMut(&str, &str), why: &Explanation, answer: &Answer) {
    if let (Some(rule), Some(entry)) = (&answer.rule, &answer.entry) {
        line("rule", &format!("{}: {entry}", rule.name));
        line("at", &place(rule));
    }
    if !answer.groups.is_empty() {
        let groups = answer.groups.iter().map(|group| match group.line {
            Some(line) => format!("{} (line {line})", group.name),
            None => group.name.clone(),
        });
        line("through", &groups.collect::<Vec<_>>().join(" → "));
    }
    if why
        .command
        .as_ref()
        .is_some_and(|argv| *argv != answer.runs)
    {
        line("runs", &self::line(&answer.runs));
    }
    if let Some(service) = &why.service {
        let address = escape(&service.address);
        let http = match service.protocol {
            "http" => " (HTTP)",
            _ => "",
        };
        line("to", &format!("{address}{http} on {}", service.machine));
        // Of a socket, it is the user of a shell who opens it; of everything else, the daemon.
        if let (Some(user), false) = (&answer.user, answer.own_user) {
            line("as", &format!("user {user}"));
        }
        return;
    }
    if let Some(folder) = &why.folder {
        let access = match folder.write {
            true => "reading and writing",
            false => "reading only",
        };
        let text = format!("{} on {}, {access}", escape(&folder.path), folder.machine);
        line("folder", &text);
    }
    line(
        "as",
        &match (&answer.user, answer.own_user) {
            (Some(user), false) => format!("user {user}"),
            (Some(user), true) => format!("user {}, the daemon's own", escape(user)),
            (None, _) => "the user that the daemon runs as there".to_owned(),
        },
    );
}

fn accepted(line: &mut impl FnMut(&str, &str), why: &Explanation, answer: &Answer) {
    match &answer.accepted {
        Some(rule) => line("accepted", &format!("{}, {}", rule.name, place(rule))),
        None if why.target_is_here => {}
        None => line(
            "accepted",
            "not known here: [accept] in that computer's own malai.toml may refuse it",
        ),
    }
}

fn place(placed: &Located) -> String {
    let file = escape(&placed.file.to_string_lossy());
    match placed.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    }
}

/// The reason, phrased about a third party.
fn because(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotAMember => "this key is not a member of the cluster".to_owned(),
        Refusal::NotAMachine
        | Refusal::EmptyCommand
        | Refusal::Nul
        | Refusal::NoRule { .. }
        | Refusal::NotAsUser { .. }
        | Refusal::NoFolder { .. }
        | Refusal::NoSubsystem { .. }
        | Refusal::NoService { .. }
        | Refusal::Address { .. }
        | Refusal::UserNotAccepted { .. } => refusal.to_string(),
        Refusal::NotInMachine { rule }
        | Refusal::NotInCommand { rule }
        | Refusal::NotInShell { rule }
        | Refusal::NotInFiles { rule }
        | Refusal::NotInService { rule }
        | Refusal::NotInForward { rule }
        | Refusal::NotAccepted { rule } => format!("not in {rule}"),
        Refusal::OnlyForced { rule } => format!("{rule} is all that it may use there"),
        Refusal::Arguments { rule } => format!("{rule} does not allow arguments"),
    }
}

fn notes(why: &Explanation) -> Vec<String> {
    let used = &why.configuration;
    match (used.unpublished, used.revision) {
        (false, _) => Vec::new(),
        (true, Some(revision)) => vec![format!(
            "cluster.toml differs from revision {revision}, which is in force: publish it with `malai rescan`"
        )],
        (true, None) => {
            vec![
                "nothing has been published yet: publish cluster.toml with `malai rescan`"
                    .to_owned(),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
