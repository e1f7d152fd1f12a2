//! A session on the terminal in front of the user, whichever way it goes: raw mode, escapes, signals, sizes.
//!
//! What the user does becomes messages to whoever runs the session, the daemon or this process itself.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use malai_node::{CommandResult, EXIT_MALAI_FAILURE, GRACE};
use malai_wire::control::ClientMessage;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::signals;
use crate::signals::started::Started;
use crate::terminal::output::Output;
use crate::terminal::tilde::{Escapes, HELP, Invocation};
use crate::terminal::{self, Raw, input};

/// How long the end of a session may take that the user has left: what runs on this computer has its
/// grace period.
const AT_MOST: Duration = Duration::from_secs(GRACE.as_secs() + 3);

/// Exit codes above this say which signal ended a command.
const SIGNALLED: u8 = 128;

/// The other side, as a session on a terminal needs it.
pub trait SessionBackend: Send + Sync + 'static {
    /// Tells it something; false if it has gone.
    fn tell(&self, message: ClientMessage) -> bool;

    /// Ends the session without waiting for what runs in it.
    fn leave(&self);
}

/// A session on the terminal. The terminal is restored when this is dropped.
pub struct Interactive(Arc<Inner>);

struct Inner {
    target: String,
    other: Box<dyn SessionBackend>,
    /// What it shows, if that goes to a terminal.
    output: Option<Arc<Output>>,
    started: Started,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The session has started.
    began: bool,
    /// Whether the terminal is in the session's hands; none before it was in the foreground.
    raw: Option<Raw>,
    /// How the user has left.
    left: Option<CommandResult>,
    over: bool,
}

impl Interactive {
    /// Begins to listen to signals.
    pub fn begin(
        target: &str,
        other: impl SessionBackend,
        output: Option<Arc<Output>>,
    ) -> io::Result<Self> {
        let mut signals = Signals::new(signals::caught().chain([SIGWINCH]))?;
        let inner = Arc::new(Inner {
            target: target.to_owned(),
            other: Box::new(other),
            output,
            started: Started::default(),
            state: Mutex::default(),
        });
        let hearing = inner.clone();
        // Ends with the process.
        thread::spawn(move || {
            for number in signals.forever() {
                hearing.heard(number);
            }
        });
        Ok(Self(inner))
    }

    /// Holds output back until the session has started, so that nothing is shown in the wrong modes.
    pub fn hold(&self) {
        self.0.hold();
    }

    /// The session has started: the terminal becomes raw, what is typed is sent, output is let through. In the
    /// background, where `timeout` puts it, the terminal is left alone until it comes to the foreground.
    ///
    /// # Errors
    ///
    /// The terminal has hung up.
    pub fn started(&self) -> io::Result<()> {
        let inner = &self.0;
        if std::mem::replace(&mut inner.state().began, true) {
            return Ok(());
        }
        inner.started.set();
        inner.go_on()?;
        let typing = inner.clone();
        // Ends with the process: a read from a terminal cannot be called back.
        thread::spawn(move || typing.invocation());
        Ok(())
    }

    /// The session ends with this: malai's words about it begin on a line of their own.
    pub fn ends(&self, ending: CommandResult) -> CommandResult {
        if let Some(output) = &self.0.output {
            // A program that a signal ended had no time to tidy up either.
            let by_itself = ending.message.is_none() && ending.code <= SIGNALLED;
            output.finish(by_itself);
        }
        if ending.message.is_some() && self.0.state().raw.is_some() {
            show("\r\n");
        }
        ending
    }

    /// How the session ended, if it was the user who left it.
    pub fn left(&self) -> Option<CommandResult> {
        self.0.state().left.clone()
    }
}

/// Shows malai's own words between what the session shows.
fn show(text: &str) {
    // Where even this cannot be written there is nobody left to look.
    let _ = io::stderr().write_all(text.as_bytes());
}

impl Drop for Interactive {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.over = true;
        state.raw = None;
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, number: i32) {
        let signal = match number {
            SIGWINCH => return self.resize(),
            SIGTSTP => return self.suspend(),
            SIGCONT => return drop(self.go_on()),
            _ if !self.started.is_set() => std::process::exit(128 + number),
            SIGTERM | SIGHUP => {
                let code = u8::try_from(128 + number).unwrap_or(EXIT_MALAI_FAILURE);
                return self.leave(CommandResult::exit(code));
            }
            number => match signals::forwarded(number) {
                Some(signal) => signal,
                None => return,
            },
        };
        self.other.tell(ClientMessage::Signal(signal));
    }

    /// Reads what is typed, to the end of it.
    fn invocation(&self) {
        let mut escapes = Escapes::default();
        let mut buffer = [0; 4096];
        loop {
            let is_over = || self.state().left.is_some();
            if !input::wait(is_over, || drop(self.go_on())) {
                return;
            }
            let count = match io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The terminal has hung up.
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            for invocation in escapes.read(&buffer[..count]) {
                match invocation {
                    Invocation::Bytes(bytes) => {
                        if !self.other.tell(ClientMessage::Input(bytes)) {
                            return;
                        }
                    }
                    Invocation::Suspend => {
                        show("~^Z");
                        self.suspend();
                    }
                    Invocation::Help => show(HELP),
                    Invocation::End => {
                        show("~.");
                        return self.leave(CommandResult::failed(format!(
                            "the session on {} was ended (~.)",
                            malai_cluster::escape(&self.target)
                        )));
                    }
                }
            }
        }
        let rest = escapes.end();
        if rest.is_empty() || self.other.tell(ClientMessage::Input(rest)) {
            self.other.tell(ClientMessage::Input(Vec::new()));
        }
    }

    fn resize(&self) {
        if let Some(size) = terminal::size() {
            self.other.tell(ClientMessage::Resize(size));
        }
    }

    /// Stops this process, with the terminal as the user's shell wants it. It goes on by SIGCONT.
    fn suspend(&self) {
        self.hold();
        terminal::restore();
        let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
    }

    /// Holds output back.
    fn hold(&self) {
        self.other.tell(ClientMessage::Pause);
        if let Some(output) = &self.output {
            output.hold();
        }
    }

    /// Lets output through.
    fn release(&self) {
        self.other.tell(ClientMessage::Resume);
        if let Some(output) = &self.output {
            output.release();
        }
    }

    /// Goes on after having been stopped, whichever way; or for the first time.
    ///
    /// # Errors
    ///
    /// The terminal has hung up.
    fn go_on(&self) -> io::Result<()> {
        let terminal = io::stdin();
        let mut state = self.state();
        if !state.began {
            return Ok(());
        }
        if !terminal::is_foreground(terminal.as_fd()) {
            // The terminal is somebody else's, and is not read or changed. A session that was never in the foreground
            // shows what it has to show, as whatever else runs in the background does.
            if state.raw.is_none() && !terminal::stops_writers(terminal.as_fd()) {
                drop(state);
                self.release();
            }
            return Ok(());
        }
        match state.raw {
            Some(_) => terminal::again()?,
            None => state.raw = Some(Raw::enter(terminal.as_fd())?),
        }
        drop(state);
        self.release();
        self.resize();
        Ok(())
    }

    /// Ends the session for the user, who does not wait for what runs in it.
    fn leave(&self, ending: CommandResult) {
        let code = ending.code;
        self.state().left.get_or_insert(ending);
        if let Some(output) = &self.output {
            output.cut();
        }
        terminal::restore();
        self.other.leave();
        // The rest of this process does what is to be done and exits; unless something hangs in it.
        thread::sleep(AT_MOST);
        if !self.state().over {
            std::process::exit(code.into());
        }
    }
}
