//! The differences between two configurations, shown before one replaces the other.

use std::collections::BTreeMap;
use std::fmt;

use super::Cluster;
use crate::escape;

/// A key whose value differs, or a section without keys that only one side has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The section, as `machine.web01`; empty for keys before the first section.
    pub section: String,
    /// The key; empty for a section without keys.
    pub key: String,
    /// Its value before, as TOML; `None` if it was not there.
    pub old: Option<String>,
    /// Its value afterwards, as TOML; `None` if it was removed.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    /// One line with `-` for the old value, and one with `+` for the new value. Everything is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section = match self.section.as_str() {
            "" => String::new(),
            section => format!("[{}] ", escape(section)),
        };
        let line = |mark: char, value: &String| {
            let value = match self.key.as_str() {
                "" => String::new(),
                key => format!("{} = {}", escape(key), escape(value)),
            };
            format!("{mark} {section}{value}").trim_end().to_owned()
        };
        let gone = self.old.as_ref().map(|value| line('-', value));
        let added = self.new.as_ref().map(|value| line('+', value));
        let lines: Vec<String> = gone.into_iter().chain(added).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// What replacing `from` with `to` would change, sorted by section and key. Layout, comments and the order of
/// the files do not matter.
pub fn changes(from: &Cluster, to: &Cluster) -> Vec<Change> {
    let (from, to) = (from.render(), to.render());
    let (mut old, mut new) = (values(&from), values(&to));
    let mut places: Vec<_> = old.keys().chain(new.keys()).copied().collect();
    places.sort_unstable();
    places.dedup();
    // It follows from the rest, and is in no file that people write.
    places.retain(|place| *place != ("", "format"));
    let differing = places.into_iter().filter_map(|place| {
        let (old, new) = (old.remove(&place), new.remove(&place));
        (old != new).then(|| Change {
            section: place.0.to_owned(),
            key: place.1.to_owned(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
        })
    });
    differing.collect()
}

/// Every value of a rendered configuration by section and key. [`Cluster::render`] writes one section header
/// or key per line, and nothing that spans lines.
fn values(rendered: &str) -> BTreeMap<(&str, &str), &str> {
    let mut values = BTreeMap::new();
    let mut section = "";
    for line in rendered.lines() {
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = header;
            values.insert((section, ""), "");
        } else if let Some((key, value)) = line.split_once(" = ") {
            values.remove(&(section, ""));
            values.insert((section, key), value);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LAPTOP, WEB01, cluster};

    fn shown(from: &str, to: &str) -> String {
        let lines: Vec<_> = changes(&cluster(from), &cluster(to))
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.join("\n")
    }

    #[test]
    fn values_sections_and_lists_that_differ_are_shown() {
        let from = format!(
            "[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"admins\"\n\
             [machine.web01.command.uptime]\n[group.admins]\nmembers = \"\"\n"
        );
        let to = format!(
            "[machine.laptop]\nid52 = \"{LAPTOP}\"\n\
             [machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\nusername = \"web\"\n"
        );
        let with_files = to.replace("username", "allow_files = \"\"\nusername");
        assert_eq!(
            shown(&to, &with_files),
            "+ [machine.web01] allow_files = []"
        );
        assert_eq!(
            shown(&from, &to),
            format!(
                "- [group.admins] members = []\n\
                 + [machine.laptop] id52 = \"{LAPTOP}\"\n\
                 - [machine.web01] allow_from = [\"admins\"]\n\
                 + [machine.web01] allow_from = [\"*\"]\n\
                 + [machine.web01] username = \"web\"\n\
                 - [machine.web01.command.uptime]"
            )
        );
    }

    #[test]
    fn layout_and_order_are_no_change() {
        let one = format!(
            "[group.a]\nmembers = \"laptop\"\n[machine.laptop]\nallow_from = \"a\"\nid52 = \"{LAPTOP}\"\n"
        );
        let other = format!(
            "# the same\n[machine.laptop]\nid52 = \"{LAPTOP}\" # its key\nallow_from = [\"a\"]\n[group.a]\nmembers = [\"laptop\"]\n"
        );
        assert_eq!(shown(&one, &other), "");
    }

    #[test]
    fn values_cannot_leave_their_line() {
        let to = format!(
            "[machine.web01]\nid52 = \"{WEB01}\"\n[machine.web01.command.x]\ncommand = \"a '] = b' '[c]'\"\nallow_from = \"*\"\n"
        );
        let from = format!("[machine.web01]\nid52 = \"{WEB01}\"\n");
        let shown = shown(&from, &to);
        assert_eq!(shown.lines().count(), 2, "{shown}");
    }
}
