//! malai's log: to standard error in the foreground, to a bounded file in the background.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

use anyhow::Context;
use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use malai_node::home::Home;
use tracing_subscriber::EnvFilter;

/// The log file is started anew at this size, in bytes.
const SIZE: usize = 10 * 1024 * 1024;

/// Older log files kept.
const KEPT: usize = 3;

/// What is logged unless RUST_LOG says otherwise. iroh's own words are for its developers.
const FILTER: &str = "malai=info,malai_node=info";

fn filter() -> EnvFilter {
    match std::env::var("RUST_LOG") {
        // `malai=debug` is meant for all of malai, whose parts are crates of their own.
        Ok(text) => EnvFilter::new(text.split(',').map(widened).collect::<Vec<_>>().join(",")),
        Err(_) => EnvFilter::new(FILTER),
    }
}

fn widened(directive: &str) -> String {
    match directive.trim().strip_prefix("malai=") {
        Some(level) => format!("malai={level},malai_node={level}"),
        None => directive.to_owned(),
    }
}

/// Logs to standard error.
pub fn to_stderr() {
    let colour = rustix::termios::isatty(io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(|| Steady(io::stderr()))
        .with_ansi(colour)
        .init();
}

/// Logs to `malai.log`, which is started anew when it has grown.
pub fn to_file(home: &Home) -> anyhow::Result<()> {
    // Made first, with its mode: it names machines and commands.
    drop(open_appending(home)?);
    let mut options = std::fs::OpenOptions::new();
    options.read(true).create(true).append(true).mode(0o600);
    let file = FileRotate::new(
        home.log(),
        AppendCount::new(KEPT),
        ContentLimit::BytesSurpassed(SIZE),
        Compression::None,
        Some(options),
    );
    tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_ansi(false)
        .with_writer(Mutex::new(Steady(file)))
        .init();
    Ok(())
}

/// A writer whose failure (a full disk, a reader that has gone) must not end the daemon.
struct Steady<W>(W);

impl<W: Write> Write for Steady<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Opens `malai.log` for what a process writes that is not yet, or no longer, logging.
pub fn open_appending(home: &Home) -> anyhow::Result<File> {
    let path = home.log();
    File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open the log {}", path.display()))
}
