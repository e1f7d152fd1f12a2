//! The service manager that started the daemon (systemd, with `Type=notify`): notifications, and the watchdog.
//!
//! Without `NOTIFY_SOCKET`, nothing is sent.

use std::io;
use std::time::Duration;

use malai_wire::control::{self, PREAMBLE, Request};
use malai_wire::frame::{self, HEAD, Tagged};
use sd_notify::NotifyState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::control::ShortPath;
use crate::home::Home;

/// The variables that a service manager sets. They are not passed on to commands or to a daemon in the background.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The delay before the next check after the daemon did not respond.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The service manager.
#[derive(Debug, Clone, Copy)]
pub struct Supervisor(());

impl Supervisor {
    /// The service manager named in this process's environment.
    pub fn of_environment() -> Option<Self> {
        std::env::var_os(VARIABLES[0]).map(|_| Self(()))
    }

    /// Reports that the daemon serves, with its state.
    pub fn ready(self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Reports the state.
    pub fn status(self, status: &str) {
        self.tell(&[NotifyState::Status(status)]);
    }

    /// Reports that the daemon is applying the configuration files, until [`Supervisor::ready`].
    pub fn reloading(self) {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        self.tell(&states);
    }

    /// Reports that the daemon is stopping.
    pub fn stopping(self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// Notifies the watchdog, if there is one, twice within its timeout. Each time, the daemon must first have answered on its
    /// own control socket like to any command line.
    pub async fn watch(self, home: &Home) {
        if let Some(allowed) = sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero()) {
            watch(home, allowed / 2, || self.tell(&[NotifyState::Watchdog])).await;
        }
    }

    fn tell(self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            tracing::warn!("cannot notify the service manager: {error}");
        }
    }
}

/// Checks periodically whether the daemon responds, and notifies if it does. Never returns.
async fn watch(home: &Home, every: Duration, tell: impl Fn()) {
    let mut next = tokio::time::Instant::now();
    loop {
        tokio::time::sleep_until(next).await;
        let answered = tokio::time::timeout(every, answers(home)).await;
        next = tokio::time::Instant::now();
        match answered {
            Ok(Ok(())) => {
                tell();
                next += every;
            }
            Ok(Err(error)) => {
                tracing::warn!("watchdog: the control socket does not respond: {error}");
                next += RETRY_INTERVAL.min(every / 4);
            }
            Err(_) => tracing::warn!("watchdog: the control socket does not respond in time"),
        }
    }
}

/// Asks the daemon of this home for its status, and waits for the complete answer.
async fn answers(home: &Home) -> io::Result<()> {
    let short = ShortPath::of(home)?;
    let mut stream = UnixStream::connect(short.path()).await?;
    let question = Request::Status.to_frame();
    stream
        .write_all(&[&control::preamble(control::VERSION)[..], &question].concat())
        .await?;
    let mut preamble = [0; PREAMBLE];
    stream.read_exact(&mut preamble).await?;
    control::parse_preamble(preamble).ok_or_else(|| io::Error::other("not malai's protocol"))?;
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await?;
    let (_, length) = frame::parse_head(head, control::CAP).map_err(io::Error::other)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use malai_wire::control::Reply;
    use tokio::net::UnixListener;
    use tokio::sync::mpsc;

    /// A daemon that accepts and says nothing, and then one that answers.
    #[tokio::test]
    async fn the_watchdog_hears_only_of_a_daemon_that_answers() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().to_path_buf());
        let listener = UnixListener::bind(home.socket()).unwrap();
        let (sender, mut told) = mpsc::unbounded_channel();
        let watched = home.clone();
        let every = Duration::from_millis(50);
        let watching = tokio::spawn(async move {
            watch(&watched, every, || {
                let _ = sender.send(());
            })
            .await;
        });
        // It has asked three times, and given up twice.
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(listener.accept().await.unwrap());
        }
        assert!(told.try_recv().is_err(), "told of a daemon that is silent");

        let answer = [
            &control::preamble(control::VERSION)[..],
            &Reply::Status("{}".into()).to_frame(),
        ]
        .concat();
        let answering = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(&answer).await;
                silent.push((stream, listener.local_addr().unwrap()));
            }
        });
        told.recv().await.unwrap();
        answering.abort();
        watching.abort();
    }
}
