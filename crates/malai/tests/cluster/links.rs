//! Two machines that have found each other twice keep one connection, and go on using it.

use std::time::{Duration, Instant};

use malai_node::link::Link;
use malai_node::service::{Part, Service};
use malai_node::settings::{Reach, Settings};
use malai_wire::{Refusal, RefusalCode};

use crate::harness::{Cluster, PATIENCE};
use crate::peer;

/// Waits until this is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn of_two_connections_the_managers_stays() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    web01.stop();
    peer::run(async {
        // web01 as a service of this process, so that its links can be looked at.
        let home = malai_node::home::Home::at(web01.path.clone());
        let dir = home.survey().unwrap().dirs.into_iter().next().unwrap();
        let part = Part::new(true, Reach::Loopback, &home, &Settings::default());
        part.audit.open();
        let service = Service::start(dir, part).await.unwrap();
        service.serve();
        let (peers, manager) = (&service.peers, service.membership.cluster.manager());
        let is_there = |link: &Link| link.is_admitted() && !link.is_closed();
        // It asks the manager for news by itself.
        until("a link", || {
            peers.current(&manager).is_some_and(|link| is_there(&link))
        })
        .await;
        let own = peers.current(&manager).unwrap();
        assert!(own.is_dialled());
        // The manager's command goes over a connection that the manager has dialled.
        let mut command = cluster.manager.command(&["web01.company", "true"]);
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
        let ran = ran.await.unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let only = |peers: &malai_node::peers::Peers| match peers.all().as_slice() {
            [link] if !link.is_dialled() => Some(link.clone()),
            _ => None,
        };
        until("the manager's link alone", || only(peers).is_some()).await;
        assert!(own.is_closed());
        let managers = only(peers).unwrap();
        // It is what web01 uses from now on, and what stays when it dials once more.
        let used = peers.link(manager).await.unwrap();
        assert!(std::sync::Arc::ptr_eq(&used, &managers));
        peers.fresh_link(manager).await.unwrap();
        until("the second to go", || peers.all().len() == 1).await;
        assert!(is_there(&managers));
        // The manager asks every second whether web01 is there. That alone is no use of it: two sides that
        // asked each other for this would never stop.
        until("a link that is unused", || {
            managers.unused_for() > Duration::from_secs(4)
        })
        .await;
        assert!(is_there(&managers));
        service
            .stop(&Refusal::new(RefusalCode::Stopping, "the test is over"))
            .await;
    });
}
