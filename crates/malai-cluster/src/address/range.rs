//! Numbered machines: expands `web[01-20,25]`, and abbreviates lists of names.

use crate::diagnostic::quoted;

use super::AddressError;

/// The maximum number of names that one word may expand to. More than any cluster has are a typing mistake.
const MOST: usize = 65_536;

/// Expands the brackets in a word: `web[01-03]` becomes web01, web02 and web03; `db[a,c]` becomes dba and dbc.
/// A number with leading zeros keeps its width.
///
/// # Errors
///
/// The brackets are not valid.
pub(super) fn expand(word: &str) -> Result<Vec<String>, AddressError> {
    let wrong = || AddressError::Range { text: quoted(word) };
    let mut names = vec![String::new()];
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('[') {
        let (inside, behind) = after.split_once(']').ok_or_else(wrong)?;
        if before.contains(']') || inside.contains('[') {
            return Err(wrong());
        }
        let mut items = Vec::new();
        for item in inside.split(',') {
            write_out(item, &mut items).ok_or_else(wrong)?;
            if items.len().saturating_mul(names.len()) > MOST {
                return Err(AddressError::RangeTooLong { text: quoted(word) });
            }
        }
        names = names
            .iter()
            .flat_map(|name| {
                items
                    .iter()
                    .map(move |item| format!("{name}{before}{item}"))
            })
            .collect();
        rest = behind;
    }
    if rest.contains(']') {
        return Err(wrong());
    }
    for name in &mut names {
        name.push_str(rest);
    }
    Ok(names)
}

/// Expands one item in brackets: a number, a letter, or a range of either. `None` if it is none of these.
fn write_out(item: &str, items: &mut Vec<String>) -> Option<()> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    if let ([first @ b'a'..=b'z'], [last @ b'a'..=b'z']) = (first.as_bytes(), last.as_bytes()) {
        items.extend(
            (first <= last)
                .then_some(*first..=*last)?
                .map(|letter| char::from(letter).into()),
        );
        return Some(());
    }
    let (from, to) = (number(first)?, number(last)?);
    if from > to || to - from >= MOST {
        return None;
    }
    let padded = [first, last]
        .iter()
        .any(|text| text.len() > 1 && text.starts_with('0'));
    if padded && first.len() != last.len() {
        return None;
    }
    let width = if padded { first.len() } else { 0 };
    items.extend((from..=to).map(|number| format!("{number:0width$}")));
    Some(())
}

fn number(text: &str) -> Option<usize> {
    let digits =
        !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Abbreviates a list of names so that [`expand`] can read it again: neighbors that differ only in their last
/// number become a range.
pub fn compress_names(names: &[&str]) -> String {
    let mut folded: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
    for name in names {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[stem.len()..];
        match folded.last_mut() {
            Some((last, ranges))
                if *last == stem && number(digits).is_some() && number(ranges[0].0).is_some() =>
            {
                match ranges.last_mut() {
                    Some((_, to)) if follows(to, digits) => *to = digits,
                    _ => ranges.push((digits, digits)),
                }
            }
            _ => folded.push((stem, vec![(digits, digits)])),
        }
    }
    let shown = folded.into_iter().map(|(stem, ranges)| {
        if let [(from, to)] = ranges.as_slice()
            && from == to
        {
            return format!("{stem}{from}");
        }
        let items = ranges.iter().map(|(from, to)| match from == to {
            true => (*from).to_owned(),
            false => format!("{from}-{to}"),
        });
        format!("{stem}[{}]", items.collect::<Vec<_>>().join(","))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Whether a number directly follows another one in a range, with the same width.
fn follows(before: &str, next: &str) -> bool {
    let padded = [before, next]
        .iter()
        .any(|text| text.len() > 1 && text.starts_with('0'));
    let (Some(before_value), Some(next_value)) = (number(before), number(next)) else {
        return false;
    };
    before_value + 1 == next_value && (!padded || before.len() == next.len())
}
