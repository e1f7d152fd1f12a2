//! Each limit, set low in malai.toml, is reached: what is one too many is told which limit it was.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use malai_cluster::{MachineId, SecretSeed};
use malai_node::framing;
use malai_wire::RefusalCode;
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::RequestKind;
use malai_wire::peer::exec::{Action, FromClient, FromServer, Open};

use crate::harness::{Cluster, Home, TEST_TIMEOUT, finish, until};
use crate::peer::{self, Peer, open, stranger, until_async};

/// A running cluster in which `web01` has these limits, and the seed of another member.
fn cluster_with(limits: &str) -> (Cluster, MachineId, SecretSeed) {
    let cluster = Cluster::running(&["web01", "rogue"]);
    cluster.machine("rogue").stop();
    limit(cluster.machine("web01"), limits);
    let seed = cluster.machine("rogue").read("machine.private-key");
    let target = cluster.id_of("web01").parse().unwrap();
    (cluster, target, SecretSeed::parse_file(&seed).unwrap())
}

/// Puts limits in force while the daemon runs.
fn limit(home: &Home, limits: &str) {
    std::fs::write(home.path.join("malai.toml"), format!("[limits]\n{limits}")).unwrap();
    home.succeed(&["rescan"]);
}

async fn member(seed: &SecretSeed, target: &MachineId) -> Peer {
    let peer = Peer::connect(seed, target).await;
    peer.greet_as_command().await;
    peer
}

/// Starts a command that runs until its input ends, and waits until it runs.
fn begun(home: &Home, target: &str) -> Child {
    let script = "echo begun; cat";
    let mut command = home.command(&[target, "sh", "-c", script]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = [0; 6];
    let out = child.stdout.as_mut().unwrap();
    out.read_exact(&mut first).unwrap();
    child
}

#[test]
fn sessions_in_all_and_of_one_member() {
    let (cluster, target, rogue) = cluster_with("sessions_per_peer = 2\nsessions = 3\n");
    let boss = &cluster.manager;
    let (one, two) = (begun(boss, "web01.company"), begun(boss, "web01.company"));
    boss.run(&["web01.company", "true"])
        .refused("sessions_per_peer = 2; its owner can change it under [limits] in malai.toml");
    peer::run(async {
        let peer = member(&rogue, &target).await;
        let sleep = [vec![RequestKind::Exec as u8], open(&["sleep", "60"])].concat();
        let _third = peer.ask(&sleep).await.unwrap();
        until_async("the refusal", async || {
            refusal(peer.exec(&["true"]).await, "sessions = 3")
        })
        .await;
        peer.close().await;
    });
    for child in [one, two] {
        assert_eq!(finish(child, Vec::new()).code, 0);
    }
    // Places of what has ended are free again.
    until("a free place", || {
        boss.run(&["web01.company", "true"]).code == 0
    });
}

/// What one member may have on its way here, on all its connections.
#[test]
fn inputs_of_one_member() {
    let (cluster, target, rogue) = cluster_with("receive_bytes_per_peer = 4194304\n");
    let cat = Open {
        request: Action::Exec(vec![b"cat".to_vec()]).into(),
        stdin: true,
        terminal: None,
    };
    let cat = FromClient::Open(cat).to_frame();
    let cat = [vec![RequestKind::Exec as u8], cat].concat();
    // What is held keeps its command running.
    let ask = async |peer: &Peer| {
        let (send, mut recv) = peer.ask(&cat).await.unwrap();
        let answer: Result<FromServer, _> =
            framing::expect(&mut recv, frame::SMALL, crate::harness::TEST_TIMEOUT).await;
        ((send, recv), answer.map_err(|error| error.to_string()))
    };
    peer::run(async {
        let (one, two) = (member(&rogue, &target).await, member(&rogue, &target).await);
        let (held_by_one, answer) = ask(&one).await;
        assert_eq!(answer, Ok(FromServer::Accepted));
        let (_held_by_two, answer) = ask(&two).await;
        assert_eq!(answer, Ok(FromServer::Accepted));
        let (_, answer) = ask(&two).await;
        assert!(refusal(answer, "receive_bytes_per_peer = 4194304"));
        // Without an input nothing is kept.
        assert_eq!(two.exec(&["true"]).await, Ok(FromServer::Accepted));
        // The next command on the same connection has what was granted before.
        drop(held_by_one);
        until_async("a granted input", async || {
            ask(&one).await.1 == Ok(FromServer::Accepted)
        })
        .await;
        // With the connection it is given back.
        one.close().await;
        until_async("a granted input", async || {
            ask(&two).await.1 == Ok(FromServer::Accepted)
        })
        .await;
        two.close().await;
    });
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).clean(), "");
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

#[test]
fn sessions_of_this_computers_own_command_lines() {
    let cluster = Cluster::running(&["web01"]);
    limit(&cluster.manager, "local_sessions = 1\n");
    let one = begun(&cluster.manager, "web01.company");
    let second = cluster.manager.run(&["web01.company", "true"]);
    assert_eq!(second.code, 255, "{}", second.shown());
    assert!(
        second.stderr.contains("local_sessions = 1"),
        "{}",
        second.shown()
    );
    assert_eq!(finish(one, Vec::new()).code, 0);
}

#[test]
fn requests_arguments_and_the_time_to_open() {
    let (cluster, target, rogue) =
        cluster_with("requests_per_peer = 8\nargument_bytes = 2000\nopening_seconds = 1\n");
    let long = "x".repeat(100_000);
    let refused = cluster.manager.run(&["web01.company", "true", &long]);
    refused.refused("argument_bytes = 2000");
    peer::run(async {
        let peer = member(&rogue, &target).await;
        let first = peer.ask(&[RequestKind::Exec as u8, 0, 0]).await.unwrap();
        // What is never said is answered in time.
        let (_send, mut recv) = first;
        let answer = recv.read_to_end(10_000).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains("opening_seconds = 1"), "{answer:?}");
        // Two connections have the places of one.
        let other = member(&rogue, &target).await;
        let mut held = Vec::new();
        for peer in [&peer, &other] {
            for _ in 0..4 {
                held.push(peer.ask(&[RequestKind::Exec as u8, 0, 0]).await.unwrap());
            }
        }
        let answer = other.exec(&["true"]).await;
        assert!(refusal(answer, "requests_per_peer = 8"));
    });
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).clean(), "");
}

#[test]
fn connections_of_members() {
    let (cluster, target, rogue) = cluster_with("connections_per_peer = 2\nconnections = 8\n");
    peer::run(async {
        let sleep = [vec![RequestKind::Exec as u8], open(&["sleep", "60"])].concat();
        let first = member(&rogue, &target).await;
        assert_eq!(first.exec(&["true"]).await, Ok(FromServer::Accepted));
        let second = member(&rogue, &target).await;
        assert_eq!(second.exec(&["true"]).await, Ok(FromServer::Accepted));
        // The one that was unused for longest makes room.
        let third = member(&rogue, &target).await;
        let farewell = first.turned_away().await;
        assert_eq!(farewell.known_code(), Some(RefusalCode::Busy));
        assert!(
            farewell.message.contains("connections_per_peer = 2"),
            "{farewell:?}"
        );
        // Those that are in use do not.
        let mut held = Vec::new();
        for peer in [&second, &third] {
            let (send, mut recv) = peer.ask(&sleep).await.unwrap();
            let answer = framing::expect::<FromServer>(&mut recv, frame::SMALL, TEST_TIMEOUT).await;
            assert_eq!(answer.unwrap(), FromServer::Accepted);
            held.push((send, recv));
        }
        let fourth = member(&rogue, &target).await;
        let farewell = fourth.turned_away().await;
        assert!(
            farewell.message.contains("connections_per_peer = 2"),
            "{farewell:?}"
        );
        assert!(second.connection.close_reason().is_none());
        second.close().await;
        third.close().await;
    });
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).clean(), "");
    limit(cluster.machine("web01"), "connections = 8\n");
    peer::run(async {
        let mut many = Vec::new();
        for _ in 0..10 {
            many.push(member(&rogue, &target).await);
        }
        let mut farewells = 0;
        until_async("two farewells", async || {
            farewells = many
                .iter()
                .filter(|peer| peer.connection.close_reason().is_some())
                .count();
            farewells >= 2
        })
        .await;
    });
    // A link of this side's that made room is no obstacle.
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).clean(), "");
}

#[test]
fn strangers_and_their_times() {
    let limits = "unauthenticated_connections_per_address = 4\nhandshake_seconds = 1\ngreeting_seconds = 30\n";
    let (cluster, target, rogue) = cluster_with(limits);
    peer::run(async {
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(Peer::connect(&stranger(), &target).await);
        }
        let farewell = silent[0].turned_away().await;
        assert_eq!(farewell.known_code(), Some(RefusalCode::Busy));
        assert!(
            farewell
                .message
                .contains("unauthenticated_connections_per_address = 4"),
            "{farewell:?}"
        );
        // A member from the same address comes through.
        let peer = member(&rogue, &target).await;
        assert_eq!(peer.exec(&["true"]).await, Ok(FromServer::Accepted));
        peer.close().await;
    });
    limit(cluster.machine("web01"), "greeting_seconds = 1\n");
    peer::run(async {
        let began = Instant::now();
        let silent = Peer::connect(&stranger(), &target).await;
        let farewell = silent.turned_away().await;
        assert_eq!(farewell.known_code(), Some(RefusalCode::Busy));
        assert!(farewell.message.contains("greeting_seconds = 1"));
        assert!(
            began.elapsed() < Duration::from_millis(2900),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn keys_that_wait_and_connections_that_idle() {
    let cluster = Cluster::running(&["web01"]);
    limit(
        &cluster.manager,
        "pending_joins_per_address = 2\nidle_seconds = 5\n",
    );
    let target = cluster.id.parse().unwrap();
    peer::run(async {
        for _ in 0..4 {
            let peer = Peer::connect(&stranger(), &target).await;
            peer.greet(None).await;
            peer.turned_away().await;
        }
    });
    let asking = cluster.manager.status().matches("asks to join").count();
    assert_eq!(asking, 2);
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).clean(), "");
    until("the idle connection's end", || {
        cluster.manager.log().contains("the connection was idle")
    });
    assert_eq!(cluster.manager.run(&["web01.company", "true"]).clean(), "");
}

#[test]
fn command_lines_that_say_nothing_are_told_why_they_are_closed() {
    let cluster = Cluster::running(&[]);
    let home = &cluster.manager;
    limit(home, "control_connections = 4\n");
    let connect = || UnixStream::connect(home.path.join("malai.socket")).unwrap();
    let mut silent: Vec<_> = (0..5).map(|_| connect()).collect();
    let mut heard = Vec::new();
    let first = &mut silent[0];
    let patience = Duration::from_secs(5);
    first.set_read_timeout(Some(patience)).unwrap();
    first.read_to_end(&mut heard).unwrap();
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.contains("control_connections = 4"), "{heard:?}");
    assert!(home.status().contains("RUNNING"));
}

/// The command lines of one computer that come all at once wait for their turn.
#[test]
fn command_lines_wait_for_a_slot() {
    let cluster = Cluster::running(&["web01"]);
    let boss = &cluster.manager;
    limit(boss, "control_connections = 4\n");
    all_succeed(40, || boss.spawn(&["web01.company", "true"]));
}

/// A peer whose connection is closed in its handshake to make room for another one dials again.
#[test]
fn connections_that_come_all_at_once_from_one_address_all_get_in() {
    let cluster = Cluster::with_routes();
    let address = "unauthenticated_connections_per_address = 4\n";
    limit(cluster.machine("web01"), address);
    let laptop = cluster.machine("laptop");
    all_succeed(30, || laptop.spawn(&["web01.company", "true"]));
}

fn all_succeed(count: usize, start: impl Fn() -> Child) {
    let runs: Vec<_> = (0..count).map(|_| start()).collect();
    let ends = runs.into_iter().map(|run| finish(run, Vec::new()));
    let failed: Vec<_> = ends.filter(|end| end.code != 0).collect();
    let shown = failed.first().map(|end| end.shown());
    assert!(failed.is_empty(), "{} failed: {shown:?}", failed.len());
}

/// Only the handshake says who asks: what a peer says of itself is not even looked at.
#[test]
fn who_asks_is_who_the_handshake_proved() {
    let cluster = Cluster::running(&["web01", "rogue"]);
    cluster.machine("rogue").stop();
    let rogue = SecretSeed::parse_file(&cluster.machine("rogue").read("machine.private-key"));
    let (rogue, target) = (rogue.unwrap(), cluster.id_of("web01").parse().unwrap());
    // A comment is no rule: it names the key and grants nothing.
    cluster.edit(|text| {
        let (before, after) = text.split_once("\n[machine.web01]\n").unwrap();
        let after = after.replacen(
            "allow_from = \"*\"",
            &format!(
                "# allow_from = \"rogue,{}\"\nallow_from = \"boss\"",
                rogue.id()
            ),
            1,
        );
        format!("{before}\n[machine.web01]\n{after}")
    });
    cluster.rescan_except(&["rogue"]);
    let marker = cluster.folder().join("marker");
    peer::run(async {
        let peer = member(&rogue, &target).await;
        let touch = ["touch", marker.to_str().unwrap()];
        match peer.exec(&touch).await {
            Ok(FromServer::Refused(refusal)) => {
                assert_eq!(
                    refusal.known_code(),
                    Some(RefusalCode::NotAllowed),
                    "{refusal:?}"
                );
            }
            other => panic!("{other:?}"),
        }
        peer.close().await;
    });
    assert!(!marker.exists());
    let asked = cluster.manager.run(&[
        "web01.company",
        "sh",
        "-c",
        "echo $MALAI_CLIENT_ID52 $MALAI_CLIENT_MACHINE",
    ]);
    assert_eq!(asked.clean(), format!("{} boss\n", cluster.id));
}
