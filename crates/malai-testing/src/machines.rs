//! Many machines of one cluster in one process: services with their own homes, keys and endpoints, on loopback.
//!
//! For benchmarks and tests that run one command on very many machines. The manager is a real daemon.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use malai_cluster::{ClusterAlias, ClusterId};
use malai_node::{ClusterDir, Home, Node, Reach, Service, Settings, init_machine};
use malai_wire::{Refusal, RefusalCode};

/// The usage of the program that serves them.
pub const USAGE: &str = "\
usage: bench-machines <folder> <number of machines> <the manager's id52> [<number that stay dead>]

Makes the machines m001, m002, … in the folder, writes <folder>/sections.toml for the manager's cluster.toml,
serves all but the last ones, which stay dead, and prints
  ready <number> machines           when they accept connections: now start the manager's daemon, or rescan
  revision <number> everywhere      whenever all that are served have that configuration
It ends when its standard input does.";

/// The cluster's alias on the machines.
const ALIAS: &str = "many";

/// How long closing the connections may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves the machines until `end`, and reports when they are ready and when they have a newer configuration.
pub fn serve(
    folder: &Path,
    count: usize,
    dead: usize,
    manager: &str,
    say: impl Fn(String),
    end: tokio::sync::oneshot::Receiver<()>,
) {
    let manager = ClusterId::parse(manager).expect("the manager's id52");
    // One thread, as in a daemon.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let dirs = make(folder, count, &manager);
        let served = count
            .checked_sub(dead)
            .expect("no more dead than there are");
        let mut machines = Vec::new();
        for (number, (home, dir)) in dirs.into_iter().take(served).enumerate() {
            let node = Node::daemon(Reach::Loopback, &home, &Settings::default());
            node.audit.open();
            let service = Service::start(dir, Arc::new(node)).await;
            machines.push(service.unwrap_or_else(|error| panic!("machine {number}: {error}")));
        }
        for machine in &machines {
            machine.serve();
        }
        say(format!("ready {served} machines"));
        tokio::select! {
            () = tell_revisions(&machines, &say) => {}
            _ = end => {}
        }
        let mut ending = tokio::task::JoinSet::new();
        for machine in machines {
            ending.spawn(async move {
                let refusal = Refusal::new(RefusalCode::Stopping, "the machines are stopping");
                machine.stop(&refusal).await
            });
        }
        let _ = tokio::time::timeout(GOODBYE, ending.join_all()).await;
    });
    runtime.shutdown_background();
}

/// Creates the homes, or reuses those of a previous run; writes the sections for cluster.toml.
fn make(folder: &Path, count: usize, manager: &ClusterId) -> Vec<(Home, ClusterDir)> {
    let alias = ClusterAlias::parse(ALIAS).expect("an alias");
    let (mut sections, mut made) = (String::new(), Vec::new());
    for number in 1..=count {
        let name = format!("m{number:03}");
        let home = Home::at(folder.join(&name));
        let (id, dir) = match home
            .survey()
            .ok()
            .and_then(|survey| survey.dirs.into_iter().next())
        {
            Some(dir) => (
                malai_node::keystore::load(&dir.machine_key())
                    .expect("a key")
                    .id(),
                dir,
            ),
            None => {
                let machine = init_machine(&home, &alias, manager, &[]).expect("a machine");
                (machine.id, machine.dir)
            }
        };
        let _ = writeln!(
            sections,
            "\n[machine.{name}]\nid52 = \"{id}\"\nallow_from = \"*\""
        );
        made.push((home, dir));
    }
    std::fs::write(folder.join("sections.toml"), sections).expect("sections.toml");
    made
}

/// Reports each time that all machines have a newer configuration.
async fn tell_revisions(machines: &[Arc<Service>], say: &impl Fn(String)) {
    let revision = |machine: &Arc<Service>| {
        machine
            .cluster_state
            .header()
            .map_or(0, |header| header.revision)
    };
    let mut told = 0;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    loop {
        look.tick().await;
        let everywhere = machines.iter().map(revision).min().unwrap_or(0);
        if everywhere > told {
            say(format!("revision {everywhere} everywhere"));
            told = everywhere;
        }
    }
}
