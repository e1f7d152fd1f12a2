//! What one member may use here over all its connections: memory for what it does not read or send to the end, and its
//! turn at the processor.

use std::time::{Duration, Instant};

use malai_node::framing;
use malai_wire::RefusalCode;
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::RequestKind;
use malai_wire::peer::exec::{Action, FromClient, FromServer, Open, Size, Terminal};

use malai_cluster::{MachineId, SecretSeed};

use crate::harness::{Cluster, TEST_TIMEOUT};
use crate::limits::limit;
use crate::peer::{self, Peer, until_async};

/// A running cluster in which `web01` has these limits, and the seed of another member.
fn cluster_with(limits: &str) -> (Cluster, MachineId, SecretSeed) {
    let cluster = Cluster::running(&["web01", "rogue"]);
    cluster.machine("rogue").stop();
    limit(cluster.machine("web01"), limits);
    let seed = cluster.machine("rogue").read("machine.private-key");
    let target = cluster.id_of("web01").parse().unwrap();
    (cluster, target, SecretSeed::parse_file(&seed).unwrap())
}

async fn member(seed: &SecretSeed, target: &MachineId) -> Peer {
    let peer = Peer::connect(seed, target).await;
    peer.greet_as_command().await;
    peer
}

/// Whether an answer is the refusal that names this limit.
fn refusal(answer: Result<FromServer, String>, limit: &str) -> bool {
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

/// The input of a terminal takes little of what one member may have on its way here.
#[test]
fn terminals_of_one_member() {
    let (_cluster, target, rogue) = cluster_with("receive_bytes_per_peer = 2162688\n");
    let cat = |terminal| {
        let open = Open {
            request: Action::Exec(vec![b"cat".to_vec()]).into(),
            stdin: true,
            terminal,
        };
        [
            vec![RequestKind::Exec as u8],
            FromClient::Open(open).to_frame(),
        ]
        .concat()
    };
    let terminal = || {
        Some(Terminal {
            term: "dumb".to_owned().try_into().unwrap(),
            size: Size {
                columns: 80,
                rows: 24,
                width_pixels: 0,
                height_pixels: 0,
            },
        })
    };
    peer::run(async {
        let peer = member(&rogue, &target).await;
        let mut held = Vec::new();
        for (terminal, is_accepted) in [
            (None, true),
            (terminal(), true),
            (terminal(), false),
            (None, false),
        ] {
            let (send, mut recv) = peer.ask(&cat(terminal)).await.unwrap();
            let answer: Result<FromServer, _> =
                framing::expect(&mut recv, frame::SMALL, TEST_TIMEOUT).await;
            held.push((send, recv));
            let answer = answer.map_err(|error| error.to_string());
            match is_accepted {
                true => assert_eq!(answer, Ok(FromServer::Accepted)),
                false => assert!(refusal(answer, "receive_bytes_per_peer = 2162688")),
            }
        }
        drop(held);
        peer.close().await;
    });
}

/// What one member may leave unacknowledged, on all its connections.
#[test]
fn connections_with_commands_of_one_member() {
    let (cluster, target, rogue) = cluster_with("send_bytes_per_peer = 2097152\n");
    peer::run(async {
        let (one, two) = (member(&rogue, &target).await, member(&rogue, &target).await);
        for _ in 0..2 {
            assert_eq!(one.exec(&["true"]).await, Ok(FromServer::Accepted));
        }
        let refused = two.exec(&["true"]).await;
        assert!(refusal(refused, "send_bytes_per_peer = 2097152"));
        one.close().await;
        until_async("what the first connection had", async || {
            two.exec(&["true"]).await == Ok(FromServer::Accepted)
        })
        .await;
        two.close().await;
    });
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).clean(), "");
}

/// A member's requests wait for each other, and nobody waits for them.
#[test]
fn requests_of_one_member_in_a_second() {
    let (cluster, target, rogue) = cluster_with("requests_per_second_per_peer = 10\n");
    let web01 = cluster.machine("web01");
    peer::run(async {
        let peer = member(&rogue, &target).await;
        let started = Instant::now();
        for _ in 0..30 {
            assert_eq!(peer.exec(&["true"]).await, Ok(FromServer::Accepted));
        }
        // Ten at once, and ten in each second after.
        assert!(
            started.elapsed() > Duration::from_millis(1900),
            "{:?}",
            started.elapsed()
        );
        peer.close().await;
    });
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).clean(), "");
    let log = web01.read("malai.log");
    let told = "a limit is reached limit=requests_per_second_per_peer";
    assert!(log.contains(told), "{log}");
}

#[test]
fn connections_of_one_key_in_a_second() {
    let (cluster, target, rogue) = cluster_with("connections_per_second_per_peer = 5\n");
    peer::run(async {
        let mut held = Vec::new();
        // However slowly they come, some second has more than five.
        let refusal = loop {
            let peer = Peer::connect(&rogue, &target).await;
            peer.greet_as_command().await;
            let turned_away = tokio::time::timeout(Duration::from_millis(20), peer.turned_away());
            if let Ok(refusal) = turned_away.await {
                break refusal;
            }
            held.push(peer);
            assert!(held.len() < 60, "none was turned away");
        };
        assert_eq!(refusal.known_code(), Some(RefusalCode::Busy));
        let told = "connections_per_second_per_peer = 5";
        assert!(refusal.message.contains(told), "{refusal:?}");
    });
    // Another member has its own share.
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).clean(), "");
}
