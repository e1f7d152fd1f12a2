//! Numbers as people type them: an error says what can be written.

use std::ops::RangeInclusive;

/// A parser of whole numbers in a range.
pub fn within<N: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<N, String> + Clone {
    move |text: &str| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| N::try_from(number).ok());
        number.ok_or_else(|| match *range.end() {
            u64::MAX => "write a whole number".to_owned(),
            most => format!("write a whole number from {} to {most}", range.start()),
        })
    }
}

/// A parser of whole numbers.
pub fn any<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    within(0..=u64::MAX)(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_answered_by_what_is() {
        assert_eq!(within::<u16>(1..=512)("512"), Ok(512));
        for text in ["0", "513", "x", "-1", "1.5", "", "99999999999999999999"] {
            let error = within::<u16>(1..=512)(text).unwrap_err();
            assert_eq!(error, "write a whole number from 1 to 512", "{text}");
        }
        assert_eq!(any::<u64>("7"), Ok(7));
        assert_eq!(any::<u64>("seven"), Err("write a whole number".into()));
    }
}
