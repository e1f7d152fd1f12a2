//! How long a command takes: the median of a number of runs, each measured from start to exit.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Runs that count.
pub const RUNS: usize = 20;

/// The median of [`RUNS`] runs, after one that does not count.
pub fn median(mut command: impl FnMut() -> Command) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(RUNS);
    for run in 0..=RUNS {
        let mut command = command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let begun = Instant::now();
        let status = command.status().context("cannot measure a command")?;
        let took = begun.elapsed();
        anyhow::ensure!(
            status.success(),
            "run {run} of a measured command: {status}"
        );
        if run > 0 {
            times.push(took);
        }
    }
    times.sort_unstable();
    Ok((times[RUNS / 2 - 1] + times[RUNS / 2]) / 2)
}

/// Milliseconds, for people.
pub fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
