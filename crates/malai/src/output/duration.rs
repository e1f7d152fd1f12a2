//! Durations as people type and read them: one grammar for every option, one format for all output. Pure.

use std::time::Duration;

/// The error of an option with a duration that cannot be parsed.
pub const EXAMPLES: &str = "write a duration as in 500ms, 30s, 1.5h, 1h30m, 7d or 2w";

/// The maximum number of digits. Enough for a century in seconds.
const MAX_DIGITS: usize = 10;

/// The units and their length in seconds.
const UNITS: [(&str, f64); 8] = [
    ("ms", 0.001),
    ("s", 1.0),
    ("sec", 1.0),
    ("m", 60.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
    ("w", 7.0 * 86_400.0),
];

/// Parses a duration of at least a millisecond: numbers with units, as in `1.5h` or `1h30m`; a single number without a
/// unit is in seconds.
///
/// # Errors
///
/// How to write a duration.
pub fn parse(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).ok_or(EXAMPLES)?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration >= Duration::from_millis(1) => Ok(duration),
        _ => Err(EXAMPLES.to_owned()),
    }
}

fn seconds(text: &str) -> Option<f64> {
    let mut sum = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(number_end.unwrap_or(rest.len()));
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = after.split_at(unit_end.unwrap_or(after.len()));
        let unit = match unit {
            // Only a single number may omit its unit.
            "" if number.len() == text.len() => 1.0,
            unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        if number.len() > MAX_DIGITS {
            return None;
        }
        sum += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    Some(sum)
}

/// A duration in its one or two largest units: `2.5s`, `1m 1s`, `2h`, `2d 2h`.
pub fn format(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole == 0 && !duration.is_zero() {
        return match duration.as_millis() {
            0 => format!("{}µs", duration.as_micros()),
            millis => format!("{millis}ms"),
        };
    }
    if whole < 60 {
        // Rounded down to milliseconds, so the time shown has passed.
        let millis = u64::from(duration.subsec_millis());
        return match millis {
            0 => format!("{whole}s"),
            millis => format!("{}s", (whole * 1000 + millis) as f64 / 1000.0),
        };
    }
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    let (large, small) = if days > 0 {
        ((days, "d"), (hours % 24, "h"))
    } else if hours > 0 {
        ((hours, "h"), (minutes % 60, "m"))
    } else {
        ((minutes, "m"), (whole % 60, "s"))
    };
    match small {
        (0, _) => format!("{}{}", large.0, large.1),
        (count, unit) => format!("{}{} {count}{unit}", large.0, large.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_grammar() {
        for (text, milliseconds) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("30sec", 30_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("5m", 300_000),
            ("5min", 300_000),
            ("2h", 7_200_000),
            ("1.5h", 5_400_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("2w", 14 * 86_400_000),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "h",
            "0",
            "0s",
            "-1",
            "-1h",
            "1y",
            "1ä",
            "inf",
            "NaN",
            "1e9h",
            "5 m",
            "1h30",
            "1.2.3s",
            ".",
            "99999999999",
            "99999999999999999999d",
        ] {
            assert_eq!(parse(text), Err(EXAMPLES.to_owned()), "{text}");
        }
    }

    #[test]
    fn one_format() {
        for (milliseconds, text) in [
            (0, "0s"),
            (1, "1ms"),
            (999, "999ms"),
            (1000, "1s"),
            (2500, "2.5s"),
            (61_900, "1m 1s"),
            (300_000, "5m"),
            (5_400_000, "1h 30m"),
            (7_200_000, "2h"),
            (180_000_000, "2d 2h"),
        ] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(format(duration), text, "{milliseconds}");
        }
        assert_eq!(format(Duration::from_micros(20)), "20µs");
    }
}
