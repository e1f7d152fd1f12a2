//! `audit` and `audit_arguments` in `malai.toml`: whether commands may run without being recorded, and what is recorded of
//! a command.

use toml::Spanned;
use toml::de::DeValue;

use super::Reader;

/// The keys for the audit record. They go above the first section.
pub(super) const KEYS: [&str; 2] = ["audit", "audit_arguments"];

/// The settings for the audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditSettings {
    /// `audit = "required"`: what cannot be recorded is refused. Otherwise it runs, and malai warns that it was not recorded.
    pub required: bool,
    /// `audit_arguments = false`: only the name of a command is recorded and logged.
    pub arguments: bool,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            required: false,
            arguments: true,
        }
    }
}

impl Reader<'_> {
    /// The value of `audit`: whether it is required.
    pub(super) fn audit(&mut self, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        match self.string(value, "audit")? {
            "required" => Some(true),
            "wanted" => Some(false),
            other => {
                let message = format!(
                    "audit must be \"required\" or \"wanted\", not \"{}\"",
                    malai_cluster::escape(other)
                );
                let help = "\"required\" refuses what cannot be recorded; \"wanted\", the default, runs it with a warning";
                self.problem(value.span(), message, Some(help.to_owned()));
                None
            }
        }
    }

    /// The value of `audit_arguments`.
    pub(super) fn audit_arguments(&mut self, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(
                value,
                "audit_arguments",
                "true or false",
                "write it without quotes",
            );
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn settings(source: &str) -> Result<(bool, bool), Vec<String>> {
        Settings::parse("malai.toml", source)
            .map(|settings| (settings.audit.required, settings.audit.arguments))
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn both_keys_and_their_defaults() {
        for (source, expected) in [
            ("", (false, true)),
            ("audit = \"required\"", (true, true)),
            ("audit = \"wanted\"", (false, true)),
            ("audit_arguments = false", (false, false)),
            (
                "audit = \"required\"\naudit_arguments = false\n[network]\n",
                (true, false),
            ),
        ] {
            assert_eq!(settings(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_never_taken_for_the_default() {
        for (source, words) in [
            ("audit = true", "must be a string"),
            ("audit = \"require\"", "\"required\" or \"wanted\""),
            ("audit_arguments = \"no\"", "must be true or false"),
            ("audit_argument = false", "did you mean audit_arguments?"),
            (
                "[network]\nreach = \"lan\"\naudit = \"required\"",
                "put it above the first [section]",
            ),
        ] {
            let problems = settings(source).unwrap_err().join("\n");
            assert!(problems.contains(words), "{source}: {problems}");
        }
    }
}
