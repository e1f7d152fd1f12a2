//! `malai relay <host>[:<port>]`: serves a relay for the members of this home's clusters, in the foreground.

use anyhow::Context;
use malai_node::{Home, Relay, RelayOptions, Supervisor};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::RelayArgs;
use crate::logging::Log;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Serves until it is told to stop (SIGTERM, SIGINT).
pub fn run(home: &Home, args: &RelayArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let options = RelayOptions {
        address: args.address.clone(),
        listen: args.listen,
        quic: args.quic,
        certificate: args.certificate.clone().zip(args.private_key.clone()),
        client_rate: args.client_rate,
        metrics: args.metrics,
    };
    home.prepare()?;
    if args.show_address {
        printer.out(&format!("{}\n", options.public_address(home)?));
        return Ok(Exit::OK);
    }
    let _log = Log::to_stderr(home)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let outcome = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let relay = Relay::start(home, &options).await?;
        let admitted: Vec<String> = relay.admitted().iter().map(ToString::to_string).collect();
        let admitted = match admitted.is_empty() {
            true => "nobody: this home is in no cluster yet".to_owned(),
            false => format!("the members of {}", admitted.join(", ")),
        };
        printer.out(&format!(
            "✅ Relay is running, and admits {admitted}\n\nAdd this to cluster.toml on the manager, then run malai rescan:\n\n[network]\nrelays = [\"{}\"]\n",
            relay.address()
        ));
        let supervisor = Supervisor::of_environment();
        if let Some(supervisor) = supervisor {
            supervisor.ready(&format!("admits {admitted}"));
        }
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if let Some(supervisor) = supervisor {
                supervisor.stopping();
            }
        };
        relay.serve(stop).await?;
        anyhow::Ok(())
    });
    runtime.shutdown_background();
    outcome.map(|()| Exit::OK)
}
