//! `malai.toml`: the settings of this computer's owner, written by hand. Parsing is strict, so nothing in it is ignored.

pub(crate) mod accept;
pub(crate) mod audit;
pub(crate) mod environment;
pub(crate) mod forward;
pub(crate) mod limits;
pub(crate) mod log;
pub mod run_as;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use malai_cluster::{Diagnostic, Severity, Targets, VERBS, escape, nearest};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::home::Home;
use crate::os::fs::{self, StoreError};

pub(crate) use audit::AuditSettings;
pub use log::{LogFormat, LogSettings};

/// The environment variable that overrides the reach in `malai.toml`.
pub(crate) const REACH_VARIABLE: &str = "MALAI_NETWORK";

/// The maximum size of `malai.toml` in bytes.
const MAX_SETTINGS_BYTES: u64 = 1024 * 1024;

/// The known sections.
const SECTIONS: [&str; 7] = [
    "network",
    "aliases",
    "accept",
    "environment",
    "forward",
    "limits",
    "log",
];

/// How far malai looks for peers and can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Everywhere: direct addresses, the local network, public discovery and relays.
    #[default]
    Public,
    /// Only the local network.
    Lan,
    /// Only this computer: 127.0.0.1 and ::1.
    Loopback,
}

impl Reach {
    const ALL: [Reach; 3] = [Reach::Public, Reach::Lan, Reach::Loopback];

    fn as_str(self) -> &'static str {
        match self {
            Reach::Public => "public",
            Reach::Lan => "lan",
            Reach::Loopback => "loopback",
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Reach {
    type Err = BadReach;

    fn from_str(text: &str) -> Result<Reach, BadReach> {
        Reach::ALL
            .into_iter()
            .find(|reach| reach.as_str() == text)
            .ok_or_else(|| BadReach(text.to_owned()))
    }
}

/// A text that is not a reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reach \"{}\": expected public, lan or loopback", escape(.0))]
pub struct BadReach(String);

/// An environment variable has an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable MALAI_NETWORK cannot be used: {0}; unset it or correct it")]
pub struct BadEnvironment(#[from] BadReach);

/// The content of `malai.toml`; everything is optional.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// `[network] reach`.
    pub reach: Option<Reach>,
    /// `[aliases]`: short names of targets.
    pub aliases: BTreeMap<String, Targets>,
    /// `audit` and `audit_arguments`.
    pub audit: AuditSettings,
    /// `[accept.<alias>]`: what this computer accepts in each cluster.
    pub accept: accept::Sections,
    /// `[environment]`: variables for every command here.
    pub environment: environment::Environment,
    /// `[forward]`: what the daemon listens on and passes on.
    pub forward: Vec<forward::KeptForward>,
    /// `[limits]`.
    pub limits: limits::Limits,
    /// `[log]`.
    pub log: LogSettings,
}

/// Why `malai.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file has errors; every problem is listed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Diagnostic>),
}

impl Settings {
    /// The settings of this home; the defaults if there is no `malai.toml`.
    ///
    /// # Errors
    ///
    /// The file exists but cannot be read, or every problem in it.
    pub fn load(home: &Home) -> Result<Settings, SettingsError> {
        let path = home.settings();
        match fs::read_text(&path, MAX_SETTINGS_BYTES)? {
            None => Ok(Settings::default()),
            Some(text) => {
                Settings::parse(&path.to_string_lossy(), &text).map_err(SettingsError::Invalid)
            }
        }
    }

    /// Parses a `malai.toml`; `file` is its name in diagnostics.
    ///
    /// # Errors
    ///
    /// Every problem in it, in the order of the file.
    pub fn parse(file: &str, source: &str) -> Result<Settings, Vec<Diagnostic>> {
        let mut reader = Reader {
            file,
            source,
            problems: Vec::new(),
        };
        let (document, errors) = DeTable::parse_recoverable(source);
        for error in malai_cluster::without_consequences(source, errors) {
            let span = error.span().unwrap_or(source.len()..source.len());
            reader.problem(span, error.message().to_owned(), None);
        }
        let settings = reader.settings(document.get_ref());
        let mut problems = reader.problems;
        problems.sort_by_key(|problem| (problem.line, problem.column));
        if problems.is_empty() {
            Ok(settings)
        } else {
            Err(problems)
        }
    }

    /// The reach in force: `MALAI_NETWORK` if it is set, else the file's, else public.
    ///
    /// # Errors
    ///
    /// The environment variable is not a reach. It is never ignored: someone who mistypes `loopback` does not want `public`.
    pub fn effective_reach(&self) -> Result<Reach, BadEnvironment> {
        self.reach_with(std::env::var_os(REACH_VARIABLE).as_deref())
    }

    fn reach_with(&self, environment: Option<&OsStr>) -> Result<Reach, BadEnvironment> {
        match environment {
            Some(text) => Ok(text.to_string_lossy().parse::<Reach>()?),
            None => Ok(self.reach.unwrap_or_default()),
        }
    }
}

/// Walks through the document and collects every problem.
struct Reader<'a> {
    file: &'a str,
    source: &'a str,
    problems: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn settings(&mut self, document: &DeTable<'_>) -> Settings {
        let mut settings = Settings::default();
        for (key, value) in document {
            match key.get_ref().as_ref() {
                "network" => settings.reach = self.network(value),
                "aliases" => settings.aliases = self.aliases(value),
                "accept" => settings.accept = self.accept(value),
                "environment" => settings.environment = self.environment(value),
                "forward" => settings.forward = self.forward(value),
                "limits" => settings.limits = self.limits(value),
                "log" => settings.log = self.log(value),
                "audit" => settings.audit.required = self.audit(value).unwrap_or_default(),
                "audit_arguments" => {
                    settings.audit.arguments = self.audit_arguments(value).unwrap_or_default();
                }
                _ => {
                    let known = [&SECTIONS[..], &audit::KEYS[..]].concat();
                    self.unknown(key, "malai.toml", &known);
                }
            }
        }
        settings
    }

    fn network(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Reach> {
        let mut reach = None;
        for (key, value) in self.table(value, "network")? {
            match key.get_ref().as_ref() {
                "reach" => reach = self.reach(value),
                _ => self.unknown(key, "[network]", &["reach"]),
            }
        }
        reach
    }

    fn reach(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Reach> {
        let text = self.string(value, "reach")?;
        match text.parse() {
            Ok(reach) => Some(reach),
            Err(error) => {
                let names = Reach::ALL.map(Reach::as_str);
                let help = nearest(text, names).map(|name| format!("did you mean \"{name}\"?"));
                self.problem(value.span(), error.to_string(), help);
                None
            }
        }
    }

    fn aliases(&mut self, value: &Spanned<DeValue<'_>>) -> BTreeMap<String, Targets> {
        let mut aliases = BTreeMap::new();
        for (key, value) in self.table(value, "aliases").into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let named = self.alias_name(key.span(), name);
            let Some(text) = self.string(value, &format!("the alias {name}")) else {
                continue;
            };
            match Targets::parse(text, |_| None) {
                Ok(target) if named => {
                    aliases.insert(name.to_owned(), target);
                }
                Ok(_) => {}
                Err(error) => self.problem(
                    value.span(),
                    format!("the alias {name} is not a target: {error}"),
                    Some("as in \"web01.company\" or \"@web.company\"".to_owned()),
                ),
            }
        }
        aliases
    }

    /// Whether a target may have this alias; reports a problem if not.
    fn alias_name(&mut self, span: Range<usize>, name: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let (message, help) = if VERBS.contains(&name) {
            let message =
                format!("\"{name}\" is one of malai's own commands and cannot be an alias");
            (message, "choose another name")
        } else if name.contains('.') {
            let message =
                format!("the alias \"{name}\" contains a dot, which only full targets may have");
            (message, "remove the dot")
        } else if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
            let message = format!("\"{name}\" cannot be an alias");
            (
                message,
                "use letters, digits, - and _, and do not start with -",
            )
        } else {
            return true;
        };
        self.problem(span, message, Some(help.to_owned()));
        false
    }

    fn table<'d>(
        &mut self,
        value: &'d Spanned<DeValue<'d>>,
        name: &str,
    ) -> Option<&'d DeTable<'d>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(value, name, "a table", &format!("write it as [{name}]"));
        }
        table
    }

    fn string<'d>(&mut self, value: &'d Spanned<DeValue<'d>>, name: &str) -> Option<&'d str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, name, "a string", "put it in double quotes");
        }
        text
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, name: &str, wanted: &str, help: &str) {
        let found = value.get_ref().type_str();
        let message = format!("{name} must be {wanted}, but its type is {found}");
        self.problem(value.span(), message, Some(help.to_owned()));
    }

    fn unknown(&mut self, key: &Spanned<DeString<'_>>, place: &str, known: &[&str]) {
        let name = key.get_ref().as_ref();
        let help = match nearest(name, known.iter().copied()) {
            _ if audit::KEYS.contains(&name) => {
                "it applies to the whole file: put it above the first [section]".to_owned()
            }
            Some(near) => format!("did you mean {near}?"),
            None => format!("valid keys: {}", known.join(", ")),
        };
        let message = format!("unknown key \"{name}\" in {place}");
        self.problem(key.span(), message, Some(help));
    }

    fn problem(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        let (file, source) = (self.file, self.source);
        let problem = Diagnostic::at(Severity::Error, file, source, span, message, help);
        self.problems.push(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    fn problems(source: &str) -> Vec<(usize, usize, String)> {
        match Settings::parse("malai.toml", source) {
            Ok(settings) => panic!("accepted: {settings:?}"),
            Err(problems) => problems
                .into_iter()
                .map(|p| {
                    let help = p.help.map(|help| format!(" | {help}"));
                    (p.line, p.column, p.message + &help.unwrap_or_default())
                })
                .collect(),
        }
    }

    /// The reference page names every key, and its example is sound.
    #[test]
    fn the_page_about_malai_toml_is_true() {
        let page = include_str!("../../../../docs/malai-toml.md");
        let keys = ["reach", "from", "users", "PATH", "format", "level"];
        for key in SECTIONS.iter().chain(&audit::KEYS).chain(&keys) {
            assert!(
                page.contains(&format!("`{key}`")) || page.contains(&format!("`[{key}")),
                "docs/malai-toml.md does not name {key}"
            );
        }
        let (_, example) = page.split_once("```toml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let id = malai_cluster::SecretSeed::from_bytes([1; 32]).id();
        let example = example.replace("<id52>", &id.to_string());
        let settings = Settings::parse("malai.toml", &example).unwrap();
        assert!(settings.audit.required && settings.accept.all.len() == 1);
        assert_eq!(settings.reach, Some(Reach::Lan));
    }

    #[test]
    fn what_is_written_holds_and_nothing_need_be() {
        let folder = tempdir().unwrap();
        let home = Home::at(folder.path().to_path_buf());
        assert_eq!(Settings::load(&home).unwrap(), Settings::default());
        std::fs::write(
            home.settings(),
            "# mine\n[network]\nreach = \"lan\"\n[aliases]\nweb = \"@web.company\"\n",
        )
        .unwrap();
        let settings = Settings::load(&home).unwrap();
        assert_eq!(settings.reach, Some(Reach::Lan));
        assert_eq!(
            settings.aliases["web"],
            Targets::parse("@web.company", |_| None).unwrap()
        );
    }

    #[test]
    fn every_problem_is_reported_where_it_stands() {
        let found = problems(
            "netwrok = 1\n[network]\nreach = \"lann\"\nports = 3\n[aliases]\nstatus = \"a.b\"\n\"x.y\" = \"a.b\"\nok = 7\nw = \"nodot\"\n",
        );
        let places: Vec<_> = found
            .iter()
            .map(|(line, column, _)| (*line, *column))
            .collect();
        assert_eq!(
            places,
            [(1, 1), (3, 9), (4, 1), (6, 1), (7, 1), (8, 6), (9, 5)],
            "{found:#?}"
        );
        assert!(found[0].2.ends_with("did you mean network?"), "{found:#?}");
        assert!(found[1].2.ends_with("did you mean \"lan\"?"), "{found:#?}");
        assert!(found[3].2.contains("malai's own commands"), "{found:#?}");
        assert!(found[4].2.contains("contains a dot"), "{found:#?}");
    }

    #[test]
    fn broken_toml_is_an_error_and_never_taken_for_empty() {
        for source in [
            "[network",
            "reach = ",
            "a = 1\na = 2\n",
            "\u{0}",
            "[network]\nreach=\"lan\"\n[network]\n",
        ] {
            assert!(!problems(source).is_empty(), "{source:?}");
        }
    }

    #[test]
    fn wrong_types_say_what_they_should_be() {
        assert_eq!(problems("network = 3")[0].1, 11);
        assert!(
            problems("[network]\nreach = true")[0]
                .2
                .contains("must be a string")
        );
    }

    #[test]
    fn the_environment_wins_and_is_never_guessed_at() {
        let settings = Settings {
            reach: Some(Reach::Lan),
            ..Settings::default()
        };
        let with = |text: &str| settings.reach_with(Some(OsStr::new(text)));
        assert_eq!(settings.reach_with(None), Ok(Reach::Lan));
        assert_eq!(Settings::default().reach_with(None), Ok(Reach::Public));
        assert_eq!(with("loopback"), Ok(Reach::Loopback));
        for bad in ["", "Loopback", "loopback ", "pubic"] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }
}
