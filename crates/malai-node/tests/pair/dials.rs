//! Many at once: dials that wait for their turn, members that greet late, and more open files than usual.

use std::fs::File;

use malai_node::raise_limit;
use malai_testing::cluster::Cluster;
use malai_testing::peer::{Peer, stranger};
use malai_testing::run;
use malai_wire::peer::exec::FromServer;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::limits::cluster_with;

#[test]
fn dials_begin_in_turns_and_do_not_hold_up_connections_that_are_there() {
    run(async {
        let cluster = Cluster::start(&["web01", "web02", "web03"]).await;
        // Machines poll their manager, and each other only if it does not answer.
        let web01 = cluster.machine("web01");
        web01.run("boss.company", &["true"]).await.clean();
        // The other machine has dialed: its connection is used where no dial is possible.
        let web02 = cluster.machine("web02");
        web02.run("web01.company", &["true"]).await.clean();
        let turns = web01.hold_dials();
        let waiting = web01.begin("web03.company", &["true"]);
        for _ in 0..20 {
            web01.run("web02.company", &["true"]).await.clean();
        }
        assert!(!waiting.has_ended());
        drop(turns);
        waiting.finish().await.clean();
    });
}

#[test]
fn a_member_that_greets_late_is_waited_for_and_a_stranger_is_not() {
    run(async {
        let (_cluster, target, member) = cluster_with("greeting_seconds = 1\n").await;
        let slow = Peer::connect(&member, &target).await;
        // It has connected later, so its time is over later.
        let refusal = Peer::connect(&stranger(), &target)
            .await
            .closed_by_peer()
            .await;
        assert!(refusal.message.contains("greeting_seconds"), "{refusal:?}");
        slow.greet_as_command().await;
        assert_eq!(slow.exec(&["true"]).await, Ok(FromServer::Accepted));
    });
}

#[test]
fn the_limit_of_open_files_is_raised_before_it_is_reached() {
    run(async {
        let cluster = Cluster::start(&["web01"]).await;
        let mut usual = getrlimit(Resource::Nofile);
        if usual.maximum.is_some_and(|most| most < 4096) {
            eprintln!("LEFT OUT: the limit of open files cannot be raised here");
            return;
        }
        // Other tests run in this process: nothing may fail for lack of descriptors meanwhile.
        raise_limit(u64::MAX);
        let open: Vec<File> = (0..600).map(|_| File::open("/dev/null").unwrap()).collect();
        usual.current = Some(1024);
        setrlimit(Resource::Nofile, usual).unwrap();
        cluster
            .manager()
            .run("web01.company", &["true"])
            .await
            .clean();
        assert!(
            getrlimit(Resource::Nofile)
                .current
                .is_none_or(|now| now > 1024)
        );
        drop(open);
    });
}
