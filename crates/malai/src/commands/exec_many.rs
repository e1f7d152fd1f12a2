//! `malai @web.company <command>…`: a command on many machines, each line with its machine's name.

use anyhow::Context;
use malai_cluster::Targets;
use malai_node::{Home, fd};
use malai_wire::peer::exec::ExecRequest;

use crate::cli::TargetOptions;
use crate::fanout::route::Backend;
use crate::fanout::summary::{Ended, summary};
use crate::fanout::{self, GivenUp, PARALLEL, Work};
use crate::output::Printer;
use crate::output::exit::Exit;

/// How many descriptors one of many commands uses here: three pipes, briefly with both ends, and a connection.
const DESCRIPTORS_EACH: usize = 7;

/// How many descriptors everything else uses.
const DESCRIPTORS: usize = 64;

/// How many commands fit into a limit of descriptors: at least one.
fn fitting(limit: u64) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    (limit.saturating_sub(DESCRIPTORS) / DESCRIPTORS_EACH).max(1)
}

/// Runs the command on all selected machines.
pub fn run(
    home: &Home,
    targets: &Targets,
    request: ExecRequest,
    on: &TargetOptions,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let outcome = runtime.block_on(async {
        let (backend, resolved) = Backend::open(home, targets).await?;
        for note in &resolved.notes {
            printer.say(note);
        }
        let parallel = on.parallel.map_or(PARALLEL, usize::from);
        let at_once = parallel.min(resolved.machines.len());
        let limit = fd::raise_limit((DESCRIPTORS + at_once * DESCRIPTORS_EACH) as u64);
        // Where the system allows fewer descriptors, the rest waits.
        let parallel = parallel.min(fitting(limit));
        let work = Work {
            machines: resolved.machines,
            request,
            parallel,
            timeout: on.timeout,
            no_input: on.no_input,
            json: on.json,
        };
        let outcome = fanout::run(backend, work).await;
        outcome.context("nothing was run")
    });
    // A thread may still be reading standard input; nothing waits for it.
    runtime.shutdown_background();
    let outcome = outcome?;
    for notice in &outcome.notices {
        printer.say(notice);
    }
    if let Some(GivenUp::Broken(why)) = &outcome.given_up {
        printer.say(why);
    }
    let targets = outcome
        .ends
        .iter()
        .map(|(named, ..)| format!("{}.{}", named.machine, named.cluster));
    let targets: Vec<String> = targets.collect();
    let ended = outcome.ends.iter().zip(&targets);
    let ended = ended.map(|((_, label, end), target)| Ended { label, target, end });
    // Closing the output early is not an error.
    if !matches!(outcome.given_up, Some(GivenUp::ReaderGone))
        && let Some(text) = summary(&ended.collect::<Vec<_>>())
    {
        printer.say(&text);
    }
    Ok(Exit(outcome.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_descriptors_bounds_what_runs_at_once() {
        for (limit, commands) in [(0, 1), (64, 1), (71, 1), (78, 2), (1024, 137), (4096, 576)] {
            assert_eq!(fitting(limit), commands, "{limit}");
        }
        assert!(fitting(u64::MAX) > 512);
    }
}
