//! Timestamps as files and people write them: RFC 3339, in UTC, with milliseconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds per day.
const DAY: u64 = 86_400_000;

/// Milliseconds since the start of 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// A text that is not a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is written 2026-11-23, or 2026-11-23T07:22:48Z")]
pub struct BadTime;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / DAY);
        let rest = self.0 % DAY;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            rest / 3_600_000,
            rest / 60_000 % 60,
            rest / 1000 % 60,
            rest % 1000
        )
    }
}

impl FromStr for Timestamp {
    type Err = BadTime;

    /// Parses a date, or a date and a time with or without seconds, in UTC unless an offset follows.
    fn from_str(text: &str) -> Result<Self, BadTime> {
        parse(text).ok_or(BadTime)
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    if !text.is_ascii() {
        return None;
    }
    let (day, rest) = text.split_at_checked(10)?;
    let day = days(
        number(day.get(..4)?)?,
        number(part(day, 4, 7, '-')?)?,
        number(part(day, 7, 10, '-')?)?,
    )?;
    if rest.is_empty() {
        return Some(Timestamp(day.checked_mul(DAY)?));
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, offset) = match rest.find(['Z', 'z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, "Z"),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let hour = number(clock.get(..2)?)?;
    let minute = number(part(clock, 2, 5, ':')?)?;
    let second = match clock.len() {
        5 => 0,
        8 => number(part(clock, 5, 8, ':')?)?,
        _ => return None,
    };
    // 60 is a leap second.
    if hour > 23 || minute > 59 || second > 60 || fraction.is_empty() {
        return None;
    }
    number(fraction.get(..fraction.len().min(9))?)?;
    let millis = number(&format!("{:0<3}", fraction.get(..fraction.len().min(3))?))?;
    let local = day * DAY + hour * 3_600_000 + minute * 60_000 + second * 1000 + millis;
    let ahead = |offset: &str| {
        let hours = number(offset.get(..2)?)?;
        let minutes = number(part(offset, 2, 5, ':')?)?;
        (offset.len() == 5 && hours < 24 && minutes < 60)
            .then_some(hours * 3_600_000 + minutes * 60_000)
    };
    match offset.split_at_checked(1)? {
        ("+", offset) => local.checked_sub(ahead(offset)?),
        ("-", offset) => local.checked_add(ahead(offset)?),
        (_, "") => Some(local),
        _ => None,
    }
    .map(Timestamp)
}

/// The text after a separator.
fn part(text: &str, from: usize, to: usize, separator: char) -> Option<&str> {
    text.get(from..to)?.strip_prefix(separator)
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Converts days since 1970 to year, month and day. (Howard Hinnant's `civil_from_days`; a year starts in March.)
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// The inverse; `None` for a day that does not exist or is before 1970.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted_year = year - u64::from(month <= 2);
    let shifted = (month + 9) % 12;
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let year_of_era = shifted_year % 400;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (shifted_year / 400 * 146_097 + day_of_era).checked_sub(719_468)?;
    // The 31st of a month that has 30 days would be the first of the next.
    (date(days) == (year, month, day)).then_some(days)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_234_567_890_123, "2009-02-13T23:31:30.123Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp(millis).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(millis)), "{text}");
        }
    }

    #[test]
    fn every_day_of_centuries_there_and_back() {
        for day in 0..200_000 {
            let moment = Timestamp(day * DAY + day % DAY);
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
    }

    #[test]
    fn what_people_write() {
        let at = |text: &str| text.parse::<Timestamp>().ok().map(|at| at.0);
        let day = 1_774_483_200_000;
        for (text, after) in [
            ("2026-03-26", Some(0)),
            ("2026-03-26T01:02", Some(3_720_000)),
            ("2026-03-26 01:02:03", Some(3_723_000)),
            ("2026-03-26T01:02:03.5Z", Some(3_723_500)),
            ("2026-03-26T01:02:03.123456+01:00", Some(123_123)),
            ("2026-03-25T23:00:00-02:30", Some(5_400_000)),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("2026-03-26T24:00:00Z", None),
            ("2026-03-26T01:02:03.Z", None),
            ("2026-03-26T01:02:03Zjunk", None),
            ("2026-03-26T01:02:03+1", None),
            ("26-03-2026", None),
            ("2026-3-26", None),
            ("+026-03-26", None),
            ("äöü2026-03", None),
            ("", None),
        ] {
            assert_eq!(at(text), after.map(|after| day + after), "{text}");
        }
    }
}
