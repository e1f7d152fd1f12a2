//! A command through the daemon: descriptors handed over, then only signals and the exit.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use malai_node::control::client::{Control, ControlError};
use malai_node::execute::{self, Ending};
use malai_wire::control::{Exec, FromCommand, Reply, Request, Stdin};
use malai_wire::frame::Tagged;
use malai_wire::peer::exec::{Action, Signal, Terminal};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::ignored::Ignored;
use super::interactive::{Interactive, Other};
use super::started::Started;
use super::timed_out;
use crate::args::OnTargets;

/// Runs a command and waits for its end.
pub fn run(
    control: Control,
    target: &str,
    action: Action,
    terminal: Option<Terminal>,
    on: &OnTargets,
) -> Result<Ending, ControlError> {
    let exec = Exec {
        target: target.to_owned(),
        action,
        stdin: match rustix::termios::isatty(std::io::stdin()) {
            _ if on.no_input => Stdin::Empty,
            // A terminal stays here, so that the shell's job control keeps working.
            true => Stdin::Streamed,
            false => Stdin::Descriptor,
        },
        terminal,
    };
    match (exec.stdin, &exec.terminal) {
        (Stdin::Streamed, Some(_)) => run_on_terminal(control, exec),
        _ => run_plain(control, exec, on),
    }
}

/// The daemon, to a session on the terminal.
struct Daemon {
    voice: Mutex<UnixStream>,
    /// The same, for a word while another is held up.
    line: UnixStream,
}

impl Other for Daemon {
    fn tell(&self, message: FromCommand) -> bool {
        say(&self.voice, &message).is_ok()
    }

    fn leave(&self) {
        // The daemon takes it for the end of this process, and this process for the daemon's.
        let _ = self.line.shutdown(Shutdown::Both);
    }
}

/// Runs it on the terminal that is here.
fn run_on_terminal(mut control: Control, exec: Exec) -> Result<Ending, ControlError> {
    let target = exec.target.clone();
    let (output, complaints) = (std::io::stdout(), std::io::stderr());
    control.send(&Request::Exec(exec), &[output.as_fd(), complaints.as_fd()])?;
    // From now on: a size or a signal must not be said before the request. Until then a signal ends this
    // process as if it were not caught.
    let again = || control.stream().try_clone();
    let session = again().and_then(|voice| {
        let daemon = Daemon {
            voice: Mutex::new(voice),
            line: again()?,
        };
        Interactive::begin(&target, daemon)
    });
    let session = session.map_err(|error| control.unusable(error))?;
    session.hold();
    loop {
        let answer = control.answer();
        match (answer, session.left()) {
            (_, Some(left)) => return Ok(session.ends(left)),
            (Ok(Reply::Started), None) => {
                session.started().map_err(|error| control.unusable(error))?
            }
            (Ok(Reply::Exited(exited)), None) => {
                return Ok(session.ends(Ending {
                    code: exited.code,
                    message: exited.message,
                }));
            }
            (Ok(_), None) => {}
            (Err(ControlError::Gone), None) => {
                return Ok(session.ends(Ending::failed(execute::DAEMON_GONE)));
            }
            (Err(error), None) => return Err(error),
        }
    }
}

/// Runs it with what this process's own streams are.
fn run_plain(mut control: Control, exec: Exec, on: &OnTargets) -> Result<Ending, ControlError> {
    let (input, output, complaints) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let (target, stdin) = (exec.target.clone(), exec.stdin);
    let request = Request::Exec(exec);
    let started = Started::default();
    let voice = Arc::new(Mutex::new(
        control
            .stream()
            .try_clone()
            .map_err(|error| control.unusable(error))?,
    ));
    match stdin {
        Stdin::Descriptor => control.send(
            &request,
            &[input.as_fd(), output.as_fd(), complaints.as_fd()],
        )?,
        Stdin::Streamed | Stdin::Empty => {
            control.send(&request, &[output.as_fd(), complaints.as_fd()])?
        }
    }
    // While the daemon is at work. Until then a signal ends this process as if it were not caught.
    pass_signals(voice.clone(), started.clone()).map_err(|error| control.unusable(error))?;
    if stdin == Stdin::Streamed {
        let voice = voice.clone();
        // Ends with the process: a read from a terminal cannot be called back.
        thread::spawn(move || pass_input(&voice));
    }
    let given_up = Arc::new(AtomicBool::new(false));
    if let Some(timeout) = on.timeout {
        let (given_up, voice) = (given_up.clone(), voice.clone());
        // Ends with the process.
        thread::spawn(move || {
            thread::sleep(timeout);
            given_up.store(true, Ordering::Relaxed);
            // To the daemon this command line has gone then.
            let voice = voice.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = voice.shutdown(Shutdown::Both);
        });
    }
    loop {
        match control.answer() {
            Err(_) if given_up.load(Ordering::Relaxed) => {
                return Ok(Ending::failed(timed_out(&target, on)));
            }
            Ok(Reply::Started) => started.set(),
            Ok(Reply::Exited(exited)) => {
                return Ok(Ending {
                    code: exited.code,
                    message: exited.message,
                });
            }
            Ok(_) => {}
            Err(ControlError::Gone) => {
                return Ok(Ending::failed(execute::DAEMON_GONE));
            }
            Err(error) => return Err(error),
        }
    }
}

fn say(voice: &Mutex<UnixStream>, message: &FromCommand) -> std::io::Result<()> {
    voice
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .write_all(&message.to_frame())
}

/// Passes what is typed to the daemon until the end of it.
fn pass_input(voice: &Mutex<UnixStream>) {
    let mut buffer = [0; 4096];
    loop {
        match std::io::stdin().lock().read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => {
                let _ = say(voice, &FromCommand::Input(Vec::new()));
                return;
            }
            Ok(count) => {
                if say(voice, &FromCommand::Input(buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        }
    }
}

/// Passes signals on from the moment the command runs; before that they end this process, and with
/// its connection the attempt.
fn pass_signals(voice: Arc<Mutex<UnixStream>>, started: Started) -> std::io::Result<()> {
    const PASSED: [i32; 8] = [
        SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT,
    ];
    let ignored = Ignored::at_start();
    let mut signals = Signals::new(PASSED.iter().filter(|signal| !ignored.contains(**signal)))?;
    thread::spawn(move || {
        for number in signals.forever() {
            let message = match number {
                SIGTSTP => {
                    let _ = say(&voice, &FromCommand::Pause);
                    let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
                    continue;
                }
                SIGCONT => FromCommand::Resume,
                _ if !started.is_set() => std::process::exit(128 + number),
                SIGINT => FromCommand::Signal(Signal::Int),
                SIGTERM => FromCommand::Signal(Signal::Term),
                SIGHUP => FromCommand::Signal(Signal::Hup),
                SIGQUIT => FromCommand::Signal(Signal::Quit),
                SIGUSR1 => FromCommand::Signal(Signal::Usr1),
                _ => FromCommand::Signal(Signal::Usr2),
            };
            let _ = say(&voice, &message);
        }
    });
    Ok(())
}
