//! What `malai ssh` forwards: `-L` and `-D` beside a session, `-W` in place of one.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use anyhow::Context;
use malai_cluster::Target;
use malai_node::Home;
use malai_node::forward::listen::{Bound, Listen};
use malai_wire::control::ForwardTo;
use malai_wire::peer::connect::Destination;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::cli::ssh::SshInvocation;
use crate::cli::ssh::forwards::{LocalForward, Reach};
use crate::commands::targets;
use crate::exec::background;
use crate::exec::forwarding::{Forwarding, Item, News};
use crate::output::Printer;
use crate::output::exit::Exit;

/// Forwards until it is dropped.
pub(super) struct Forwards {
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Forwards {
    fn drop(&mut self) {
        self.end.cancel();
        // It removes the files of its sockets.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Listens, and forwards on a thread of its own. Returns when that is ready; `None` if nothing could be set up.
///
/// # Errors
///
/// The target is none; or something cannot be set up, and `ExitOnForwardFailure` is set.
pub(super) fn start(
    home: &Home,
    host: &str,
    invocation: &SshInvocation,
    printer: &Printer,
) -> anyhow::Result<Option<Forwards>> {
    let target = targets::one(home, host)?;
    let mut items = Vec::new();
    for forward in &invocation.forwards {
        match forward.listen.bind() {
            Ok(bound) => {
                let user = invocation.user.as_deref();
                tell_port(forward, bound.as_ref(), printer);
                items.push(item(&target, &forward.to, user, bound));
            }
            Err(error) if invocation.needs_forwards => return Err(error.into()),
            Err(error) => printer.say(&error.to_string()),
        }
    }
    if items.is_empty() {
        return Ok(None);
    }
    let runtime = runtime()?;
    let (home, end) = (home.clone(), CancellationToken::new());
    let printer = match invocation.quiet {
        true => Printer::quiet(),
        false => Printer::default(),
    };
    let (tell, ready) = channel();
    let ended = end.clone();
    let thread = std::thread::spawn(move || {
        runtime.block_on(forward(&home, items, &tell, &ended, &printer));
    });
    let forwards = Forwards {
        end,
        thread: Some(thread),
    };
    match ready.recv().context("forwarding ended")? {
        Ok(()) => Ok(Some(forwards)),
        Err(error) => Err(error),
    }
}

/// Says which port the system chose for port 0, as ssh does for its own.
fn tell_port(forward: &LocalForward, bound: Option<&Bound>, printer: &Printer) {
    let Some(bound) = bound.filter(|_| matches!(forward.listen, Listen::Tcp { port: 0, .. }))
    else {
        return;
    };
    let port = bound.shown.rsplit(':').next().unwrap_or_default();
    let what = match &forward.to {
        Reach::Tcp(to) | Reach::Unix(to) => format!("local forward to {to}"),
        Reach::Socks => "dynamic forward".to_owned(),
    };
    // Scripts read the port.
    printer.say_as_ssh(&format!("Allocated port {port} for {what}"));
}

async fn forward(
    home: &Home,
    items: Vec<Item>,
    tell: &Sender<anyhow::Result<()>>,
    end: &CancellationToken,
    printer: &Printer,
) {
    let mut unready: Vec<bool> = items.iter().map(|_| true).collect();
    let mut forwarding = match Forwarding::start(home, items).await {
        Ok(forwarding) => forwarding,
        Err(error) => {
            let _ = tell.send(Err(error));
            return;
        }
    };
    loop {
        let news = tokio::select! {
            news = forwarding.next() => news,
            () = end.cancelled() => break,
        };
        match news {
            News::State(number, state) => {
                if let Some(problem) = &state.problem {
                    printer.say(problem);
                }
                unready[number] = false;
                if !unready.contains(&true) {
                    let _ = tell.send(Ok(()));
                }
            }
            News::Over(Err(error)) => {
                // Where nobody waits for it any more, the session itself is told that its daemon has gone.
                let _ = tell.send(Err(error));
            }
            News::Over(Ok(_)) => {}
        }
    }
    forwarding.end(false).await;
}

/// Connects standard input and output to what the machine reaches, to the end of both.
pub(super) fn standard(
    home: &Home,
    host: &str,
    to: &Reach,
    in_background: bool,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let target = targets::one(home, host)?;
    let items = vec![item(&target, to, None, None)];
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let mut forwarding = Forwarding::start(home, items).await?;
        if in_background {
            background::started(true);
        }
        loop {
            match forwarding.next().await {
                News::State(..) => {}
                News::Over(Ok(exited)) => {
                    if let Some(message) = &exited.message {
                        printer.say(message);
                    }
                    let exit = Exit(exited.code);
                    forwarding.end(exit == Exit::OK).await;
                    return Ok(exit);
                }
                News::Over(Err(error)) => return Err(error),
            }
        }
    });
    // A thread may still be reading from standard input; nothing waits for it.
    runtime.shutdown_background();
    exit
}

fn item(target: &Target, to: &Reach, user: Option<&str>, bound: Option<Bound>) -> Item {
    let to = match to {
        Reach::Tcp(address) => ForwardTo::Through(Destination::Tcp(address.clone())),
        Reach::Unix(path) => ForwardTo::Through(Destination::Unix {
            path: path.clone(),
            user: user.map(str::to_owned),
        }),
        Reach::Socks => ForwardTo::Socks,
    };
    Item {
        target: target.clone(),
        to,
        bound,
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")
}
