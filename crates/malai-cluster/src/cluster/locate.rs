//! Finds the place of a rule in a file.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::diagnostic::Lines;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
}

/// Finds the key that a rule's path names in a cluster.toml (`machine.web01.allow_from`, as in
/// [`Rule::path`](crate::Rule)).
pub fn locate(source: &str, path: &str) -> Option<Location> {
    let span = locate_span(source, path)?;
    let (line, column) = Lines::new(source).position(span.start);
    Some(Location { line, column })
}

/// The same for signed content, in time and memory bounded by its length.
pub fn locate_in_content(content: &str, path: &str) -> Option<Location> {
    let span = super::content::locate(content, path)?;
    let (line, column) = Lines::new(content).position(span.start);
    Some(Location { line, column })
}

/// The same as [`locate`], but returns the bytes of the key.
pub fn locate_span(source: &str, path: &str) -> Option<Range<usize>> {
    // A path is itself a dotted key, so the TOML parser can read it.
    let wanted = format!("{path} = 0");
    let (wanted, errors) = DeTable::parse_recoverable(&wanted);
    if !errors.is_empty() {
        return None;
    }
    let (document, _) = DeTable::parse_recoverable(source);
    let (mut wanted, mut table) = (wanted.get_ref(), document.get_ref());
    loop {
        let (name, rest) = wanted.iter().next()?;
        let (key, value) = table.get_key_value(name.get_ref().as_ref())?;
        match (rest.get_ref(), value.get_ref()) {
            (DeValue::Table(rest), DeValue::Table(inner)) => (wanted, table) = (rest, inner),
            (DeValue::Table(_), _) => return None,
            _ => return Some(key.span()),
        }
    }
}
