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

/// A message without the numbers that Rust appends to system errors: `(os error 2)`.
pub fn without_numbers(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        let digits = after.trim_start_matches(|c: char| c.is_ascii_digit());
        text.push_str(before);
        rest = match digits.strip_prefix(')') {
            Some(after) => after,
            _ => {
                text.push_str(" (os error ");
                after
            }
        };
    }
    text + rest
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

    #[test]
    fn numbers_of_errors_are_left_out() {
        for (message, expected) in [
            ("a: no such file (os error 2)", "a: no such file"),
            ("a (os error 2): b (os error 13); c", "a: b; c"),
            ("a (os error x)", "a (os error x)"),
            ("a", "a"),
        ] {
            assert_eq!(without_numbers(message), expected);
        }
    }
}
