//! A problem in a file: where it is, what it is and how to fix it, shown as a good compiler shows it.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::sanitize::escape;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but may not mean what its author intended.
    Warning,
    /// Nothing is wrong, but something is worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// One problem in one file. `Display` escapes everything that the file's author controls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The name of the file, as the user knows it.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// How many characters of the line are marked, at least 1.
    pub width: usize,
    /// The line itself, cut after [`SHOWN_LINE`] characters.
    pub source_line: String,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}

/// How many characters of a source line a [`Diagnostic`] stores.
pub const SHOWN_LINE: usize = 400;

impl Diagnostic {
    /// A diagnostic for the bytes `span` of `source`; also for files other than cluster.toml.
    pub fn at(
        severity: Severity,
        file: &str,
        source: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        Lines::once(source).diagnostic(severity, file, span, message.into(), help)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len() + 2);
        let mut shown = String::new();
        let (mut start, mut end) = (None, 0);
        for (index, character) in self.source_line.chars().enumerate() {
            let column = index + 1;
            if column == self.column {
                start = Some(shown.chars().count());
            }
            match character {
                '\t' => shown.push_str("    "),
                other => shown.push_str(&escape(other.encode_utf8(&mut [0; 4]))),
            }
            if column < self.column + self.width {
                end = shown.chars().count();
            }
        }
        let start = start.unwrap_or_else(|| shown.chars().count());
        writeln!(f, "{}: {}", self.severity, escape(&self.message))?;
        let file = escape(&self.file);
        writeln!(
            f,
            "{}--> {file}:{}:{}",
            &margin[1..],
            self.line,
            self.column
        )?;
        writeln!(f, "{margin}|")?;
        writeln!(f, " {number} | {}", shown.trim_end())?;
        let carets = "^".repeat(end.saturating_sub(start).max(1));
        write!(f, "{margin}| {}{carets}", " ".repeat(start))?;
        if let Some(help) = &self.help {
            write!(f, "\n{margin}= help: {}", escape(help))?;
        }
        Ok(())
    }
}

/// Finds lines and columns in a source.
pub(crate) struct Lines<'s> {
    source: &'s str,
    /// Byte offset of the start of every line, for binary search. A source that is searched only once or twice
    /// needs none: for a file of 16 MiB the index may be larger than the file.
    starts: Option<Vec<usize>>,
}

impl<'s> Lines<'s> {
    pub(crate) fn new(source: &'s str) -> Self {
        let newlines = source
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(index, _)| index + 1));
        Lines {
            source,
            starts: Some(starts.collect()),
        }
    }

    /// For a source that is searched only a few times.
    pub(crate) fn once(source: &'s str) -> Self {
        Lines {
            source,
            starts: None,
        }
    }

    /// The index of the line, from 0, that contains this byte offset.
    pub(crate) fn index_of(&self, offset: usize) -> usize {
        match &self.starts {
            Some(starts) => starts.partition_point(|start| *start <= offset) - 1,
            None => {
                let before = self.source.as_bytes().iter().take(offset);
                before.filter(|byte| **byte == b'\n').count()
            }
        }
    }

    /// Where the line begins that holds this byte offset.
    fn start_of(&self, offset: usize) -> usize {
        match &self.starts {
            Some(starts) => starts[self.index_of(offset)],
            None => self.source[..offset].rfind('\n').map_or(0, |end| end + 1),
        }
    }

    /// The text of the line that starts here, without its line ending.
    fn text_from(&self, start: usize) -> &'s str {
        let rest = &self.source[start..];
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// The lines after the one that contains this byte offset.
    pub(crate) fn after(&self, offset: usize) -> impl Iterator<Item = &'s str> {
        let rest = &self.source[self.clamp(offset)..];
        rest.split('\n').skip(1)
    }

    /// The line and the column in characters of a byte offset, both counted from 1.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.clamp(offset);
        let before = &self.source[self.start_of(offset)..offset];
        (self.index_of(offset) + 1, before.chars().count() + 1)
    }

    fn clamp(&self, offset: usize) -> usize {
        self.source.floor_char_boundary(offset)
    }

    pub(crate) fn diagnostic(
        &self,
        severity: Severity,
        file: &str,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let offset = self.clamp(span.start);
        let (line, column) = self.position(offset);
        let start = self.start_of(offset);
        let text = self.text_from(start);
        let before = offset - start;
        let length = span.end.saturating_sub(offset);
        let meant = text.get(before..).unwrap_or_default();
        let meant = meant.get(..length).unwrap_or(meant);
        let mut source_line: String = text.chars().take(SHOWN_LINE).collect();
        if source_line.len() < text.len() {
            source_line.push('…');
        }
        Diagnostic {
            severity,
            file: file.to_owned(),
            line,
            column,
            width: meant.chars().count().max(1),
            source_line,
            message: escape(&message),
            help: help.as_deref().map(escape),
        }
    }
}

/// Collects problems while a file is read, and sorts them at the end.
pub(crate) struct Report<'s> {
    file: &'s str,
    lines: Lines<'s>,
    problems: Vec<Problem>,
    /// How many problems are stored.
    kept: usize,
    wants_warnings: bool,
    /// How many more there were.
    dropped: usize,
    has_errors: bool,
}

struct Problem {
    severity: Severity,
    is_missing: bool,
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

/// How many problems are stored, and how many of them are shown: a file of 16 MiB can have millions, and no
/// person reads the thousandth.
const KEPT: usize = 20_000;
const SHOWN: usize = 1_000;

/// The same for content that a manager signed: only its first problem is shown.
const KEPT_OF_CONTENT: usize = 20;

impl<'s> Report<'s> {
    pub(crate) fn new(file: &'s str, source: &'s str) -> Self {
        Report {
            file,
            lines: Lines::new(source),
            problems: Vec::new(),
            kept: KEPT,
            wants_warnings: true,
            dropped: 0,
            has_errors: false,
        }
    }

    /// For a source that is not edited here: only the first errors, without warnings.
    pub(crate) fn of_errors(file: &'s str, source: &'s str) -> Self {
        Report {
            lines: Lines::once(source),
            kept: KEPT_OF_CONTENT,
            wants_warnings: false,
            ..Self::new(file, "")
        }
    }

    /// Whether warnings are stored; if not, callers need not look for any.
    pub(crate) fn wants_warnings(&self) -> bool {
        self.wants_warnings
    }

    /// Whether further problems are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.len() == self.kept
    }

    pub(crate) fn error(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        self.push(Severity::Error, false, span, message, help);
    }

    /// An error about something that is missing.
    pub(crate) fn missing(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        self.push(Severity::Error, true, span, message, help);
    }

    pub(crate) fn warning(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        self.push(Severity::Warning, false, span, message, help);
    }

    fn push(
        &mut self,
        severity: Severity,
        is_missing: bool,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        if severity == Severity::Warning && !self.wants_warnings {
            return;
        }
        self.has_errors |= severity == Severity::Error;
        if self.is_full() {
            self.dropped += 1;
            return;
        }
        self.problems.push(Problem {
            severity,
            is_missing,
            span,
            message,
            help,
        });
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.has_errors
    }

    pub(crate) fn lines(&self) -> &Lines<'s> {
        &self.lines
    }

    /// The line, from 1, of a byte offset.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.index_of(offset) + 1
    }

    /// Keeps the problems for which `keep` returns true. It gets whether the problem is about something missing, and
    /// the index of its line. Problems without a place are dropped: a parser that goes on after a mistake makes up values.
    pub(crate) fn retain(&mut self, keep: impl Fn(bool, usize) -> bool) {
        let lines = &self.lines;
        self.problems.retain(|problem| {
            !problem.span.is_empty() && keep(problem.is_missing, lines.index_of(problem.span.start))
        });
    }

    /// Errors, then warnings, each in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.problems
            .sort_by_key(|problem| (problem.severity, problem.span.start));
        self.problems
            .dedup_by(|a, b| a.span == b.span && a.message == b.message);
        let further = self.dropped + self.problems.len().saturating_sub(SHOWN);
        self.problems.truncate(SHOWN);
        let mut diagnostics: Vec<Diagnostic> = self
            .problems
            .into_iter()
            .map(|p| {
                self.lines
                    .diagnostic(p.severity, self.file, p.span, p.message, p.help)
            })
            .collect();
        if further > 0
            && let Some(last) = diagnostics.last_mut()
        {
            let note = format!("there are {further} more problems, not shown");
            last.help = Some(match last.help.take() {
                Some(help) => format!("{help}; {note}"),
                None => note,
            });
        }
        diagnostics
    }
}

/// A value from the user for a message: escaped, cut, in backquotes.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_VALUE: usize = 80;
    let mut shown: String = escape(text).chars().take(SHOWN_VALUE).collect();
    if text.chars().nth(SHOWN_VALUE).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The candidate most similar to a mistyped text, if one is similar enough to suggest.
pub fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let length = text.chars().count();
    let far = 1 + length / 6;
    // Capitals are a mistake of their own, which no one makes letter by letter.
    let lower = text.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= far)
        .map(|candidate| {
            let distance = strsim::osa_distance(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The help line for a mistyped text.
pub(crate) fn did_you_mean<'c>(
    text: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    nearest(text, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests;
