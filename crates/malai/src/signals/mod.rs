//! Signals to this process while commands run: which ones are forwarded, and which are ignored.

pub mod ignored;
pub mod started;

use std::io;

use malai_wire::peer::exec::Signal;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::signals::ignored::Ignored;

/// The signals that are forwarded to a command, with their numbers here. Numbers differ between systems, so signals are sent by
/// name.
pub const FORWARDED: [(i32, Signal); 6] = [
    (SIGINT, Signal::Int),
    (SIGTERM, Signal::Term),
    (SIGHUP, Signal::Hup),
    (SIGQUIT, Signal::Quit),
    (SIGUSR1, Signal::Usr1),
    (SIGUSR2, Signal::Usr2),
];

/// The job control signals of a shell, which stop and resume this process and the command's output.
pub const JOB_CONTROL: [i32; 2] = [SIGTSTP, SIGCONT];

/// The name under which a signal is forwarded; `None` for one that is not.
pub fn forwarded(number: i32) -> Option<Signal> {
    let found = FORWARDED.iter().find(|(known, _)| *known == number);
    found.map(|(_, signal)| *signal)
}

/// The signals to catch: those that are forwarded and those of job control, except the ones that this
/// process's parent ignored.
pub fn caught() -> impl Iterator<Item = i32> {
    let ignored = Ignored::at_start();
    let forwarded = FORWARDED.iter().map(|(number, _)| *number);
    let all = forwarded.chain(JOB_CONTROL);
    all.filter(move |number| !ignored.contains(*number))
}

/// Receives forwarded signals, with their numbers, from now on; except those that this process's parent
/// ignored.
///
/// # Errors
///
/// The system refuses.
pub fn subscribe() -> io::Result<mpsc::Receiver<(Signal, u8)>> {
    let ignored = Ignored::at_start();
    let (sender, receiver) = mpsc::channel(16);
    for (number, name) in FORWARDED {
        if ignored.contains(number) {
            continue;
        }
        let mut arrivals = signal(SignalKind::from_raw(number))?;
        let sender = sender.clone();
        // Ends with the runtime.
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                let number = u8::try_from(number).unwrap_or_default();
                let _ = sender.send((name, number)).await;
            }
        });
    }
    Ok(receiver)
}

/// Receives the terminal's request to stop this process, unless its parent ignored that. The receiver has to stop
/// the process.
///
/// # Errors
///
/// The system refuses.
pub fn stops() -> io::Result<Option<tokio::signal::unix::Signal>> {
    match Ignored::at_start().contains(SIGTSTP) {
        true => Ok(None),
        false => signal(SignalKind::from_raw(SIGTSTP)).map(Some),
    }
}

/// Whether a signal asks this process to end everything.
pub fn ends(signal: Signal) -> bool {
    !matches!(signal, Signal::Usr1 | Signal::Usr2)
}
