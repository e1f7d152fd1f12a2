//! Two machines that have found each other twice keep one connection, and go on using it.

use std::sync::Arc;
use std::time::Duration;

use malai_cluster::MachineId;
use malai_node::{Node, Reach, Service, Settings};
use malai_wire::{Refusal, RefusalCode};

use crate::harness::Cluster;
use crate::peer::{self, until_async};

#[test]
fn of_two_connections_the_one_that_a_machine_asks_over_stays() {
    let cluster = Cluster::running(&["web01"]);
    let web01: MachineId = cluster.id_of("web01").parse().unwrap();
    cluster.machine("web01").stop();
    cluster.manager.stop();
    peer::run(async {
        // The manager as a service of this process, so that its links can be looked at.
        let home = malai_node::Home::at(cluster.manager.path.clone());
        let dir = home.survey().unwrap().dirs.into_iter().next().unwrap();
        let node = Node::daemon(Reach::Loopback, &home, &Settings::default());
        node.audit.open();
        let service = Service::start(dir, Arc::new(node)).await.unwrap();
        service.serve();
        let peers = &service.peers;
        let mut start = cluster.machine("web01").command(&["daemon"]);
        let started = tokio::task::spawn_blocking(move || start.output().unwrap());
        let said = String::from_utf8(started.await.unwrap().stdout).unwrap();
        cluster.machine("web01").started(&said);
        // It asks for news by itself.
        until_async("a link", async || {
            peers
                .current(&web01)
                .is_some_and(|link| link.is_admitted() && !link.is_dialled())
        })
        .await;
        let theirs = peers.current(&web01).unwrap();
        // What is dialled beside it goes.
        let own = peers.dial_new(web01).await.unwrap();
        assert!(own.is_dialled());
        until_async("the second to go", async || own.is_closed()).await;
        until_async("one link", async || peers.all().len() == 1).await;
        assert!(Arc::ptr_eq(
            &peers.connection(web01).await.unwrap(),
            &theirs
        ));
        // A session gets one of its own, which stays for the next.
        let sessions = peers.connect_for_session(web01).await.unwrap();
        assert!(sessions.is_dialled());
        drop(sessions.in_use());
        let third = peers.dial_new(web01).await.unwrap();
        until_async("the third to go", async || third.is_closed()).await;
        until_async("two links", async || peers.all().len() == 2).await;
        assert!(!sessions.is_closed() && !theirs.is_closed());
        // web01 asks every second, and for a minute, whether the manager is there. That alone is no use of it:
        // two sides that asked each other for this would never stop.
        let unused = async {
            until_async("a link that is unused", async || {
                theirs.idle_for() > Duration::from_secs(4)
            })
            .await
        };
        let patience = Duration::from_secs(20);
        assert!(tokio::time::timeout(patience, unused).await.is_ok());
        assert!(theirs.silent_for() < Duration::from_secs(4));
        service
            .stop(&Refusal::new(RefusalCode::Stopping, "the test is over"))
            .await;
    });
}
