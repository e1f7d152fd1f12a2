//! `[forward]` in malai.toml: whether the daemon listens on each place, and where each leads.

use malai_wire::status::ForwardFacts;

use super::{Context, Finding};
use crate::home::keystore::quoted;

const CHECK: &str = "forwards";

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let lines = &context.settings.forward;
    if lines.is_empty() {
        return Vec::new();
    }
    let Some(facts) = context.answered() else {
        let what = format!("{} in malai.toml, but no daemon that listens", lines.len());
        return vec![Finding::warning(CHECK, what).fix("malai daemon")];
    };
    let edit = format!("$EDITOR {}; malai rescan", quoted(&context.home.settings()));
    let mut found: Vec<Finding> = facts
        .forwards
        .iter()
        .map(|forward| finding(forward, &edit))
        .collect();
    let is_known = |listen: &str| {
        facts
            .forwards
            .iter()
            .any(|forward| forward.listen == listen)
    };
    for line in lines
        .iter()
        .filter(|line| !is_known(&line.listen.to_string()))
    {
        let what = format!("{} is in malai.toml, but not in force yet", line.listen);
        found.push(Finding::warning(CHECK, what).fix("malai rescan"));
    }
    found
}

fn finding(forward: &ForwardFacts, edit: &str) -> Finding {
    let ForwardFacts { listen, to, .. } = forward;
    match (&forward.problem, &forward.failure) {
        (Some(problem), _) => Finding::warning(CHECK, format!("{listen} → {to}: {problem}"))
            .because("connections to it fail, or reach another program")
            .fix(edit),
        (None, Some(failure)) => Finding::note(
            CHECK,
            format!("{listen} → {to} works here; last failure: {failure}"),
        ),
        (None, None) => Finding::fine(CHECK, format!("{listen} → {to}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn what_does_not_listen_is_a_warning_with_its_remedy() {
        let mut forward = ForwardFacts {
            listen: "127.0.0.1:80".to_owned(),
            to: "db.company".to_owned(),
            ..ForwardFacts::default()
        };
        assert_eq!(finding(&forward, "edit").state, State::Fine);
        forward.failure = Some("connection refused".to_owned());
        assert_eq!(finding(&forward, "edit").state, State::Note);
        forward.problem = Some("cannot listen on it".to_owned());
        let found = finding(&forward, "edit");
        assert_eq!(found.state, State::Warning);
        assert_eq!(found.remedy.as_deref(), Some("edit"));
    }
}
