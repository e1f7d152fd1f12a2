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
use rustix::event::{PollFd, PollFlags};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::signals;
use crate::signals::started::Started;
use crate::terminal::tilde::{Escapes, HELP, Invocation};
use crate::terminal::{self, Raw};

/// How long the end of a session may take that the user has left: what runs on this computer has its
/// grace period.
const AT_MOST: Duration = Duration::from_secs(GRACE.as_secs() + 3);

/// How often a session in the background looks whether it is in the foreground.
const BACKGROUND: Duration = Duration::from_millis(100);

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
    started: Started,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    raw: Option<Raw>,
    /// How the user has left.
    left: Option<CommandResult>,
    over: bool,
}

impl Interactive {
    /// Begins to listen to signals.
    pub fn begin(target: &str, other: impl SessionBackend) -> io::Result<Self> {
        let mut signals = Signals::new(signals::caught().chain([SIGWINCH]))?;
        let inner = Arc::new(Inner {
            target: target.to_owned(),
            other: Box::new(other),
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
        self.0.other.tell(ClientMessage::Pause);
    }

    /// The session has started: the terminal becomes raw, what is typed is sent, output is let through.
    pub fn started(&self) -> io::Result<()> {
        let inner = &self.0;
        if inner.state().raw.is_some() {
            return Ok(());
        }
        let raw = Raw::enter(io::stdin().as_fd())?;
        inner.state().raw = Some(raw);
        inner.started.set();
        inner.go_on();
        let typing = inner.clone();
        // Ends with the process: a read from a terminal cannot be called back.
        thread::spawn(move || typing.invocation());
        Ok(())
    }

    /// The session ends with this: malai's words about it begin on a line of their own.
    pub fn ends(&self, ending: CommandResult) -> CommandResult {
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
            SIGCONT => return self.go_on(),
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
            if !self.wait_for_input() {
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

    /// Waits until something is typed here; false once the user has left. Who reads from a terminal in the
    /// background is stopped, and would not hear any more that it is to end: so that waits for the
    /// foreground, which is no event that a process is told of.
    fn wait_for_input(&self) -> bool {
        let input = io::stdin();
        let mut in_background = false;
        loop {
            if self.state().left.is_some() {
                return false;
            }
            if terminal::is_foreground(input.as_fd()) {
                if std::mem::take(&mut in_background) {
                    self.go_on();
                }
                let mut invocation = [PollFd::new(&input, PollFlags::IN)];
                // Looked at again then: it may have gone to the background meanwhile.
                if rustix::event::poll(&mut invocation, None).is_ok()
                    && terminal::is_foreground(input.as_fd())
                {
                    return true;
                }
            } else {
                in_background = true;
                thread::sleep(BACKGROUND);
            }
        }
    }

    fn resize(&self) {
        if let Some(size) = terminal::size() {
            self.other.tell(ClientMessage::Resize(size));
        }
    }

    /// Stops this process, with the terminal as the user's shell wants it. It goes on by SIGCONT.
    fn suspend(&self) {
        self.other.tell(ClientMessage::Pause);
        terminal::restore();
        let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
    }

    /// Goes on after having been stopped, whichever way; or for the first time.
    fn go_on(&self) {
        // In the background the terminal is somebody else's, and nothing is shown in it.
        let is_foreground = terminal::is_foreground(io::stdin().as_fd());
        if self.state().raw.is_none() || !is_foreground || terminal::again().is_err() {
            return;
        }
        self.other.tell(ClientMessage::Resume);
        self.resize();
    }

    /// Ends the session for the user, who does not wait for what runs in it.
    fn leave(&self, ending: CommandResult) {
        let code = ending.code;
        self.state().left.get_or_insert(ending);
        terminal::restore();
        self.other.leave();
        // The rest of this process does what is to be done and exits; unless something hangs in it.
        thread::sleep(AT_MOST);
        if !self.state().over {
            std::process::exit(code.into());
        }
    }
}
