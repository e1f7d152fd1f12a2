//! What one member may use on a machine over all its connections: memory for streams that it does not read or finish
//! sending, and its share of the processor.

use std::time::{Duration, Instant};

use malai_node::framing;
use malai_wire::RefusalCode;
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::RequestKind;
use malai_wire::peer::exec::{Action, FromClient, FromServer, Open, Size, Terminal};

use malai_testing::peer::Peer;
use malai_testing::{TEST_TIMEOUT, run, until_async};
use tokio::task::JoinSet;

use crate::limits::{cluster_with, member, refusal};

/// A terminal's input takes little of the bytes that one member may have in flight.
#[test]
fn terminals_of_one_member() {
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
    run(async {
        let (_cluster, target, rogue) = cluster_with("receive_bytes_per_peer = 2162688\n").await;
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

/// The bytes that one member may leave unacknowledged, on all its connections.
#[test]
fn connections_with_commands_of_one_member() {
    run(async {
        let (cluster, target, rogue) = cluster_with("send_bytes_per_peer = 2097152\n").await;
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
        let answer = cluster.manager().run("web01.company", &["true"]).await;
        answer.clean();
    });
}

/// A member's requests wait for one another; other members' requests do not wait for them.
#[test]
fn requests_of_one_member_in_a_second() {
    run(async {
        let (cluster, target, rogue) = cluster_with("requests_per_second_per_peer = 10\n").await;
        let peer = member(&rogue, &target).await;
        let started = Instant::now();
        for _ in 0..30 {
            assert_eq!(peer.exec(&["true"]).await, Ok(FromServer::Accepted));
        }
        // Ten at once, then ten in each second.
        assert!(
            started.elapsed() > Duration::from_millis(1900),
            "{:?}",
            started.elapsed()
        );
        peer.close().await;
        let answer = cluster.manager().run("web01.company", &["true"]).await;
        answer.clean();
    });
}

#[test]
fn connections_of_one_key_in_a_second() {
    run(async {
        let (cluster, target, rogue) = cluster_with("connections_per_second_per_peer = 5\n").await;
        let mut peers = JoinSet::new();
        for _ in 0..40 {
            let (rogue, target) = (rogue.clone(), target);
            peers.spawn(async move {
                let peer = Peer::connect(&rogue, &target).await;
                peer.greet_as_command().await;
                peer.closed_by_peer().await
            });
        }
        let refusal = peers.join_next().await.unwrap().unwrap();
        assert_eq!(refusal.known_code(), Some(RefusalCode::Busy));
        let told = "connections_per_second_per_peer = 5";
        assert!(refusal.message.contains(told), "{refusal:?}");
        // Another member has its own share.
        let answer = cluster.manager().run("web01.company", &["true"]).await;
        answer.clean();
    });
}
