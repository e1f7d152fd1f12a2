//! A session on the user's terminal, on either route: raw mode, escapes, signals, sizes.
//!
//! The user's actions become messages to the backend of the session: the daemon or this process itself.

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
use crate::terminal::tilde::{EscapeChar, Escapes, Input};
use crate::terminal::{self, Raw, input};

/// How long the end of a session may take after the user has left: what runs on this computer has its grace period.
const AT_MOST: Duration = Duration::from_secs(GRACE.as_secs() + 3);

/// Exit codes above this are 128 plus the signal that ended a command.
const SIGNALLED: u8 = 128;

/// The backend of a session on a terminal.
pub trait SessionBackend: Send + Sync + 'static {
    /// Sends a message; false if the backend has gone.
    fn tell(&self, message: ClientMessage) -> bool;

    /// Ends the session without waiting for what runs in it.
    fn leave(&self);
}

/// A session on the terminal. The terminal is restored when this is dropped.
pub struct Interactive(Arc<Inner>);

struct Inner {
    target: String,
    other: Box<dyn SessionBackend>,
    /// Its output, if standard output is a terminal.
    output: Option<Arc<Output>>,
    escape: EscapeChar,
    started: Started,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The session has started.
    began: bool,
    /// Raw mode, once the process was in the foreground.
    raw: Option<Raw>,
    /// The result, if the user has left.
    left: Option<CommandResult>,
    over: bool,
}

impl Interactive {
    /// Starts to listen for signals.
    pub fn begin(
        target: &str,
        other: impl SessionBackend,
        output: Option<Arc<Output>>,
        escape: EscapeChar,
    ) -> io::Result<Self> {
        let mut signals = Signals::new(signals::caught().chain([SIGWINCH]))?;
        let inner = Arc::new(Inner {
            target: target.to_owned(),
            other: Box::new(other),
            output,
            escape,
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

    /// The session has started: makes the terminal raw, sends what is typed, and releases output. In the background, where
    /// `timeout` puts it, the terminal is not touched until the process comes to the foreground.
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
        // Ends with the process: a blocked read from a terminal cannot be cancelled.
        thread::spawn(move || typing.invocation());
        Ok(())
    }

    /// The session ends with this result. malai's message about it starts on a new line.
    pub fn ends(&self, ending: CommandResult) -> CommandResult {
        if let Some(output) = &self.0.output {
            // A program ended by a signal had no time to clean up either.
            let by_itself = ending.message.is_none() && ending.code <= SIGNALLED;
            output.finish(by_itself);
        }
        if ending.message.is_some() && self.0.state().raw.is_some() {
            show("\r\n");
        }
        ending
    }

    /// The result, if the user left the session.
    pub fn left(&self) -> Option<CommandResult> {
        self.0.state().left.clone()
    }
}

/// Prints malai's own text between the session's output.
fn show(text: &str) {
    // If even this cannot be written, there is no user.
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

    /// Reads what is typed, up to its end.
    fn invocation(&self) {
        let mut escapes = Escapes::new(self.escape);
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
                    Input::Bytes(bytes) => {
                        if !self.other.tell(ClientMessage::Input(bytes)) {
                            return;
                        }
                    }
                    Input::Suspend => {
                        show(&format!("{}^Z", self.escape));
                        self.suspend();
                    }
                    Input::Help => show(&self.escape.help()),
                    Input::End => {
                        show(&format!("{}.", self.escape));
                        return self.leave(CommandResult::failed(format!(
                            "the session on {} was ended ({}.)",
                            malai_cluster::escape(&self.target),
                            self.escape
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

    /// Stops this process, after restoring the terminal for the user's shell. It continues on SIGCONT.
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

    /// Releases output.
    fn release(&self) {
        self.other.tell(ClientMessage::Resume);
        if let Some(output) = &self.output {
            output.release();
        }
    }

    /// Continues after this process was stopped for any reason; or starts.
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
            // The terminal belongs to another process and is neither read nor changed. A session that was never in the foreground
            // prints its output, like any other process in the background.
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

    /// Ends the session for the user, without waiting for what runs in it.
    fn leave(&self, ending: CommandResult) {
        let code = ending.code;
        self.state().left.get_or_insert(ending);
        if let Some(output) = &self.output {
            output.cut();
        }
        terminal::restore();
        self.other.leave();
        // The rest of this process cleans up and exits, unless something in it hangs.
        thread::sleep(AT_MOST);
        if !self.state().over {
            std::process::exit(code.into());
        }
    }
}
