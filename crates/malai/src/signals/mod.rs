//! Signals to this process while commands run on many machines.

pub mod ignored;
pub mod started;

use std::io;

use malai_wire::peer::exec::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::signals::ignored::Ignored;

/// Hears signals, with their numbers, from now on; but for those that whoever started this process had
/// ignored.
///
/// # Errors
///
/// The system's refusal.
pub fn hear() -> io::Result<mpsc::Receiver<(Signal, u8)>> {
    let ignored = Ignored::at_start();
    let (sender, receiver) = mpsc::channel(16);
    for (kind, name) in [
        (SignalKind::interrupt(), Signal::Int),
        (SignalKind::terminate(), Signal::Term),
        (SignalKind::hangup(), Signal::Hup),
        (SignalKind::quit(), Signal::Quit),
        (SignalKind::user_defined1(), Signal::Usr1),
        (SignalKind::user_defined2(), Signal::Usr2),
    ] {
        let number = kind.as_raw_value();
        if ignored.contains(number) {
            continue;
        }
        let (mut arrivals, sender) = (signal(kind)?, sender.clone());
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

/// Whether a signal means the end of everything.
pub fn ends(signal: Signal) -> bool {
    !matches!(signal, Signal::Usr1 | Signal::Usr2)
}
