//! The lines of `malai ping`. Pure.

use malai_wire::ping::{PingAnswer, Pinged};
use malai_wire::status::NetworkPath;

/// The result of pinging one machine, as one line; `width` is the length of the longest target.
pub fn line(pinged: &Pinged, width: usize) -> String {
    let target = malai_cluster::escape(&format!("{}.{}", pinged.machine, pinged.cluster));
    let why = || {
        let why = pinged.why.as_deref().unwrap_or("no reason given");
        // The list of what was tried has lines of its own.
        let lines: Vec<&str> = why.lines().map(str::trim).collect();
        lines.join("; ")
    };
    match pinged.answer {
        PingAnswer::Here => format!("✅ {target:width$}  this computer"),
        PingAnswer::Answers => {
            let times = match (pinged.least_ms, pinged.mean_ms, pinged.most_ms) {
                (Some(_), Some(mean), Some(_)) if pinged.received == 1 => milliseconds(mean),
                (Some(least), Some(mean), Some(most)) => format!(
                    "{} (least {}, most {})",
                    milliseconds(mean),
                    milliseconds(least),
                    milliseconds(most)
                ),
                _ => String::new(),
            };
            let path = path_text(pinged.path, pinged.address.as_deref());
            let lost = pinged.sent.saturating_sub(pinged.received);
            let lost = match lost {
                0 => String::new(),
                lost => format!(" · {lost} of {} lost", pinged.sent),
            };
            let obstacle = pinged.obstacle.as_deref().map(malai_cluster::escape);
            let obstacle = obstacle.map_or_else(String::new, |why| format!(" ({why})"));
            format!("✅ {target:width$}  {times}{path}{obstacle}{lost}")
        }
        PingAnswer::Refused => format!("❌ {target:width$}  refuses this computer: {}", why()),
        PingAnswer::None => format!("❌ {target:width$}  does not answer: {}", why()),
    }
}

/// A network path, with a separator before it; empty if none is known.
fn path_text(path: Option<NetworkPath>, address: Option<&str>) -> String {
    let address = address.map(malai_cluster::escape);
    match (path, address) {
        (Some(NetworkPath::Direct), Some(address)) => format!(" · direct, {address}"),
        (Some(NetworkPath::Direct), None) => " · direct".to_owned(),
        (Some(NetworkPath::Relayed), _) => " · relayed".to_owned(),
        (Some(NetworkPath::Other), _) => " · by another path".to_owned(),
        (None, Some(address)) => format!(" · {address}"),
        (None, None) => String::new(),
    }
}

/// Milliseconds, with one decimal if there are few.
pub fn milliseconds(time: f64) -> String {
    let digits = if time < 10.0 { 1 } else { 0 };
    format!("{time:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let id = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
        let shown = |rest: &str| {
            let text = format!(r#"{{"machine": "web", "cluster": "c", "id": "{id}"{rest}}}"#);
            line(&serde_json::from_str(&text).unwrap(), 6)
        };
        for (rest, expected) in [
            (r#", "answer": "here""#, "✅ web.c   this computer"),
            (
                r#", "answer": "answers", "sent": 1, "received": 1, "least_ms": 0.41, "mean_ms": 0.41, "most_ms": 0.41, "path": "direct", "address": "127.0.0.1:5""#,
                "✅ web.c   0.4 ms · direct, 127.0.0.1:5",
            ),
            (
                r#", "answer": "answers", "sent": 3, "received": 2, "least_ms": 10.0, "mean_ms": 20.2, "most_ms": 30.9, "path": "relayed""#,
                "✅ web.c   20 ms (least 10 ms, most 31 ms) · relayed · 1 of 3 lost",
            ),
            (
                r#", "answer": "refused", "why": "no""#,
                "❌ web.c   refuses this computer: no",
            ),
            (
                r#", "answer": "dreams", "why": "a\n  b""#,
                "❌ web.c   does not answer: a; b",
            ),
        ] {
            assert_eq!(shown(rest), expected);
        }
    }
}
