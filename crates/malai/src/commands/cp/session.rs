//! A connection to a machine's `malai cp-server`: as scp calls ssh, this program calls itself.

use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context;

/// A connection to a machine.
pub(super) struct Session(Child);

impl Session {
    /// Begins one to `[user@]target`.
    pub(super) fn open(target: &str) -> anyhow::Result<Self> {
        let child = Command::new("/proc/self/exe")
            .arg0("malai")
            .args(["ssh", "-s", target, "malai-cp"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start another malai process")?;
        Ok(Self(child))
    }

    /// What comes from the machine, and what goes there.
    pub(super) fn streams(&mut self) -> anyhow::Result<(ChildStdout, ChildStdin)> {
        let streams = self.0.stdout.take().zip(self.0.stdin.take());
        streams.context("the connection has no streams")
    }

    /// Waits for its end. Returns whether malai itself failed, having reported why.
    pub(super) fn has_failed(mut self) -> anyhow::Result<bool> {
        let status = self.0.wait().context("cannot wait for the connection")?;
        Ok(status.code() == Some(255))
    }
}
