//! Two machines that have connected to each other twice keep one connection, and continue to use it.

use std::sync::Arc;
use std::time::Duration;

use malai_testing::cluster::Cluster;
use malai_testing::{run, until};

#[test]
fn of_two_connections_the_one_that_a_machine_asks_over_stays() {
    run(async {
        let cluster = Cluster::start(&["web01"]).await;
        let web01 = cluster.machine("web01").id();
        let peers = &cluster.manager().service.peers;
        // web01 connects on its own, to ask for news.
        until("a connection", || {
            peers
                .current(&web01)
                .is_some_and(|connection| connection.is_admitted() && !connection.is_dialed())
        })
        .await;
        let theirs = peers.current(&web01).unwrap();
        // A second dialed connection is closed.
        let own = peers.dial_new(web01).await.unwrap();
        assert!(own.is_dialed());
        until("the second to go", || own.is_closed()).await;
        until("one connection", || peers.all().len() == 1).await;
        let used = peers.connection(web01).await.unwrap();
        assert!(Arc::ptr_eq(&used, &theirs));
        // A session gets a connection of its own, which stays open for the next session.
        let sessions = peers.connect_for_session(web01).await.unwrap();
        assert!(sessions.is_dialed());
        drop(sessions.in_use());
        let third = peers.dial_new(web01).await.unwrap();
        until("the third to go", || third.is_closed()).await;
        until("two connections", || peers.all().len() == 2).await;
        assert!(!sessions.is_closed() && !theirs.is_closed());
        // web01 checks every second, for a minute, that the manager is alive. That does not count as use of the
        // connection: otherwise two sides that check each other would never stop.
        let limit = Duration::from_secs(4);
        until("a connection that is unused", || theirs.idle_for() > limit).await;
        assert!(theirs.silent_for() < limit);
    });
}
