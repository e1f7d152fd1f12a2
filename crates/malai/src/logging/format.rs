//! Formats an event as one line, as text or JSON, with the fields of its spans. Text from other machines can neither start a
//! line nor move the cursor.

use std::fmt::{Debug, Write as _};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use malai_cluster::{escape, without_error_numbers};
use malai_wire::time::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::output::style::{self, paint};

/// Writes events as lines.
pub struct Lines<W> {
    writer: Mutex<W>,
    json: Arc<AtomicBool>,
    is_styled: bool,
}

impl<W> Lines<W> {
    /// Writes to this writer; `json` may change at any time.
    pub fn new(writer: W, json: Arc<AtomicBool>, is_styled: bool) -> Self {
        Self {
            writer: Mutex::new(writer),
            json,
            is_styled,
        }
    }
}

/// The fields of an event or a span, by name.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, without_error_numbers(&format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, without_error_numbers(value).into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut spans = Vec::new();
        let mut fields = Map::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|s| s.from_root())
        {
            spans.push(span.name());
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.extend(of_span.0.clone());
            }
        }
        let message = own.0.remove("message").unwrap_or_default();
        fields.extend(own.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let said = Said {
            time: Timestamp(now.map_or(0, |now| now.as_millis() as u64)),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            spans,
            message: message.as_str().unwrap_or_default(),
            fields,
        };
        let line = match self.json.load(Ordering::Relaxed) {
            true => said.as_json(),
            false => said.as_text(self.is_styled),
        };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // A failure to write (a full disk, a reader that has gone) must not end the daemon.
        let _ = writer
            .write_all(line.as_bytes())
            .and_then(|()| writer.flush());
    }
}

/// An event with all its fields.
struct Said<'a> {
    time: Timestamp,
    level: Level,
    target: &'a str,
    /// The names of its spans, outermost first.
    spans: Vec<&'a str>,
    message: &'a str,
    fields: Map<String, Value>,
}

/// A message as one line. Indented lines are malai's own explanations and are joined; any other line break is foreign and stays
/// visible.
fn one_line(message: &str) -> String {
    let mut lines = message.split('\n');
    let mut text = escape(lines.next().unwrap_or_default());
    for line in lines {
        text.push_str(if line.starts_with(' ') { "; " } else { "\\n" });
        text.push_str(&escape(line.trim()));
    }
    text
}

impl Said<'_> {
    fn as_text(&self, is_styled: bool) -> String {
        let level = format!("{:>5}", self.level.as_str());
        let level = match self.level {
            Level::ERROR => paint(&level, style::LOG_ERROR, is_styled),
            Level::WARN => paint(&level, style::LOG_WARNING, is_styled),
            _ => level,
        };
        let mut line = format!("{} {level} ", self.time);
        // The target matters only if the message is not malai's own.
        if !self.target.starts_with("malai") {
            let _ = write!(line, "{}: ", self.target);
        }
        if !self.spans.is_empty() {
            let _ = write!(line, "{}: ", self.spans.join(":"));
        }
        line.push_str(&one_line(self.message));
        for (name, value) in &self.fields {
            let _ = write!(line, " {name}={}", shown(value));
        }
        line.push('\n');
        line
    }

    fn as_json(&self) -> String {
        let mut object = Map::new();
        object.insert("time".into(), self.time.to_string().into());
        object.insert("level".into(), self.level.as_str().into());
        object.insert("message".into(), one_line(self.message).into());
        object.insert("target".into(), self.target.into());
        if !self.spans.is_empty() {
            object.insert("spans".into(), self.spans.join(":").into());
        }
        for (name, value) in &self.fields {
            let value = match value {
                Value::String(text) => escape(text).into(),
                other => other.clone(),
            };
            object.entry(name.as_str()).or_insert(value);
        }
        format!("{}\n", Value::Object(object))
    }
}

/// A value after `name=`: quoted if it would be ambiguous.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let safe = escape(text);
            let plain = !safe.is_empty() && !safe.contains([' ', '"', '=']);
            match plain {
                true => safe,
                false => format!("\"{}\"", safe.replace('\\', "\\\\").replace('"', "\\\"")),
            }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written of what happens, without the time.
    fn written(json: bool, happens: impl FnOnce()) -> String {
        let written = Written::default();
        let lines = Lines::new(written.clone(), Arc::new(AtomicBool::new(json)), false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), happens);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const FORGED: &str = "ls\n2026-01-01T00:00:00.000Z  INFO allowed: rm \x1b[2J\u{202e}";

    #[test]
    fn an_explanation_follows_its_message() {
        let text = written(false, || {
            tracing::debug!("cannot reach web: no answer\n  tried: here\n  is it on?\nforged");
        });
        assert!(
            text.ends_with("cannot reach web: no answer; tried: here; is it on?\\nforged\n"),
            "{text}"
        );
    }

    #[test]
    fn numbers_of_system_errors_are_left_out() {
        for json in [false, true] {
            let text = written(json, || {
                let error = std::io::Error::from_raw_os_error(13);
                tracing::error!(%error, why = error.to_string(), "cannot write x: {error}");
            });
            assert_eq!(text.matches("Permission denied").count(), 3, "{text}");
            assert!(!text.contains("os error"), "{text}");
        }
    }

    #[test]
    fn an_event_is_one_line_with_the_fields_of_its_spans() {
        let text = written(false, || {
            let _link = tracing::info_span!("link", cluster = %"company", peer = %"i66f").entered();
            let _session = tracing::info_span!("session", session = 3u64, machine = None::<&str>);
            let _session = _session.entered();
            tracing::warn!(rule = "a \"b\" c", peer = %"other", "what {}", 7);
        });
        let (_, said) = text.split_at(24);
        assert_eq!(
            said,
            "  WARN link:session: what 7 cluster=company peer=other rule=\"a \\\"b\\\" c\" session=3\n"
        );
    }

    #[test]
    fn nobody_forges_a_line_or_moves_a_cursor() {
        for json in [false, true] {
            let text = written(json, || {
                let _span = tracing::info_span!("s", machine = FORGED).entered();
                tracing::info!(peer = FORGED, why = ?FORGED, "refused: {FORGED}");
            });
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(
                !text.trim_end().contains(malai_cluster::is_unsafe),
                "{text:?}"
            );
            if json {
                let value: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(value["peer"], escape(FORGED));
                assert_eq!(value["level"], "INFO");
                assert!(
                    value["message"]
                        .as_str()
                        .unwrap()
                        .starts_with("refused: ls\\n")
                );
                assert!(value["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
            }
        }
    }

    #[test]
    fn a_field_cannot_take_the_place_of_what_every_event_has() {
        let text = written(true, || tracing::info!(level = "x", time = 1, "said"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["level"], &value["message"]),
            (&"INFO".into(), &"said".into())
        );
    }
}
