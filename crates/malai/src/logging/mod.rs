//! malai's log: to standard error in the foreground, to a bounded file in the background.

pub mod format;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use format::Lines;
use malai_node::{FORMAT_VARIABLE, Home, LogFormat, LogSettings, Settings};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::output::style;

/// The size at which the log file is rotated, in bytes.
const SIZE: usize = 10 * 1024 * 1024;

/// How many rotated log files are kept.
const KEPT: usize = 3;

/// The active log. The environment overrides `malai.toml`.
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    json: Arc<AtomicBool>,
    environment: Environment,
}

/// The environment's settings for the log.
struct Environment {
    filter: Option<String>,
    format: Option<LogFormat>,
}

impl Environment {
    fn read() -> anyhow::Result<Self> {
        let format = std::env::var_os(FORMAT_VARIABLE).map(|text| text.to_string_lossy().parse());
        let format = format.transpose().with_context(|| {
            format!(
                "the environment variable {FORMAT_VARIABLE} has an invalid value; unset it or correct it"
            )
        })?;
        Ok(Self {
            filter: std::env::var("RUST_LOG")
                .ok()
                .filter(|text| !text.trim().is_empty()),
            format,
        })
    }

    fn filter(&self, settings: LogSettings) -> Targets {
        // iroh's own messages are for its developers.
        let own = format!("malai={}", settings.level);
        let text = match &self.filter {
            // A typing error must not silence the log, including the warning about it.
            Some(text) if unread(text).next().is_some() => format!("{own},{text}"),
            Some(text) => text.clone(),
            None => own,
        };
        read(&text)
    }

    fn is_json(&self, settings: LogSettings) -> bool {
        self.format.unwrap_or(settings.format) == LogFormat::Json
    }
}

/// Parses a filter like `RUST_LOG`: levels, targets, or targets with levels, separated by commas.
fn read(text: &str) -> Targets {
    let all = match text.contains("noq") {
        true => Targets::new(),
        // It warns every few seconds about each path that it keeps because it is the last one.
        false => Targets::new().with_target("noq_proto::connection", LevelFilter::ERROR),
    };
    let read = directives(text).filter_map(|one| one.1);
    read.fold(all, |all, one| match one.default_level() {
        Some(level) => all.with_default(level),
        None => all.with_targets(one),
    })
}

/// The directives of a filter that are invalid.
fn unread(text: &str) -> impl Iterator<Item = &str> {
    directives(text).filter_map(|(one, meant)| meant.is_none().then_some(one))
}

/// The directives between the commas, with their meaning if they are valid.
fn directives(text: &str) -> impl Iterator<Item = (&str, Option<Targets>)> {
    let directives = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    directives.map(|one| {
        // A target has no brackets: these are spans and fields, which are parsed elsewhere.
        let is_target = !one.contains(['[', ']', '{', '}', '/']);
        (one, is_target.then(|| widened(one).parse().ok()).flatten())
    })
}

/// `malai=debug` is meant for all of malai, which consists of several crates.
fn widened(directive: &str) -> String {
    match directive.strip_prefix("malai") {
        Some(level) if level.is_empty() || level.starts_with('=') => {
            format!("malai{level},malai_node{level}")
        }
        _ => directive.to_owned(),
    }
}

impl Log {
    /// Logs to standard error.
    pub fn to_stderr(home: &Home) -> anyhow::Result<Self> {
        let is_styled = style::is_styled(&io::stderr());
        Self::start(home, io::stderr(), is_styled)
    }

    /// Logs to `malai.log`, which is rotated.
    pub fn to_file(home: &Home) -> anyhow::Result<Self> {
        // Created first, with its mode, because it names machines and commands.
        drop(open_appending(home)?);
        let mut options = std::fs::OpenOptions::new();
        options.read(true).create(true).append(true).mode(0o600);
        options.custom_flags(malai_node::own_flags());
        let file = FileRotate::new(
            home.log(),
            AppendCount::new(KEPT),
            ContentLimit::BytesSurpassed(SIZE),
            Compression::None,
            Some(options),
        );
        Self::start(home, file, false)
    }

    fn start(
        home: &Home,
        writer: impl Write + Send + 'static,
        is_styled: bool,
    ) -> anyhow::Result<Self> {
        let environment = Environment::read()?;
        // Problems of malai.toml are reported when the daemon starts.
        let settings = Settings::load(home).unwrap_or_default().log;
        let json = Arc::new(AtomicBool::new(environment.is_json(settings)));
        let (filter, handle) = reload::Layer::new(environment.filter(settings));
        tracing_subscriber::registry()
            .with(filter)
            .with(Lines::new(writer, json.clone(), is_styled))
            .init();
        for directive in unread(environment.filter.as_deref().unwrap_or_default()) {
            let directive = malai_cluster::escape(directive);
            tracing::warn!(
                "ignoring the invalid RUST_LOG directive {directive}; write <target>=<level>"
            );
        }
        Ok(Self {
            filter: handle,
            json,
            environment,
        })
    }

    /// Applies new settings, unless the environment overrides them.
    pub fn apply(&self, settings: LogSettings) {
        let json = self.environment.is_json(settings);
        self.json.store(json, Ordering::Relaxed);
        if let Err(error) = self.filter.reload(self.environment.filter(settings)) {
            tracing::error!("cannot change the log level: {error}");
        }
    }
}

/// The files of the background daemon's log, newest first, whether they exist or not.
pub fn files(home: &Home) -> Vec<PathBuf> {
    let older = (1..=KEPT).map(|number| {
        let mut path = home.log().into_os_string();
        path.push(format!(".{number}"));
        PathBuf::from(path)
    });
    std::iter::once(home.log()).chain(older).collect()
}

/// Opens `malai.log` for a process that is not yet, or no longer, logging.
pub fn open_appending(home: &Home) -> anyhow::Result<File> {
    let mut options = File::options();
    Ok(malai_node::open_own(
        &home.log(),
        options.create(true).append(true),
    )?)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use malai_node::LogSettings;

    use super::{Environment, read, unread};

    #[test]
    fn a_filter_is_read_as_other_programs_read_it() {
        let cases = [
            // text, target, most detailed level of it that is logged
            ("malai=info", "malai::log", Some(Level::INFO)),
            ("malai=debug", "malai_node::connection", Some(Level::DEBUG)),
            ("malai", "malai_node::connection", Some(Level::TRACE)),
            ("malai=info", "iroh::socket", None),
            ("debug", "iroh::socket", Some(Level::DEBUG)),
            ("warn, malai=debug", "iroh", Some(Level::WARN)),
            ("malai=debug,warn", "malai_node", Some(Level::DEBUG)),
            ("iroh=debug,malai=off", "malai", None),
            ("malai=loud,iroh=info,[x]=debug,", "iroh", Some(Level::INFO)),
            ("debug", "noq_proto::connection", Some(Level::ERROR)),
            (
                "noq_proto=debug",
                "noq_proto::connection",
                Some(Level::DEBUG),
            ),
        ];
        for (text, target, most) in cases {
            let filter = read(text);
            for level in [
                Level::ERROR,
                Level::WARN,
                Level::INFO,
                Level::DEBUG,
                Level::TRACE,
            ] {
                let expected = most.is_some_and(|most| level <= most);
                assert_eq!(
                    filter.would_enable(target, &level),
                    expected,
                    "{text}: {target} {level}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart_and_does_not_silence_the_log() {
        assert_eq!(
            unread("").count() + unread(" , ,malai=info,debug").count(),
            0
        );
        for text in ["malai=loud", "malai[link]=debug", "iroh=info,a=b=c"] {
            assert_eq!(unread(text).count(), 1, "{text}");
            let environment = Environment {
                filter: Some(text.to_owned()),
                format: None,
            };
            let filter = environment.filter(LogSettings::default());
            assert!(
                filter.would_enable("malai_node::connection", &Level::INFO),
                "{text}"
            );
        }
    }
}
