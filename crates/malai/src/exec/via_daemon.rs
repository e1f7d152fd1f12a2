//! Runs a command through the daemon: hands over descriptors, then passes only signals and the exit.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use malai_node::control::{Control, ControlError, REPLY_TIMEOUT};
use malai_node::{CommandResult, dispatch};
use malai_wire::control::{ClientMessage, Exec, Reply, Request, Stdin};
use malai_wire::frame::Tagged;
use malai_wire::peer::exec::{ExecRequest, Terminal};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use signal_hook::consts::{SIGCONT, SIGINT, SIGTSTP};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::{interrupted_twice, session_started, timed_out};

use crate::cli::TargetOptions;
use crate::exec::interactive::{Interactive, SessionBackend};
use crate::signals;
use crate::signals::started::START_GRACE;
use crate::terminal::input;
use crate::terminal::output::Output;

/// Runs a command and waits for its end.
pub fn run(
    control: Control,
    target: &str,
    request: ExecRequest,
    terminal: Option<Terminal>,
    on: &TargetOptions,
) -> Result<CommandResult, ControlError> {
    let exec = Exec {
        target: target.to_owned(),
        request,
        stdin: match rustix::termios::isatty(io::stdin()) {
            _ if on.no_input => Stdin::Empty,
            // A terminal stays here, so that the shell's job control keeps working.
            true => Stdin::Streamed,
            false => Stdin::Fd,
        },
        terminal,
    };
    match (exec.stdin, &exec.terminal) {
        (Stdin::Streamed, Some(_)) => run_on_terminal(control, exec, on),
        _ => run_plain(control, exec, on),
    }
}

/// The daemon, as the backend of a session on the terminal.
struct DaemonBackend {
    voice: Mutex<UnixStream>,
    /// The same stream, for a message while another one is blocked.
    line: UnixStream,
}

impl SessionBackend for DaemonBackend {
    fn tell(&self, message: ClientMessage) -> bool {
        say(&self.voice, &message).is_ok()
    }

    fn leave(&self) {
        // The daemon takes this for the exit of this process, and this process for the daemon's.
        let _ = self.line.shutdown(Shutdown::Both);
    }
}

/// Runs it on the terminal.
fn run_on_terminal(
    mut control: Control,
    exec: Exec,
    on: &TargetOptions,
) -> Result<CommandResult, ControlError> {
    let target = exec.target.clone();
    let output = Output::to_terminal().map_err(|error| control.unusable(error))?;
    let (stdout, errors) = (io::stdout(), io::stderr());
    let (output, end) = output.unzip();
    let written = end.as_ref().map_or(stdout.as_fd(), AsFd::as_fd);
    control.send(&Request::Exec(exec), &[written, errors.as_fd()])?;
    // The daemon has the only copy: when it closes, the output has ended.
    drop(end);
    // From now on, because a size or a signal must not be sent before the request. Until then a signal ends this process as if
    // it were not caught.
    let again = || control.stream().try_clone();
    let session = again().and_then(|voice| {
        let daemon = DaemonBackend {
            voice: Mutex::new(voice),
            line: again()?,
        };
        Interactive::begin(&target, daemon, output, on.escape)
    });
    let session = session.map_err(|error| control.unusable(error))?;
    session.hold();
    loop {
        let answer = control.answer();
        match (answer, session.left()) {
            (_, Some(left)) => return Ok(session.ends(left)),
            (Ok(Reply::Started), None) => {
                session_started(on);
                session.started().map_err(|error| control.unusable(error))?
            }
            (Ok(Reply::Exited(exited)), None) => {
                return Ok(session.ends(exited));
            }
            (Ok(_), None) => {}
            (Err(ControlError::Gone), None) => {
                return Ok(session.ends(CommandResult::failed(dispatch::DAEMON_GONE)));
            }
            (Err(error), None) => return Err(error),
        }
    }
}

/// Runs it on this process's own streams.
fn run_plain(
    mut control: Control,
    exec: Exec,
    on: &TargetOptions,
) -> Result<CommandResult, ControlError> {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let (target, stdin) = (exec.target.clone(), exec.stdin);
    let request = Request::Exec(exec);
    let voice = Arc::new(Mutex::new(
        control
            .stream()
            .try_clone()
            .map_err(|error| control.unusable(error))?,
    ));
    // From now on, while the daemon wakes up: the command's first output may be seen, and a signal sent because of it, before this
    // process runs again.
    let mut signals = catch().map_err(|error| control.unusable(error))?;
    await_greeting(&control, &mut signals)?;
    match stdin {
        Stdin::Fd => control.send(&request, &[input.as_fd(), output.as_fd(), errors.as_fd()])?,
        Stdin::Streamed | Stdin::Empty => {
            control.send(&request, &[output.as_fd(), errors.as_fd()])?
        }
    }
    if stdin == Stdin::Streamed {
        let voice = voice.clone();
        // Ends with the process: a blocked read from a terminal cannot be cancelled.
        thread::spawn(move || pass_input(&voice));
    }
    let given_up = on.timeout.map(|timeout| Instant::now() + timeout);
    let (mut started, mut early) = (false, None::<EarlySignals>);
    let mut interrupts = 0;
    loop {
        let until = early.as_ref().map(|early| early.until);
        let until = until.into_iter().chain(given_up).min();
        let ready = wait(&control, &signals, until).map_err(|error| control.unusable(error))?;
        if ready.answer {
            match control.answer() {
                Ok(Reply::Started) => {
                    started = true;
                    session_started(on);
                    for number in early.take().into_iter().flat_map(|early| early.numbers) {
                        interrupts += usize::from(number == SIGINT);
                        pass(number, &voice);
                    }
                }
                Ok(Reply::Exited(exited)) => {
                    return Ok(exited);
                }
                Ok(_) => {}
                Err(ControlError::Gone) => {
                    return Ok(CommandResult::failed(dispatch::DAEMON_GONE));
                }
                Err(error) => return Err(error),
            }
        }
        if ready.signal {
            for number in signals.pending() {
                if started || matches!(number, SIGTSTP | SIGCONT) {
                    interrupts += usize::from(number == SIGINT);
                    pass(number, &voice);
                } else {
                    let early = early.get_or_insert_with(EarlySignals::now);
                    early.numbers.push(number);
                }
            }
        }
        if let Some(early) = &early
            && early.until <= Instant::now()
            && let Some(first) = early.numbers.first()
        {
            // Its connection ends with this process, and the attempt with the connection.
            std::process::exit(128 + first);
        }
        if interrupts > 1 {
            let _ = control.stream().shutdown(Shutdown::Both);
            return Ok(interrupted_twice(&target));
        }
        if given_up.is_some_and(|given_up| given_up <= Instant::now()) {
            // The daemon then treats this command line as gone.
            let _ = control.stream().shutdown(Shutdown::Both);
            return Ok(CommandResult::failed(timed_out(&target, on)));
        }
    }
}

/// Waits until the preamble can be read. Nothing was requested yet, so a signal ends this process at once.
fn await_greeting(control: &Control, signals: &mut Signals) -> Result<(), ControlError> {
    let until = Instant::now() + REPLY_TIMEOUT;
    loop {
        let ready = wait(control, signals, Some(until)).map_err(|error| control.unusable(error))?;
        for number in signals.pending() {
            match number {
                SIGTSTP => {
                    let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
                }
                SIGCONT => {}
                number => std::process::exit(128 + number),
            }
        }
        if ready.answer {
            return Ok(());
        }
        if until <= Instant::now() {
            return Err(control.no_answer());
        }
    }
}

/// Signals that arrived before the command was known to run.
struct EarlySignals {
    /// In the order of arrival; at least one.
    numbers: Vec<i32>,
    /// How long the start may still be reported.
    until: Instant,
}

impl EarlySignals {
    fn now() -> Self {
        Self {
            numbers: Vec::new(),
            until: Instant::now() + START_GRACE,
        }
    }
}

/// What can be read without blocking.
struct Ready {
    answer: bool,
    signal: bool,
}

/// Waits for the daemon, for a signal, or until an instant. A single thread for all: a second one would cost as much as a round
/// trip on the socket, at its start and at the end of the process.
fn wait(control: &Control, signals: &Signals, until: Option<Instant>) -> io::Result<Ready> {
    loop {
        let mut heard = [control.stream().as_fd(), signals.get_read().as_fd()]
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // A timeout that does not fit into the system's type means no timeout.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut heard, left.as_ref()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                let [answer, signal] = heard.map(|one| !one.revents().is_empty());
                return Ok(Ready { answer, signal });
            }
        }
    }
}

fn say(voice: &Mutex<UnixStream>, message: &ClientMessage) -> io::Result<()> {
    voice
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .write_all(&message.to_frame())
}

/// Passes typed input to the daemon up to its end.
fn pass_input(voice: &Mutex<UnixStream>) {
    let mut buffer = [0; 4096];
    while input::wait(|| false, || {}) {
        match io::stdin().lock().read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => {
                let _ = say(voice, &ClientMessage::Input(Vec::new()));
                return;
            }
            Ok(count) => {
                if say(voice, &ClientMessage::Input(buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        }
    }
}

/// The signals to this process, from the time they are caught.
type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// Catches signals, except those that this process's parent ignored.
fn catch() -> io::Result<Signals> {
    let (read, write) = UnixStream::pair()?;
    Signals::with_pipe(read, write, SignalOnly, signals::caught())
}

/// Forwards a signal to the command; or stops this process and tells the daemon.
fn pass(number: i32, voice: &Mutex<UnixStream>) {
    let message = match number {
        SIGTSTP => {
            let _ = say(voice, &ClientMessage::Pause);
            let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
            return;
        }
        SIGCONT => ClientMessage::Resume,
        number => match signals::forwarded(number) {
            Some(signal) => ClientMessage::Signal(signal),
            None => return,
        },
    };
    let _ = say(voice, &message);
}
