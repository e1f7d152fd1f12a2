//! Several machines at once, as people type them: lists, `@groups`, patterns, ranges, and exclusions.

use std::fmt;

use crate::diagnostic::quoted;
use crate::name::{GroupName, NameError};

use super::range;
use super::{AddressError, ClusterRef, MachineRef, Target};

/// One or more machines as typed: `web01.company`, `@web.company`, `'web*.company'`, `web[01-20].company`,
/// `!web03.company` to exclude one, and commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    pub(super) parts: Vec<Part>,
    /// Whether the list is exactly one machine.
    plain: bool,
    /// As written, with short names replaced by what they stand for.
    text: String,
}

/// One part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Whether these machines are excluded.
    pub(super) excluded: bool,
    pub(super) machines: Machines,
    pub(super) cluster: ClusterRef,
}

/// Which machines of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Machines {
    One(MachineRef),
    Group(GroupName),
    /// A pattern with `*` and `?`.
    Pattern(String),
}

impl Targets {
    /// Parses a list. `alias` resolves short names.
    ///
    /// # Errors
    ///
    /// The problem with the first invalid entry.
    pub fn parse(
        text: &str,
        alias: impl Fn(&str) -> Option<Targets>,
    ) -> Result<Self, AddressError> {
        let mut targets = Targets {
            parts: Vec::new(),
            plain: false,
            text: String::with_capacity(text.len()),
        };
        let words = split(text)?;
        let alone = words.len() == 1;
        for word in words {
            let (excluded, word) = match word.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, word),
            };
            if let Some(meant) = alias(word) {
                targets.plain = alone && !excluded && meant.plain;
                for part in split(&meant.text)? {
                    match part.strip_prefix('!') {
                        Some(part) => targets.write(!excluded, part),
                        None => targets.write(excluded, part),
                    }
                }
                let parts = meant.parts.into_iter();
                targets.parts.extend(parts.map(|part| Part {
                    excluded: part.excluded != excluded,
                    ..part
                }));
                continue;
            }
            let before = targets.parts.len();
            read(word, excluded, &mut targets.parts)?;
            targets.write(excluded, word);
            let sole = targets.parts.len() - before == 1 && !word.contains(['[', '@']);
            targets.plain = alone
                && !excluded
                && sole
                && matches!(targets.parts[before].machines, Machines::One(_));
        }
        if targets.parts.iter().all(|part| part.excluded) {
            return Err(AddressError::OnlyExcluded { text: quoted(text) });
        }
        Ok(targets)
    }

    /// Appends a part to the text.
    fn write(&mut self, excluded: bool, part: &str) {
        let comma = if self.text.is_empty() { "" } else { "," };
        let mark = if excluded { "!" } else { "" };
        self.text.extend([comma, mark, part]);
    }

    /// The list `text` with `,!word` added for each word of the list `excluded`. `text` is not checked.
    ///
    /// # Errors
    ///
    /// `excluded` is not a valid list.
    pub fn without(text: &str, excluded: &str) -> Result<String, AddressError> {
        let mut text = text.to_owned();
        for word in split(excluded)? {
            text.extend([",!", word]);
        }
        Ok(text)
    }

    /// The machine, if the list is exactly one: its streams are then passed on unchanged.
    pub fn plain(&self) -> Option<Target> {
        match self.parts.as_slice() {
            [
                Part {
                    machines: Machines::One(machine),
                    cluster,
                    ..
                },
            ] if self.plain => Some(Target {
                machine: machine.clone(),
                cluster: cluster.clone(),
            }),
            _ => None,
        }
    }

    /// The clusters in the list, in its order.
    pub fn clusters(&self) -> Vec<&ClusterRef> {
        let mut clusters = Vec::new();
        for part in &self.parts {
            if !clusters.contains(&&part.cluster) {
                clusters.push(&part.cluster);
            }
        }
        clusters
    }
}

impl From<Target> for Targets {
    fn from(target: Target) -> Self {
        Self {
            text: target.to_string(),
            parts: vec![Part {
                excluded: false,
                machines: Machines::One(target.machine),
                cluster: target.cluster,
            }],
            plain: true,
        }
    }
}

impl fmt::Display for Targets {
    /// The list without short names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits at commas that are not in brackets.
fn split(text: &str) -> Result<Vec<&str>, AddressError> {
    if text.trim().is_empty() {
        return Err(AddressError::Empty);
    }
    let mut inside = false;
    let words: Vec<&str> = text
        .split(|character| {
            match character {
                '[' => inside = true,
                ']' => inside = false,
                _ => {}
            }
            character == ',' && !inside
        })
        .map(|word| word.trim_matches(' '))
        .collect();
    match words.iter().any(|word| word.is_empty() || *word == "!") {
        true => Err(AddressError::EmptyPart { text: quoted(text) }),
        false => Ok(words),
    }
}

fn read(word: &str, excluded: bool, parts: &mut Vec<Part>) -> Result<(), AddressError> {
    let Some((machines, cluster)) = word.split_once('.') else {
        return Err(AddressError::NoDot { text: quoted(word) });
    };
    if cluster.contains('.') {
        return Err(AddressError::Dots { text: quoted(word) });
    }
    if cluster.contains(['*', '?', '[', ']', '@']) {
        return Err(AddressError::PatternOfClusters { text: quoted(word) });
    }
    let cluster: ClusterRef = cluster.parse()?;
    let mut push = |machines| {
        parts.push(Part {
            excluded,
            machines,
            cluster: cluster.clone(),
        })
    };
    if let Some(group) = machines.strip_prefix('@') {
        let group: Result<GroupName, NameError> = group.parse();
        push(Machines::Group(group.map_err(AddressError::Name)?));
        return Ok(());
    }
    for name in range::expand(machines)? {
        push(match name.contains(['*', '?']) {
            true => Machines::Pattern(pattern(name)?),
            false => Machines::One(name.parse()?),
        });
    }
    Ok(())
}

/// Checks a pattern: it can match only if the rest of it may occur in a name.
fn pattern(text: String) -> Result<String, AddressError> {
    let fits = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '*' | '?');
    match text.chars().find(|character| !fits(*character)) {
        Some(bad) => Err(AddressError::PatternCharacter {
            text: quoted(&text),
            bad: crate::sanitize::escape(&bad.to_string()),
        }),
        None => Ok(text),
    }
}

/// Whether the pattern matches the whole name: `*` is any characters, `?` is one.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut here) = (0, 0);
    // The position of the last star and what it matches so far: only that star is retried.
    let mut star = None;
    while here < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == name[here] => {
                at += 1;
                here += 1;
            }
            _ => match &mut star {
                Some((star, swallowed)) => {
                    *swallowed += 1;
                    (at, here) = (*star + 1, *swallowed);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|rest| *rest == b'*')
}
