//! `malai ping <targets>`: whether machines answer, over which path, and how fast.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use malai_node::Home;
use malai_wire::control::Named;
use malai_wire::ping::{PingAnswer, Pinged};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::PingArgs;
use crate::commands::targets;
use crate::fanout::route::Backend;
use crate::output::Printer;
use crate::output::exit::Exit;
use crate::output::ping;

/// How many machines are pinged in parallel.
const PARALLEL: usize = 32;

/// How long a machine may take to answer by default.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Pings every selected machine; fails if one of them does not answer.
pub fn run(home: &Home, args: &PingArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let targets = targets::parse(home, &args.targets)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let exit = runtime.block_on(async {
        let (backend, resolved) = Backend::open(home, &targets).await?;
        for note in &resolved.notes {
            printer.say(note);
        }
        let width = resolved
            .machines
            .iter()
            .map(|named| named.machine.len() + named.cluster.len() + 1);
        let width = width.max().unwrap_or(0);
        let backend = Arc::new(backend);
        let timeout = args.timeout.unwrap_or(PING_TIMEOUT);
        let mut failed = 0;
        let count = resolved.machines.len();
        ask_all(&backend, resolved.machines, args.count, timeout, |pinged| {
            if matches!(pinged.answer, PingAnswer::Refused | PingAnswer::None) {
                failed += 1;
            }
            let line = match args.json {
                true => serde_json::to_string(&pinged).unwrap_or_default(),
                false => ping::line(&pinged, width),
            };
            printer.out(&format!("{line}\n"));
        })
        .await;
        backend.close(true).await;
        if failed > 0 && count > 1 {
            printer.say(&format!("{failed} of {count} machines do not answer"));
        }
        anyhow::Ok(if failed == 0 { Exit::OK } else { Exit::FAILED })
    });
    runtime.shutdown_background();
    exit
}

/// Pings machines, some in parallel, and passes on each result as it arrives.
pub async fn ask_all(
    backend: &Arc<Backend>,
    machines: Vec<Named>,
    count: u16,
    timeout: Duration,
    mut each: impl FnMut(Pinged),
) {
    let permits = Arc::new(Semaphore::new(PARALLEL));
    let mut asking = JoinSet::new();
    for named in machines {
        let (backend, permits) = (backend.clone(), permits.clone());
        asking.spawn(async move {
            let _permit = permits.acquire().await;
            backend.ping(&named, count, timeout).await
        });
    }
    while let Some(pinged) = asking.join_next().await {
        match pinged {
            Ok(pinged) => each(pinged),
            Err(error) => tracing::error!("pinging a machine failed: {error}"),
        }
    }
}
