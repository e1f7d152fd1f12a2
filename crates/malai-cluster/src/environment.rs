//! Which environment variables a caller may set for a session.

use std::fmt;

/// The variables that a machine accepts if its section has no `accept_env`.
pub const DEFAULT_ACCEPT_ENV: [&str; 6] = [
    "LANG",
    "LC_*",
    "COLORTERM",
    "NO_COLOR",
    "TZ",
    "GIT_PROTOCOL",
];

/// Variables that make a shell, a dynamic linker or an interpreter run code, load files, or parse differently. A
/// pattern ends in `*`. They are never accepted, whatever `accept_env` says.
const NEVER: [&str; 52] = [
    "PATH",
    "LD_*",
    "DYLD_*",
    "BASH_*",
    "BASHOPTS",
    "ENV",
    "IFS",
    "SHELLOPTS",
    "PS1",
    "PS2",
    "PS3",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "GLOBIGNORE",
    "ZDOTDIR",
    "FPATH",
    "KSH_*",
    "MALAI_*",
    "SSH_*",
    "SUDO_*",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "MAIL",
    "PYTHON*",
    "PERL*",
    "RUBY*",
    "NODE_*",
    "LUA_*",
    "JAVA_*",
    "JDK_*",
    "_JAVA_OPTIONS",
    "CLASSPATH",
    "GEM_*",
    "BUNDLE_*",
    "PHPRC",
    "PHP_*",
    "GIT_SSH*",
    "GIT_EXEC_PATH",
    "GIT_CONFIG*",
    "GIT_PROXY_COMMAND",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "MALLOC_*",
    "TCLLIBPATH",
    "XDG_*",
    "EDITOR",
    "VISUAL",
    "PAGER",
];

/// A name, or a prefix of names followed by `*`: an entry of `accept_env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvPattern(Box<str>);

impl EnvPattern {
    /// Parses an entry of `accept_env`.
    ///
    /// # Errors
    ///
    /// It is not the name of a variable, with or without a `*` at the end, or it names a variable that is never accepted.
    pub fn parse(text: &str) -> Result<Self, EnvPatternError> {
        let stem = text.strip_suffix('*').unwrap_or(text);
        let is_name = stem.chars().enumerate().all(|(index, c)| {
            c == '_' || c.is_ascii_alphabetic() || (index > 0 && c.is_ascii_digit())
        });
        if stem.is_empty() || !is_name {
            return Err(EnvPatternError::NotAName);
        }
        if !text.ends_with('*') && is_never_accepted(text) {
            return Err(EnvPatternError::Never);
        }
        Ok(Self(text.into()))
    }

    fn matches(&self, name: &str) -> bool {
        matches(&self.0, name)
    }
}

impl fmt::Display for EnvPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a valid entry of `accept_env`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvPatternError {
    /// Names consist of letters, digits and `_`.
    #[error("not the name of an environment variable, nor a prefix followed by `*`")]
    NotAName,
    /// See [`is_never_accepted`].
    #[error(
        "this variable is never accepted from a caller, because it can make a shell, a linker or an interpreter run code"
    )]
    Never,
}

/// Whether a variable is never accepted, whatever a machine's section says.
pub fn is_never_accepted(name: &str) -> bool {
    NEVER.iter().any(|pattern| matches(pattern, name))
}

/// Whether a machine accepts a variable with this name. `None` means the default list.
pub fn accepts_env(accept_env: Option<&[EnvPattern]>, name: &str) -> bool {
    if is_never_accepted(name) {
        return false;
    }
    match accept_env {
        Some(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
        None => DEFAULT_ACCEPT_ENV
            .iter()
            .any(|pattern| matches(pattern, name)),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => name.starts_with(stem),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken() {
        let written = ["APP_*", "LD_*", "*X", "EDITOR"].map(EnvPattern::parse);
        assert_eq!(written[2], Err(EnvPatternError::NotAName));
        assert_eq!(written[3], Err(EnvPatternError::Never));
        let own = [written[0].clone().unwrap(), written[1].clone().unwrap()];
        for (name, by_default, by_own) in [
            ("LANG", true, false),
            ("LC_ALL", true, false),
            ("GIT_PROTOCOL", true, false),
            ("APP_MODE", false, true),
            ("LD_PRELOAD", false, false),
            ("BASH_ENV", false, false),
            ("BASH_FUNC_x%%", false, false),
            ("PATH", false, false),
            ("PYTHONSTARTUP", false, false),
            ("GIT_SSH_COMMAND", false, false),
            ("MALAI_HOME", false, false),
            ("", false, false),
        ] {
            assert_eq!(accepts_env(None, name), by_default, "{name}");
            assert_eq!(accepts_env(Some(&own), name), by_own, "{name}");
        }
        for text in ["", "*", "A B", "1A", "A=B", "PATH", "LD_PRELOAD", "a\n"] {
            assert!(EnvPattern::parse(text).is_err(), "{text}");
        }
    }
}
