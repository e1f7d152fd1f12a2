//! What failed and why, in a few lines for people: alike failures together. Pure.

use std::time::Duration;

use malai_cluster::{compress_names, escape};
use malai_wire::control::{Reason, ReasonKind};

use crate::output::duration;

/// How a machine's command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exit(u8),
    /// malai itself failed or was refused.
    Failed(Failure),
    /// It was given up after this long.
    TimedOut(Duration),
    /// A signal (its number) came before it had begun.
    Interrupted(u8),
    /// It was running when a second signal (the number of the first) ended everything.
    CutOff(u8),
    /// More output than is kept for one JSON object.
    TooMuch(u8),
}

/// How malai itself failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code that it counts as.
    pub code: u8,
    /// The whole message, which names the machine.
    pub message: String,
    /// Why, without the machine's name.
    pub reason: Option<Reason>,
}

impl End {
    /// The code that it counts as.
    pub fn code(&self) -> u8 {
        match self {
            End::Exit(code) | End::Failed(Failure { code, .. }) => *code,
            End::TimedOut(_) | End::TooMuch(_) => malai_node::EXIT_MALAI_FAILURE,
            End::Interrupted(signal) | End::CutOff(signal) => 128u8.saturating_add(*signal),
        }
    }

    /// malai's error message, unless the command simply exited.
    pub fn error(&self) -> Option<String> {
        match self {
            End::Exit(_) => None,
            End::Failed(failure) => Some(failure.message.clone()),
            End::TimedOut(time) => Some(format!("timed out after {}", duration::format(*time))),
            End::Interrupted(_) => Some("interrupted before it started".to_owned()),
            End::CutOff(_) => Some("interrupted; the command was ended".to_owned()),
            End::TooMuch(code) => Some(format!(
                "exit {code}, with more output than the {} MiB that JSON can hold",
                crate::fanout::JSON_OUTPUT_MAX >> 20
            )),
        }
    }
}

/// A machine and the result of its command.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The name of the machine in the output.
    pub label: &'a str,
    /// `<machine>.<cluster>`.
    pub target: &'a str,
    /// The result.
    pub end: &'a End,
}

/// Up to this many failures are listed individually.
const FEW: usize = 4;

/// The maximum number of different reasons listed.
const REASONS: usize = 20;

/// The summary; `None` if nothing failed.
pub fn summary(all: &[Ended<'_>]) -> Option<String> {
    let failed: Vec<_> = all.iter().filter(|ended| ended.end.code() != 0).collect();
    let (total, succeeded) = (all.len(), all.len() - failed.len());
    let head = format!("{succeeded} of {total} machines succeeded");
    if failed.is_empty() {
        return None;
    }
    if failed.len() <= FEW {
        let told = failed
            .iter()
            .map(|ended| format!("{} ({})", ended.label, reason(ended)));
        return Some(format!(
            "{head}; failed: {}",
            told.collect::<Vec<_>>().join(", ")
        ));
    }
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for ended in &failed {
        let why = reason(ended);
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, labels)) => labels.push(ended.label),
            None => reasons.push((why, vec![ended.label])),
        }
    }
    reasons.sort_by_key(|(_, labels)| std::cmp::Reverse(labels.len()));
    let mut text = format!("{head}, {} failed:", failed.len());
    for (why, labels) in reasons.iter().take(REASONS) {
        text += &format!("\n  {} ({why})", compress_names(labels));
    }
    if reasons.len() > REASONS {
        let rest = &reasons[REASONS..];
        let machines: usize = rest.iter().map(|(_, labels)| labels.len()).sum();
        text += &format!("\n  {machines} more, for other reasons");
    }
    Some(text)
}

/// Why it failed, in words that are the same for machines with the same problem.
fn reason(ended: &Ended<'_>) -> String {
    let failure = match ended.end {
        End::Exit(code) => return format!("exit {code}"),
        End::Failed(failure) => failure,
        other => return other.error().unwrap_or_default(),
    };
    let text = match &failure.reason {
        // Further lines say what to do; running the command on that one machine shows them.
        None => first_line(&failure.message).to_owned(),
        Some(Reason { kind, text }) => {
            let text = first_line(text);
            match kind {
                ReasonKind::Unreachable => format!("unreachable: {text}"),
                ReasonKind::Refused => format!("refused: {text}"),
                ReasonKind::Other => text.to_owned(),
            }
        }
    };
    // Each machine names its own section when it refuses.
    let name = ended.target.split('.').next().unwrap_or(ended.target);
    escape(&text.replace(&format!("machine.{name}."), "its "))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(ends: &[(&str, End)], expected: Expect) {
        let targets: Vec<_> = ends
            .iter()
            .map(|(name, _)| format!("{name}.company"))
            .collect();
        let all: Vec<_> = ends
            .iter()
            .zip(&targets)
            .map(|((label, end), target)| Ended { label, target, end })
            .collect();
        expected.assert_eq(&summary(&all).unwrap_or_default());
    }

    fn failed(kind: ReasonKind, text: &str, message: String) -> End {
        let text = text.to_owned();
        End::Failed(Failure {
            code: 255,
            message,
            reason: Some(Reason { kind, text }),
        })
    }

    fn unreachable(name: &str) -> End {
        failed(
            ReasonKind::Unreachable,
            "nothing answers",
            format!("cannot reach {name}: nothing answers\n  tried: this computer"),
        )
    }

    #[test]
    fn nothing_is_said_where_all_succeeded() {
        check(
            &[("web01", End::Exit(0)), ("web02", End::Exit(0))],
            expect![""],
        );
    }

    #[test]
    fn few_failures_are_told_one_by_one() {
        let why = "machine.db1.allow_from does not allow you\nwhat to do";
        let refused = failed(
            ReasonKind::Refused,
            why,
            format!("db1.company refused: {why}"),
        );
        check(
            &[
                ("web01", End::Exit(0)),
                ("web02", End::Exit(7)),
                ("web03", unreachable("web03")),
                ("db1", refused),
                ("db2", End::TimedOut(Duration::from_millis(2500))),
            ],
            expect![
                "1 of 5 machines succeeded; failed: web02 (exit 7), web03 (unreachable: nothing answers), db1 (refused: its allow_from does not allow you), db2 (timed out after 2.5s)"
            ],
        );
    }

    #[test]
    fn many_failures_are_told_together_by_their_reason() {
        let mut ends = Vec::new();
        for number in 1..=30 {
            let name: &str = format!("web{number:02}").leak();
            ends.push((
                name,
                match number {
                    3 | 5..=9 => unreachable(name),
                    11..=12 => End::Exit(1),
                    13 => failed(
                        ReasonKind::Other,
                        "the connection broke\u{1b}[2J",
                        format!("the connection to {name}.company broke"),
                    ),
                    20 => End::Interrupted(2),
                    _ => End::Exit(0),
                },
            ));
        }
        check(
            &ends,
            expect![[r#"
                20 of 30 machines succeeded, 10 failed:
                  web[03,05-09] (unreachable: nothing answers)
                  web[11-12] (exit 1)
                  web13 (the connection broke\x1b[2J)
                  web20 (interrupted before it started)"#]],
        );
        let codes: Vec<_> = (1..=50).map(|code| ("m", End::Exit(code))).collect();
        let targets = "m.company";
        let all: Vec<_> = codes
            .iter()
            .map(|(label, end)| Ended {
                label,
                target: targets,
                end,
            })
            .collect();
        let text = summary(&all).unwrap();
        assert_eq!(text.lines().count(), REASONS + 2);
        assert!(text.ends_with("30 more, for other reasons"), "{text}");
    }
}
