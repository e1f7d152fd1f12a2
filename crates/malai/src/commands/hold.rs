//! `ssh -N`: no command, only a connection to the machine, as long as it answers.

use std::time::Duration;

use anyhow::Context;
use malai_cluster::escape;
use malai_node::Home;
use malai_wire::ping::PingAnswer;

use crate::cli::TargetOptions;
use crate::commands::targets;
use crate::exec::{background, run_local_command};
use crate::fanout::route::Backend;
use crate::output::Printer;
use crate::output::exit::Exit;

/// How often the machine is asked whether it still answers.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps a connection until the machine does not answer, or a signal ends this process.
pub fn run(
    home: &Home,
    target: &str,
    on: &TargetOptions,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let targets = targets::parse(home, target)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(async {
        let (backend, resolved) = Backend::open(home, &targets).await?;
        let [machine] = &resolved.machines[..] else {
            anyhow::bail!("{} selects several machines; name one", escape(target));
        };
        let mut is_first = true;
        loop {
            let pinged = backend.ping(machine, 1, TIMEOUT).await;
            if matches!(pinged.answer, PingAnswer::Refused | PingAnswer::None) {
                let text = match (&pinged.why, is_first) {
                    (Some(why), true) => why.clone(),
                    (None, true) => format!("{} does not answer", escape(target)),
                    (_, false) => format!("{} does not answer any more", escape(target)),
                };
                printer.say(&text);
                return Ok(Exit::MALAI);
            }
            if std::mem::take(&mut is_first) {
                run_local_command(on);
                if on.in_background {
                    background::started(false);
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    })
}
