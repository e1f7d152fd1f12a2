//! `[environment]` in `malai.toml`: variables for every command on this computer, including `PATH`.

use std::collections::BTreeMap;

use malai_cluster::escape;
use toml::Spanned;
use toml::de::DeValue;

use super::Reader;

/// Variables by name.
pub(crate) type Environment = BTreeMap<String, String>;

/// Variables that malai sets itself, from the user, the terminal and the caller.
const OWN: [&str; 6] = [
    "HOME",
    "LOGNAME",
    "SHELL",
    "TERM",
    "USER",
    "XDG_RUNTIME_DIR",
];

impl Reader<'_> {
    /// Parses the section. Invalid entries are reported and skipped.
    pub(super) fn environment(&mut self, value: &Spanned<DeValue<'_>>) -> Environment {
        let mut environment = Environment::new();
        for (key, value) in self.table(value, "environment").into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let Some(text) = self.string(value, name) else {
                continue;
            };
            let wrong = match wrong_name(name) {
                Some((message, help)) => Some((key.span(), message, help)),
                None => {
                    wrong_value(name, text).map(|(message, help)| (value.span(), message, help))
                }
            };
            match wrong {
                Some((span, message, help)) => self.problem(span, message, Some(help.to_owned())),
                None => {
                    environment.insert(name.to_owned(), text.to_owned());
                }
            }
        }
        environment
    }
}

/// Why a variable cannot have this name, and what to do about it.
fn wrong_name(name: &str) -> Option<(String, &'static str)> {
    if OWN.contains(&name) || name.starts_with("MALAI_") {
        let message = format!("{} is set by malai itself", escape(name));
        return Some((message, "remove the line"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let digit = |c: char| c.is_ascii_digit();
    (name.is_empty() || name.starts_with(digit) || !name.chars().all(plain)).then(|| {
        let message = format!("\"{}\" cannot be the name of a variable", escape(name));
        (
            message,
            "use letters, digits and _, and do not start with a digit",
        )
    })
}

/// Why a variable cannot have this value, and what to do about it.
fn wrong_value(name: &str, value: &str) -> Option<(String, &'static str)> {
    if value.contains('\0') {
        let message = format!("{name} contains a NUL byte, which a variable cannot have");
        return Some((message, "remove it"));
    }
    let folder = value.split(':').find(|folder| !folder.starts_with('/'))?;
    (name == "PATH").then(|| {
        let message = match folder {
            "" => "PATH contains an empty folder, which means the current folder".to_owned(),
            folder => format!("\"{}\" in PATH is not an absolute path", escape(folder)),
        };
        (message, "write absolute paths, separated by colons")
    })
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    #[track_caller]
    fn check(source: &str, expected: Result<&[(&str, &str)], &str>) {
        let source = format!("[environment]\n{source}\n");
        match (Settings::parse("malai.toml", &source), expected) {
            (Ok(settings), Ok(expected)) => {
                let found: Vec<_> = settings
                    .environment
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                assert_eq!(found, expected, "{source}");
            }
            (Err(problems), Err(expected)) => {
                assert!(problems[0].message.contains(expected), "{problems:?}");
                assert!(problems[0].help.is_some(), "{problems:?}");
            }
            (found, _) => panic!("{source}: {found:?}"),
        }
    }

    #[test]
    fn variables_are_read_and_what_malai_sets_itself_is_refused() {
        check("", Ok(&[]));
        check(
            "PATH = \"/opt/bin:/bin\"\nTZ = \"\"",
            Ok(&[("PATH", "/opt/bin:/bin"), ("TZ", "")]),
        );
        check("HOME = \"/tmp\"", Err("HOME is set by malai itself"));
        check("MALAI_CLUSTER = \"x\"", Err("is set by malai itself"));
        check("\"A=B\" = \"x\"", Err("cannot be the name of a variable"));
        check("9A = \"x\"", Err("cannot be the name of a variable"));
        check("A = 9", Err("A must be a string"));
        check("A = \"a\\u0000b\"", Err("NUL"));
        check("PATH = \"\"", Err("empty folder"));
        check("PATH = \"/bin:\"", Err("empty folder"));
        check(
            "PATH = \"/bin:sbin\"",
            Err("\"sbin\" in PATH is not an absolute path"),
        );
    }
}
