//! As whom commands run for which the configuration names no user.

use malai_cluster::{NameError, UserName};

/// The environment variable that says so. It belongs to the daemon's unit: the user in it and the capabilities that a
/// daemon needs to become it stand in one file.
pub const VARIABLE: &str = "MALAI_RUN_AS";

/// Why it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunAsError {
    /// It is no text.
    #[error("the environment variable {VARIABLE} is not UTF-8; correct it or unset it")]
    Text,
    /// It is no name of a user.
    #[error("the environment variable {VARIABLE} names no user: {0}; correct it or unset it")]
    Name(NameError),
}

/// The user as whom commands run that have no `username`; none is the daemon's own.
///
/// # Errors
///
/// The variable is set to something that is no user's name. Then nothing may run.
pub fn default_user() -> Result<Option<UserName>, RunAsError> {
    parse(std::env::var_os(VARIABLE).map(|value| value.into_string().map_err(|_| ())))
}

fn parse(value: Option<Result<String, ()>>) -> Result<Option<UserName>, RunAsError> {
    match value {
        None => Ok(None),
        Some(Err(())) => Err(RunAsError::Text),
        Some(Ok(name)) if name.is_empty() => Ok(None),
        Some(Ok(name)) => UserName::parse(&name).map(Some).map_err(RunAsError::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_of_a_user_will_do() {
        let text = |text: &str| parse(Some(Ok(text.to_owned())));
        assert_eq!(parse(None), Ok(None));
        assert_eq!(text(""), Ok(None));
        assert_eq!(text("malai-run").unwrap().unwrap().as_str(), "malai-run");
        assert!(matches!(text("a b"), Err(RunAsError::Name(_))));
        assert_eq!(parse(Some(Err(()))), Err(RunAsError::Text));
    }
}
