//! What one member may use on a machine over all its connections: memory for streams that it does not read or finish
//! sending, and its share of the processor.

use std::time::{Duration, Instant};

use iroh::endpoint::VarInt;
use malai_node::framing;
use malai_wire::RefusalCode;
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::exec::{Action, FromClient, FromServer, Open, Size, Terminal};
use malai_wire::peer::{RequestKind, StreamKind, raw_head};

use malai_testing::cluster::Plan;
use malai_testing::peer::Peer;
use malai_testing::{TEST_TIMEOUT, run, until_async};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::limits::{cluster_with, member, refusal};

/// A write that takes longer than this is blocked.
const STUCK: Duration = Duration::from_millis(50);

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
        let (_cluster, target, rogue) = cluster_with("receive_bytes_per_peer = 2097152\n").await;
        let peer = member(&rogue, &target).await;
        let mut held = Vec::new();
        // Fifteen with 128 KiB and two terminals with 64 KiB fill it.
        let mut inputs: Vec<_> = (0..15).map(|_| (None, true)).collect();
        inputs.extend([(terminal(), true), (terminal(), true)]);
        inputs.extend([(terminal(), false), (None, false)]);
        for (terminal, is_accepted) in inputs {
            let is_terminal = terminal.is_some();
            let (send, mut recv) = peer.ask(&cat(terminal)).await.unwrap();
            if is_accepted && !is_terminal {
                let told =
                    framing::expect::<FromServer>(&mut recv, frame::SMALL, TEST_TIMEOUT).await;
                assert_eq!(told.unwrap(), FromServer::Input(128 << 10));
            }
            let answer: Result<FromServer, _> =
                framing::expect(&mut recv, frame::SMALL, TEST_TIMEOUT).await;
            held.push((send, recv));
            let answer = answer.map_err(|error| error.to_string());
            match is_accepted {
                true => assert_eq!(answer, Ok(FromServer::Accepted)),
                false => assert!(refusal(answer, "receive_bytes_per_peer = 2097152")),
            }
        }
        drop(held);
        peer.close().await;
    });
}

/// The bytes that a member can make a machine keep with input that its commands do not read.
#[test]
fn inputs_of_one_member_that_are_not_read() {
    const COMMANDS: usize = 128;
    run(async {
        let (_cluster, target, rogue) = cluster_with("").await;
        let peer = member(&rogue, &target).await;
        let open = Open {
            request: Action::Exec(vec![b"sleep".to_vec(), b"60".to_vec()]).into(),
            stdin: true,
            terminal: None,
        };
        let request = [
            vec![RequestKind::Exec as u8],
            FromClient::Open(open).to_frame(),
        ]
        .concat();
        let mut held = Vec::new();
        for _ in 0..COMMANDS {
            let (control, mut answers) = peer.ask(&request).await.unwrap();
            loop {
                let answer = framing::expect(&mut answers, frame::SMALL, TEST_TIMEOUT).await;
                match answer.unwrap() {
                    FromServer::Accepted => break,
                    answer => assert!(matches!(answer, FromServer::Input(_)), "{answer:?}"),
                }
            }
            held.push((control, answers));
        }
        // It ignores what `Input` says.
        let (mut inputs, mut sent) = (Vec::new(), 0);
        for (control, _) in &held {
            let session = VarInt::from(control.id()).into_inner();
            let mut input = peer.connection.open_uni().await.unwrap();
            let mut bytes = raw_head(StreamKind::Stdin, session).to_vec();
            bytes.resize(64 << 10, 0);
            while let Ok(written) = timeout(STUCK, input.write(&bytes)).await {
                sent += written.unwrap();
            }
            inputs.push(input);
        }
        // The sender itself keeps 2 MiB, the pipe of each command and the buffer before it 128 KiB.
        let most = (48 << 20) + (2 << 20) + COMMANDS * (128 << 10);
        assert!(sent < most, "{sent} of {most} bytes");
        peer.close().await;
    });
}

/// An input that is not read does not hold up another one.
#[test]
fn an_input_that_is_read_flows_beside_those_that_are_not() {
    run(async {
        let limits = "[limits]\nreceive_bytes_per_peer = 2097152\n";
        let plan = Plan::new(&["web01"]).settings("web01", limits);
        let cluster = plan.start().await;
        let boss = cluster.manager();
        let mut stalled = Vec::new();
        for _ in 0..15 {
            let script = ["sh", "-c", "echo begun; exec sleep 60"];
            let mut running = boss.begin("web01.company", &script);
            assert_eq!(running.line().await, "begun");
            let all = vec![0; 1 << 20];
            let sent = timeout(STUCK, running.stdin.write_all(&all)).await;
            assert!(sent.is_err(), "all of it was taken");
            stalled.push(running);
        }
        let input: Vec<u8> = (0..=u8::MAX).collect::<Vec<_>>().repeat(20_000);
        let output = boss.run_with("web01.company", &["cat"], &input).await;
        assert!(output.stdout == input, "{} bytes", output.stdout.len());
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
