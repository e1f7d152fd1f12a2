//! One machine as a JSON object: its output and its result. Pure.

use std::time::Duration;

use data_encoding::BASE64;
use malai_cluster::is_unsafe;
use serde::Serialize;

use crate::fanout::JSON_OUTPUT_MAX;
use crate::fanout::summary::End;

/// A stream that is buffered until its machine has finished.
#[derive(Debug, Default)]
pub struct CappedBuffer {
    bytes: Vec<u8>,
    /// Whether there was more than fits.
    pub cut: bool,
}

impl CappedBuffer {
    /// Stores what has arrived, as far as it fits.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = JSON_OUTPUT_MAX - self.bytes.len();
        self.cut |= bytes.len() > room;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[derive(Serialize)]
struct Record<'a> {
    machine: &'a str,
    cluster: &'a str,
    exit: u8,
    error: Option<String>,
    stdout: String,
    /// Only if it is not UTF-8; the text then has replacement characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    stderr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
    duration_ms: u128,
}

/// The object, as one line.
pub fn record(
    machine: &str,
    cluster: &str,
    end: &End,
    [stdout, stderr]: [&CappedBuffer; 2],
    took: Duration,
) -> Vec<u8> {
    let text = |kept: &CappedBuffer| String::from_utf8_lossy(&kept.bytes).into_owned();
    let base64 = |kept: &CappedBuffer| {
        let broken = std::str::from_utf8(&kept.bytes).is_err();
        broken.then(|| BASE64.encode(&kept.bytes))
    };
    let record = Record {
        machine,
        cluster,
        exit: end.code(),
        error: end.error(),
        stdout: text(stdout),
        stdout_base64: base64(stdout),
        stderr: text(stderr),
        stderr_base64: base64(stderr),
        duration_ms: took.as_millis(),
    };
    let json = serde_json::to_string(&record).unwrap_or_default();
    let mut line = Vec::with_capacity(json.len() + 1);
    // Characters that a terminal acts on occur only in strings, where they can be escaped.
    for character in json.chars() {
        if is_unsafe(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                line.extend(format!("\\u{unit:04x}").into_bytes());
            }
        } else {
            line.extend(character.encode_utf8(&mut [0; 4]).bytes());
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let [mut out, mut err] = [CappedBuffer::default(), CappedBuffer::default()];
        let text = "ü \u{9b}31m \u{202e} \u{e0001} \"\\\n";
        out.push(text.as_bytes());
        err.push(b"\xff\x00");
        let line = record(
            "web01",
            "company",
            &End::Exit(3),
            [&out, &err],
            Duration::from_millis(5),
        );
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.ends_with("}\n") && !line.trim_end().contains(is_unsafe),
            "{line}"
        );
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["machine"], "web01");
        assert_eq!(read["cluster"], "company");
        assert_eq!(read["exit"], 3);
        assert_eq!(read["error"], serde_json::Value::Null);
        assert_eq!(read["stdout"], text);
        assert_eq!(read.get("stdout_base64"), None);
        assert_eq!(read["stderr"], "\u{fffd}\0");
        assert_eq!(read["stderr_base64"], "/wA=");
        assert_eq!(read["duration_ms"], 5);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut kept = CappedBuffer::default();
        kept.push(&vec![0; JSON_OUTPUT_MAX - 1]);
        kept.push(b"a");
        assert!(!kept.cut);
        kept.push(b"b");
        assert!(kept.cut && kept.bytes.len() == JSON_OUTPUT_MAX);
    }
}
