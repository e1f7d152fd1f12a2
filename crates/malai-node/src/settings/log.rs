//! `[log]` in `malai.toml`: how much is logged, and in which format.

use std::fmt;
use std::str::FromStr;

use malai_cluster::{escape, nearest};
use toml::Spanned;
use toml::de::DeValue;

use super::Reader;

/// The environment variable that overrides the format in `malai.toml`.
pub const FORMAT_VARIABLE: &str = "MALAI_LOG";

/// The settings for the log. `MALAI_LOG` and `RUST_LOG` in the environment override them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// `format`.
    pub format: LogFormat,
    /// `level`.
    pub level: LogLevel,
}

/// The format of an event in the log, which is always one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// A JSON object, for programs.
    Json,
}

/// How much is logged: events of this level and above.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Also warnings.
    Warn,
    /// Also normal events.
    #[default]
    Info,
    /// Also details for debugging.
    Debug,
    /// Also every single step.
    Trace,
}

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// A text that is not a log format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid log format \"{}\": expected text or json", escape(.0))]
pub struct BadFormat(String);

impl FromStr for LogFormat {
    type Err = BadFormat;

    fn from_str(text: &str) -> Result<Self, BadFormat> {
        named(&FORMATS, text).ok_or_else(|| BadFormat(text.to_owned()))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = LEVELS[*self as usize];
        f.write_str(name)
    }
}

fn named<T: Copy>(all: &[(&str, T)], text: &str) -> Option<T> {
    all.iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
}

impl Reader<'_> {
    /// The section `[log]`.
    pub(super) fn log(&mut self, value: &Spanned<DeValue<'_>>) -> LogSettings {
        let mut settings = LogSettings::default();
        for (key, value) in self.table(value, "log").into_iter().flatten() {
            match key.get_ref().as_ref() {
                name @ "format" => {
                    settings.format = self.one_of(name, value, &FORMATS).unwrap_or_default();
                }
                name @ "level" => {
                    settings.level = self.one_of(name, value, &LEVELS).unwrap_or_default();
                }
                _ => self.unknown(key, "[log]", &["format", "level"]),
            }
        }
        settings
    }

    fn one_of<T: Copy>(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        all: &[(&str, T)],
    ) -> Option<T> {
        let text = self.string(value, name)?;
        let found = named(all, text);
        if found.is_none() {
            let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
            let help = match nearest(text, names.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("expected one of {}", names.join(", ")),
            };
            let message = format!("{name} in [log] cannot be \"{}\"", escape(text));
            self.problem(value.span(), message, Some(help));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn settings(source: &str) -> Result<LogSettings, Vec<String>> {
        Settings::parse("malai.toml", source)
            .map(|settings| settings.log)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_written_holds_and_the_rest_has_defaults() {
        assert_eq!(settings(""), Ok(LogSettings::default()));
        let read = settings("[log]\nformat = \"json\"\nlevel = \"debug\"").unwrap();
        assert_eq!(
            (read.format, read.level),
            (LogFormat::Json, LogLevel::Debug)
        );
        for (name, level) in LEVELS {
            let read = settings(&format!("[log]\nlevel = \"{name}\"")).unwrap();
            assert_eq!((read.level, read.level.to_string().as_str()), (level, name));
        }
    }

    #[test]
    fn what_is_wrong_is_said_all_at_once() {
        let problems = settings("[log]\nformat = \"jason\"\nlevel = 3\nfile = \"x\"").unwrap_err();
        let text = problems.join("\n");
        assert_eq!(problems.len(), 3, "{text}");
        for words in [
            "did you mean \"json\"?",
            "must be a string",
            "\"file\" in [log]",
        ] {
            assert!(text.contains(words), "no {words}: {text}");
        }
        assert!(settings("log = true").is_err());
    }
}
