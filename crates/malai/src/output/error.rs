//! Errors as one message. Pure.

/// An error and its causes, without causes that the text before them already contains.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cause_is_told_twice() {
        let error = std::io::Error::other("no space left");
        let error = anyhow::Error::from(error).context("cannot write x: no space left");
        assert_eq!(text(&error), "cannot write x: no space left");
        let error = std::io::Error::other("no space left");
        let error = anyhow::Error::from(error).context("cannot write x");
        assert_eq!(text(&error), "cannot write x: no space left");
    }
}
