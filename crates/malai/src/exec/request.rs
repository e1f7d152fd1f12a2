//! The rest of a request: the user, the environment, and whether both outputs are one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use malai_wire::peer::exec::{Action, ExecRequest};

/// Variables sent with a shell, and with everything that has a terminal.
const WITH_A_TERMINAL: [&str; 3] = ["LANG", "LC_*", "COLORTERM"];

/// An environment variable by its name, with its value.
pub type Variable = (String, Vec<u8>);

/// The request of this process, with its own standard output and error.
pub fn of_this_process(
    action: Action,
    user: Option<String>,
    mut env: Vec<Variable>,
    has_terminal: bool,
) -> ExecRequest {
    if has_terminal || action == Action::Shell {
        env.extend(inherited(&WITH_A_TERMINAL));
    }
    ExecRequest {
        one_output: !has_terminal && are_one_file(),
        ..of_many(action, user, env)
    }
}

/// A request whose outputs are read separately.
pub fn of_many(action: Action, user: Option<String>, env: Vec<Variable>) -> ExecRequest {
    ExecRequest {
        action,
        user,
        env,
        one_output: false,
    }
}

/// The variables of this process that match a name, or a prefix followed by `*`.
pub fn inherited<P: AsRef<str>>(patterns: &[P]) -> Vec<Variable> {
    let meant = |name: &str| {
        patterns
            .iter()
            .any(|pattern| match pattern.as_ref().strip_suffix('*') {
                Some(stem) => name.starts_with(stem),
                None => pattern.as_ref() == name,
            })
    };
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_vec())))
        .filter(|(name, _)| meant(name))
        .collect()
}

/// Parses `NAME=value`, or `NAME` for its value here.
///
/// # Errors
///
/// It has no name, or no value here.
pub fn variable(text: &OsStr) -> Result<Variable, String> {
    let bytes = text.as_bytes();
    let shown = malai_cluster::escape(&text.to_string_lossy());
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (&bytes[..at], Some(bytes[at + 1..].to_vec())),
        None => (bytes, None),
    };
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty());
    let Some(name) = name else {
        return Err(format!(
            "--env {shown}: write NAME=value, or NAME for its value here"
        ));
    };
    let value = value.or_else(|| std::env::var_os(name).map(OsStringExt::into_vec));
    match value {
        Some(value) => Ok((name.to_owned(), value)),
        None => Err(format!("--env {shown}: it is not set here")),
    }
}

/// Splits `user@target`. A target may itself start with an `@`: a group.
pub fn user_of(target: &str) -> (Option<&str>, &str) {
    match target.split_once('@') {
        Some((user, rest))
            if !user.is_empty()
                && !rest.is_empty()
                && !user.contains(['.', ',', '!', '*', '?', '[']) =>
        {
            (Some(user), rest)
        }
        _ => (None, target),
    }
}

/// Whether standard output and standard error lead to the same file.
fn are_one_file() -> bool {
    let stat = |fd: std::os::fd::BorrowedFd<'_>| {
        let stat = rustix::fs::fstat(fd).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    let (output, error) = (io::stdout(), io::stderr());
    let both = (stat(output.as_fd()), stat(error.as_fd()));
    both.0.is_some() && both.0 == both.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_told_apart() {
        for (text, expected) in [
            ("web@web01.c", (Some("web"), "web01.c")),
            ("web01.c", (None, "web01.c")),
            ("@web.c", (None, "@web.c")),
            ("deploy@@web.c", (Some("deploy"), "@web.c")),
            ("a.c,@web.c", (None, "a.c,@web.c")),
            ("web@", (None, "web@")),
        ] {
            assert_eq!(user_of(text), expected, "{text}");
        }
    }

    #[test]
    fn variables_are_written_or_inherited() {
        assert_eq!(
            variable(OsStr::new("A=b=c")),
            Ok(("A".into(), b"b=c".to_vec()))
        );
        assert_eq!(variable(OsStr::new("A=")), Ok(("A".into(), Vec::new())));
        assert!(variable(OsStr::new("=x")).is_err());
        assert!(variable(OsStr::new("MALAI_TEST_NOT_SET")).is_err());
        assert_eq!(variable(OsStr::new("PATH")).unwrap().0, "PATH");
    }
}
