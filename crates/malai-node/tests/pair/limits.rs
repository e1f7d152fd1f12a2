//! Each limit is set low in malai.toml and reached: a request above it is refused with the name of the limit.

use malai_cluster::{MachineId, SecretSeed};
use malai_node::{framing, testing};
use malai_testing::cluster::{Cluster, Plan, Running};
use malai_testing::peer::{Peer, open, stranger};
use malai_testing::{TEST_TIMEOUT, run, until, until_async};
use malai_wire::RefusalCode;
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::RequestKind;
use malai_wire::peer::exec::{Action, FromClient, FromServer, Open};

/// A cluster whose `web01` has these limits; also its id, and the seed of another member, which serves nothing.
pub async fn cluster_with(limits: &str) -> (Cluster, MachineId, SecretSeed) {
    let plan = Plan::new(&["web01", "rogue"]).idle("rogue");
    let settings = format!("[limits]\n{limits}");
    let cluster = plan.settings("web01", &settings).start().await;
    let (target, rogue) = (
        cluster.machine("web01").id(),
        cluster.machine("rogue").seed(),
    );
    (cluster, target, rogue)
}

pub async fn member(seed: &SecretSeed, target: &MachineId) -> Peer {
    let peer = Peer::connect(seed, target).await;
    peer.greet_as_command().await;
    peer
}

/// Starts a command that runs until its input ends, and waits until it runs.
async fn begun(cluster: &Cluster) -> Running {
    let script = ["sh", "-c", "echo begun; cat"];
    let mut running = cluster.manager().begin("web01.company", &script);
    assert_eq!(running.line().await, "begun");
    running
}

/// A request for a command that keeps running.
fn sleeping() -> Vec<u8> {
    [vec![RequestKind::Exec as u8], open(&["sleep", "60"])].concat()
}

/// Whether an answer is the refusal that names this limit.
pub fn refusal(answer: Result<FromServer, String>, limit: &str) -> bool {
    match answer {
        Ok(FromServer::Refused(refusal)) => {
            assert_eq!(refusal.known_code(), Some(RefusalCode::Busy));
            assert!(refusal.message.contains(limit), "{refusal:?}");
            true
        }
        Ok(_) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn sessions_in_all_and_of_one_member() {
    run(async {
        let (cluster, target, rogue) = cluster_with("sessions_per_peer = 2\nsessions = 3\n").await;
        let (one, two) = (begun(&cluster).await, begun(&cluster).await);
        let third = cluster.manager().run("web01.company", &["true"]).await;
        third
            .refused("sessions_per_peer = 2; its owner can change it under [limits] in malai.toml");
        let peer = member(&rogue, &target).await;
        let _third = peer.ask(&sleeping()).await.unwrap();
        until_async("the refusal", async || {
            refusal(peer.exec(&["true"]).await, "sessions = 3")
        })
        .await;
        peer.close().await;
        for running in [one, two] {
            assert_eq!(running.finish().await.code, 0);
        }
        // Slots of ended commands are free again.
        until_async("a free slot", async || {
            cluster.manager().run("web01.company", &["true"]).await.code == 0
        })
        .await;
    });
}

/// The bytes that one member may have in flight to a machine, on all its connections.
#[test]
fn inputs_of_one_member() {
    let cat = Open {
        request: Action::Exec(vec![b"cat".to_vec()]).into(),
        stdin: true,
        terminal: None,
    };
    let cat = FromClient::Open(cat).to_frame();
    let cat = [vec![RequestKind::Exec as u8], cat].concat();
    // The returned streams keep the command running.
    let ask = async |peer: &Peer| {
        let (send, mut recv) = peer.ask(&cat).await.unwrap();
        let answer = loop {
            let answer = framing::expect(&mut recv, frame::SMALL, TEST_TIMEOUT).await;
            if !matches!(answer, Ok(FromServer::Input(_))) {
                break answer;
            }
        };
        ((send, recv), answer.map_err(|error| error.to_string()))
    };
    run(async {
        let limit = "receive_bytes_per_peer = 4194304";
        let (cluster, target, rogue) = cluster_with(limit).await;
        let (one, two) = (member(&rogue, &target).await, member(&rogue, &target).await);
        let (held_by_one, answer) = ask(&one).await;
        assert_eq!(answer, Ok(FromServer::Accepted));
        let mut held_by_two = Vec::new();
        for _ in 0..16 {
            let (held, answer) = ask(&two).await;
            assert_eq!(answer, Ok(FromServer::Accepted));
            held_by_two.push(held);
        }
        let (_, answer) = ask(&two).await;
        assert!(refusal(answer, limit));
        // A command without input reserves nothing.
        assert_eq!(two.exec(&["true"]).await, Ok(FromServer::Accepted));
        // The next command on the same connection reuses what was granted before.
        drop(held_by_one);
        until_async("a granted input", async || {
            ask(&one).await.1 == Ok(FromServer::Accepted)
        })
        .await;
        // Closing the connection gives it back.
        one.close().await;
        until_async("a granted input", async || {
            ask(&two).await.1 == Ok(FromServer::Accepted)
        })
        .await;
        two.close().await;
        let answer = cluster.manager().run("web01.company", &["true"]).await;
        answer.clean();
    });
}

#[test]
fn requests_and_arguments() {
    run(async {
        let (cluster, target, rogue) =
            cluster_with("requests_per_peer = 8\nargument_bytes = 2000\n").await;
        // Each argument has a byte or two for its length: "true" and the second one have 7 more than its letters.
        for (letters, fits) in [(1993, true), (1994, false), (100_000, false)] {
            let long = "x".repeat(letters);
            let manager = cluster.manager();
            let answer = manager.run("web01.company", &["true", &long]).await;
            match fits {
                true => _ = answer.clean(),
                false => answer.refused("argument_bytes = 2000"),
            }
        }
        // Two connections of a member share its slots.
        let (peer, other) = (member(&rogue, &target).await, member(&rogue, &target).await);
        let mut held = Vec::new();
        for peer in [&peer, &other] {
            for _ in 0..4 {
                held.push(peer.ask(&[RequestKind::Exec as u8, 0, 0]).await.unwrap());
            }
        }
        until_async("the refusal", async || {
            refusal(other.exec(&["true"]).await, "requests_per_peer = 8")
        })
        .await;
        cluster
            .manager()
            .run("web01.company", &["true"])
            .await
            .clean();
    });
}

/// A request that is never completed is refused in time.
#[test]
fn the_time_to_open() {
    run(async {
        let (_cluster, target, rogue) = cluster_with("opening_seconds = 1\n").await;
        let peer = member(&rogue, &target).await;
        let asked = peer.ask(&[RequestKind::Exec as u8, 0, 0]).await;
        let (_send, mut recv) = asked.unwrap();
        let answer = recv.read_to_end(10_000).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains("opening_seconds = 1"), "{answer:?}");
    });
}

#[test]
fn connections_of_one_member() {
    run(async {
        let (cluster, target, rogue) = cluster_with("connections_per_peer = 2\n").await;
        let first = member(&rogue, &target).await;
        assert_eq!(first.exec(&["true"]).await, Ok(FromServer::Accepted));
        let second = member(&rogue, &target).await;
        assert_eq!(second.exec(&["true"]).await, Ok(FromServer::Accepted));
        // The connection that was unused for longest makes room.
        let third = member(&rogue, &target).await;
        let reason = first.closed_by_peer().await;
        assert_eq!(reason.known_code(), Some(RefusalCode::Busy));
        assert!(
            reason.message.contains("connections_per_peer = 2"),
            "{reason:?}"
        );
        // Connections in use do not.
        let mut held = Vec::new();
        for peer in [&second, &third] {
            let (send, mut recv) = peer.ask(&sleeping()).await.unwrap();
            // The first bytes say that the command was accepted.
            assert!(recv.read_chunk(1 << 10).await.unwrap().is_some());
            held.push((send, recv));
        }
        let fourth = member(&rogue, &target).await;
        let reason = fourth.closed_by_peer().await;
        assert!(
            reason.message.contains("connections_per_peer = 2"),
            "{reason:?}"
        );
        assert!(second.connection.close_reason().is_none());
        second.close().await;
        third.close().await;
        cluster
            .manager()
            .run("web01.company", &["true"])
            .await
            .clean();
    });
}

#[test]
fn connections_in_all() {
    run(async {
        let (cluster, target, rogue) = cluster_with("connections = 8\n").await;
        let mut many = Vec::new();
        for _ in 0..10 {
            many.push(member(&rogue, &target).await);
        }
        until("two of them to be closed", || {
            let closed = |peer: &&Peer| peer.connection.close_reason().is_some();
            many.iter().filter(closed).count() >= 2
        })
        .await;
        // The manager can run commands, even if its connection was closed to make room.
        cluster
            .manager()
            .run("web01.company", &["true"])
            .await
            .clean();
    });
}

#[test]
fn strangers_of_one_address() {
    let limits = "unauthenticated_connections_per_address = 4\n";
    run(async {
        let (_cluster, target, rogue) = cluster_with(limits).await;
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(Peer::connect(&stranger(), &target).await);
        }
        let reason = silent[0].closed_by_peer().await;
        assert_eq!(reason.known_code(), Some(RefusalCode::Busy));
        assert!(reason.message.contains(limits.trim()), "{reason:?}");
        // A member at the same address still gets through.
        let peer = member(&rogue, &target).await;
        assert_eq!(peer.exec(&["true"]).await, Ok(FromServer::Accepted));
    });
}

#[test]
fn strangers_that_say_nothing() {
    run(async {
        let (_cluster, target, _) = cluster_with("greeting_seconds = 1\n").await;
        let silent = Peer::connect(&stranger(), &target).await;
        let reason = silent.closed_by_peer().await;
        assert_eq!(reason.known_code(), Some(RefusalCode::Busy));
        assert!(
            reason.message.contains("greeting_seconds = 1"),
            "{reason:?}"
        );
    });
}

#[test]
fn keys_that_ask_to_join() {
    run(async {
        let plan = Plan::new(&[]).settings("boss", "[limits]\npending_joins = 2\n");
        let cluster = plan.start().await;
        let target = cluster.manager().id();
        for _ in 0..4 {
            let peer = Peer::connect(&stranger(), &target).await;
            peer.greet(None).await;
            peer.closed_by_peer().await;
        }
        assert_eq!(testing::pending_joins(&cluster.manager().service), 2);
    });
}

#[test]
fn connections_that_idle() {
    run(async {
        let plan = Plan::new(&["web01"]).settings("boss", "[limits]\nidle_seconds = 5\n");
        let cluster = plan.start().await;
        let (boss, web01) = (cluster.manager(), cluster.machine("web01"));
        boss.run("web01.company", &["true"]).await.clean();
        let used = boss.service.peers.current(&web01.id()).unwrap();
        until("the idle connection's end", || used.is_closed()).await;
        boss.run("web01.company", &["true"]).await.clean();
    });
}

/// Only the handshake identifies the peer: what it claims to be is not even read.
#[test]
fn who_asks_is_who_the_handshake_proved() {
    run(async {
        let mut plan = Plan::new(&["web01", "rogue"]).idle("rogue");
        plan = plan.config(|text| {
            let (before, after) = text.split_once("\n[machine.web01]\n").unwrap();
            // A comment is not a rule: it names the key but grants nothing.
            let rule = "# allow_from = \"rogue\"\nallow_from = \"boss\"";
            let after = after.replacen("allow_from = \"*\"", rule, 1);
            format!("{before}\n[machine.web01]\n{after}")
        });
        let cluster = plan.start().await;
        let (web01, rogue) = (cluster.machine("web01"), cluster.machine("rogue"));
        let marker = cluster.file("marker");
        let peer = member(&rogue.seed(), &web01.id()).await;
        match peer.exec(&["touch", marker.to_str().unwrap()]).await {
            Ok(FromServer::Refused(refusal)) => {
                let code = refusal.known_code();
                assert_eq!(code, Some(RefusalCode::NotAllowed), "{refusal:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(!marker.exists());
        let script = "echo $MALAI_CLIENT_ID52 $MALAI_CLIENT_MACHINE";
        let asked = cluster
            .manager()
            .run("web01.company", &["sh", "-c", script])
            .await;
        assert_eq!(asked.clean(), format!("{} boss\n", cluster.id()));
    });
}
