//! `malai forward <listen> <service>…`: connections to this computer, passed on to services of other machines, or to what
//! a machine reaches.

use anyhow::{Context, bail};
use malai_cluster::escape;
use malai_node::Home;
use malai_node::forward::listen::Listen;
use malai_wire::control::Forwarded;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ForwardArgs;
use crate::commands::targets;
use crate::exec::forwarding::{Forwarding, Item, News};
use crate::fanout::live::LiveLine;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Passes connections on until it is interrupted, or standard input and output have ended.
pub fn run(home: &Home, args: &ForwardArgs, printer: &Printer) -> anyhow::Result<Exit> {
    if !args.pairs.len().is_multiple_of(2) {
        bail!("each place to listen needs a service: malai forward <listen> <service>.<cluster>");
    }
    let mut items = Vec::new();
    let mut shown = Vec::new();
    for pair in args.pairs.chunks_exact(2) {
        let listen = Listen::parse(&pair[0])?;
        if listen == Listen::Standard && args.pairs.len() > 2 {
            bail!("- is the only connection: leave out the others");
        }
        let (target, to) = targets::with_destination(home, &pair[1])?;
        let bound = listen.bind()?;
        if let Some(bound) = &bound {
            shown.push((bound.shown.clone(), escape(&pair[1])));
        }
        items.push(Item { target, to, bound });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let exit = runtime.block_on(forward(home, items, &shown, printer));
    // A thread may still be reading from standard input; nothing waits for it.
    runtime.shutdown_background();
    exit
}

async fn forward(
    home: &Home,
    items: Vec<Item>,
    shown: &[(String, String)],
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let mut forwarding = Forwarding::start(home, items).await?;
    let mut signals = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let line = LiveLine::new(!shown.is_empty());
    let mut states: Vec<Forwarded> = vec![Forwarded::default(); shown.len().max(1)];
    let mut known = vec![false; states.len()];
    let exit = loop {
        tokio::select! {
            next = forwarding.next() => match next {
                News::State(number, state) => {
                    if let Some((place, target)) = shown.get(number)
                        && !std::mem::replace(&mut known[number], true)
                    {
                        line.clear();
                        printer.say(&format!("forwarding {place} to {target}"));
                    }
                    if let Some(problem) = &state.problem {
                        line.clear();
                        printer.say(problem);
                    }
                    states[number] = state;
                    let open: u64 = states.iter().map(|state| u64::from(state.open)).sum();
                    let total: u64 = states.iter().map(|state| state.total).sum();
                    line.draw(&format!("{open} open, {total} in all"));
                }
                News::Over(Ok(exited)) => {
                    line.clear();
                    if let Some(message) = &exited.message {
                        printer.say(message);
                    }
                    break Exit(exited.code);
                }
                News::Over(Err(error)) => {
                    line.clear();
                    return Err(error);
                }
            },
            _ = signals.0.recv() => break Exit(128 + 2),
            _ = signals.1.recv() => break Exit(128 + 15),
            _ = signals.2.recv() => break Exit(128 + 1),
        }
    };
    line.clear();
    forwarding.end(exit == Exit::OK).await;
    Ok(exit)
}
