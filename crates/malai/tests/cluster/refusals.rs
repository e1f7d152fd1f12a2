//! What strangers, members of other clusters, and members that lie get: a refusal and nothing else.

use std::path::Path;

use malai_cluster::{MachineId, SecretSeed, Snapshot, signed_bytes};
use malai_wire::RefusalCode;
use malai_wire::frame::Tagged;
use malai_wire::peer::exec::FromServer;
use malai_wire::peer::hello::Greeting;
use malai_wire::peer::sync::{Compare, Content, Fetch};
use malai_wire::peer::{RequestKind, StreamKind, raw_head};
use malai_wire::version::Versions;
use tokio::task::JoinSet;

use crate::harness::{Cluster, Home, until};
use crate::peer::{self, Peer, open, stranger};

fn seed(home: &Home, file: &str) -> SecretSeed {
    SecretSeed::parse_file(&home.read(file)).unwrap()
}

fn id(cluster: &Cluster, name: &str) -> MachineId {
    cluster.id_of(name).parse().unwrap()
}

/// What a stranger does after the handshake.
const ATTACKS: [&str; 18] = [
    "exec",
    "exec before the greeting",
    "fetch",
    "compare",
    "ping",
    "silence",
    "garbage request",
    "unknown request",
    "4 GiB request",
    "4 GiB greeting",
    "garbage greeting",
    "half-open requests",
    "half-open greeting",
    "raw data",
    "unknown stream",
    "other version",
    "forged header",
    "flood",
];

async fn attack(name: &str, peer: &Peer, marker: &Path) -> Vec<u8> {
    let touch = open(&["touch", marker.to_str().unwrap()]);
    let huge = [0xff, 0xff, 0xff, 0xff, 1];
    let greets = !name.contains("greeting")
        && ![
            "silence",
            "other version",
            "forged header",
            "unknown stream",
        ]
        .contains(&name);
    if greets {
        peer.greet(None).await;
    }
    match name {
        "exec" => return peer.request(RequestKind::Exec, touch).await,
        "exec before the greeting" => {
            let answer = peer
                .ask(&[vec![RequestKind::Exec as u8], touch].concat())
                .await;
            peer.greet(None).await;
            let (_send, mut recv) = answer.unwrap();
            return recv.read_to_end(1 << 20).await.unwrap_or_default();
        }
        "fetch" => {
            return peer
                .request(RequestKind::Fetch, Fetch::Revision(1).to_frame())
                .await;
        }
        "compare" => {
            return peer
                .request(RequestKind::Compare, Compare::Header(None).to_frame())
                .await;
        }
        "ping" => return peer.request(RequestKind::Ping, vec![0]).await,
        "garbage request" => return peer.request(RequestKind::Exec, vec![0x5a; 100_000]).await,
        "unknown request" => drop(peer.ask(&[200, 1, 2, 3]).await),
        "4 GiB request" => {
            let _open = peer
                .ask(&[&[RequestKind::Exec as u8][..], &huge].concat())
                .await;
            peer.connection.closed().await;
        }
        "4 GiB greeting" => peer.say_first(&huge).await,
        "garbage greeting" => {
            peer.say_first(&[0, 0, 0, 9, 1, 255, 255, 255, 255, 255, 255, 255, 255])
                .await
        }
        "half-open requests" => {
            let mut all = Vec::new();
            for _ in 0..8 {
                all.push(peer.ask(&[RequestKind::Exec as u8]).await);
            }
            peer.connection.closed().await;
        }
        "half-open greeting" => {
            let mut send = peer.connection.open_uni().await.unwrap();
            send.write_all(&[StreamKind::Hello as u8, 0, 0])
                .await
                .unwrap();
            peer.connection.closed().await;
        }
        "raw data" => {
            for kind in [StreamKind::Stdin, StreamKind::Stdout, StreamKind::Stderr] {
                peer.throw(&[&raw_head(kind, 0)[..], b"x"].concat()).await;
            }
        }
        "unknown stream" => peer.throw(&[99; 32]).await,
        "other version" => {
            let mut hello = Peer::hello(None);
            hello.versions = Versions {
                lowest: 900,
                highest: 901,
            };
            peer.say_first(&Greeting::Hello(hello).to_frame()).await;
        }
        "flood" => {
            for _ in 0..200 {
                let request = [&[RequestKind::Exec as u8][..], &touch].concat();
                let ask = peer.ask(&request);
                if tokio::time::timeout(std::time::Duration::from_millis(50), ask)
                    .await
                    .is_err()
                {
                    break;
                }
            }
        }
        _ => {}
    }
    Vec::new()
}

#[test]
fn a_stranger_gets_a_refusal_whatever_it_sends() {
    let cluster = Cluster::running(&["web01"]);
    let marker = cluster.folder().join("marker");
    for (home, target) in [
        (&cluster.manager, cluster.id.parse().unwrap()),
        (cluster.machine("web01"), id(&cluster, "web01")),
    ] {
        let before = home.revision();
        peer::run(async {
            let mut attacks = JoinSet::new();
            for name in ATTACKS {
                let marker = marker.clone();
                attacks.spawn(async move {
                    let peer = Peer::connect(&stranger(), &target).await;
                    if name == "forged header" {
                        let forger = stranger();
                        let forged = forged(&forger, &target);
                        peer.give(forged.clone());
                        peer.greet(Some(forged.header)).await;
                    }
                    let attack = attack(name, &peer, &marker);
                    let answer = tokio::time::timeout(crate::harness::TEST_TIMEOUT, attack).await;
                    let refusal = peer.turned_away().await;
                    (name, answer.expect(name), refusal, peer.fetched())
                });
            }
            while let Some(ended) = attacks.join_next().await {
                let (name, answer, refusal, fetched) = ended.unwrap();
                assert!(answer.is_empty(), "{name}: {answer:?} came back");
                let code = refusal.known_code();
                let expected = match name {
                    // The limit of the time for a hello is named.
                    "silence" | "half-open greeting" => RefusalCode::Busy,
                    "4 GiB greeting" | "garbage greeting" | "unknown stream" => {
                        RefusalCode::Protocol
                    }
                    "other version" => RefusalCode::Version,
                    _ => RefusalCode::NotAMember,
                };
                assert_eq!(code, Some(expected), "{name}: {refusal:?}");
                assert_eq!(fetched, 0, "{name}: a forged header was fetched");
            }
        });
        assert_eq!(home.revision(), before);
    }
    assert!(!marker.exists(), "a stranger's command ran");
    let answer = cluster.manager.run(&["web01.company", "echo", "on"]);
    assert_eq!(answer.clean(), "on\n");
    // The manager lists a few of them, the machine none.
    assert!(cluster.manager.status().contains("asks to join"));
    assert!(!cluster.machine("web01").status().contains("asks to join"));
}

/// A snapshot that says it is of the cluster that `_target` is in and that a stranger has signed.
fn forged(forger: &SecretSeed, member: &MachineId) -> Content {
    let text = format!(
        "[cluster_manager]\nid52 = \"{}\"\ncluster_name = \"c\"\n[machine.m]\nid52 = \"{member}\"\nallow_from = \"*\"\n",
        forger.id()
    );
    sealed(forger, u64::MAX - 1, &text)
}

fn sealed(seed: &SecretSeed, revision: u64, text: &str) -> Content {
    let snapshot = Snapshot::seal(seed, revision, &read(text));
    Content {
        header: snapshot.header().clone(),
        content: snapshot.content().to_owned(),
    }
}

fn read(text: &str) -> malai_cluster::Cluster {
    let checked = malai_cluster::check("cluster.toml", text);
    checked
        .cluster
        .unwrap_or_else(|| panic!("{:?}", checked.diagnostics))
}

/// An identity of one cluster proves nothing in another, though one daemon serves both.
#[test]
fn a_member_of_another_cluster_of_the_same_daemon_is_a_stranger() {
    let cluster = Cluster::running(&["web01"]);
    let other = Cluster::new(&[]);
    let web01 = cluster.machine("web01");
    let said = web01.succeed(&["machine", "init", &other.id, "other"]);
    other.edit(|text| format!("{text}\n{}", crate::harness::section(&said, "web01")));
    other.manager.start();
    until("the other cluster's manager can command", || {
        other.manager.run(&["web01.company", "true"]).code == 0
    });
    let marker = cluster.folder().join("marker");
    let manager = seed(&other.manager, "cluster.private-key");
    peer::run(async {
        let peer = Peer::connect(&manager, &id(&cluster, "web01")).await;
        peer.greet(None).await;
        let answer = peer.exec(&["touch", marker.to_str().unwrap()]).await;
        assert!(answer.is_err(), "{answer:?}");
        let refusal = peer.turned_away().await;
        assert_eq!(refusal.known_code(), Some(RefusalCode::NotAMember));
    });
    assert!(!marker.exists());
}

/// A member that lies about configurations: every lie is refused, reported where it has to be, and
/// never stored.
#[test]
fn configurations_that_are_not_the_managers_next_are_refused() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    cluster.machine("laptop").stop();
    let web01 = cluster.machine("web01");
    let manager = seed(&cluster.manager, "cluster.private-key");
    let laptop = seed(cluster.machine("laptop"), "machine.private-key");
    let other = stranger();
    let revision = web01.revision();
    let stored = web01.read("machine.toml");
    let text = cluster.manager.read("cluster.toml");
    let evil = text.replace("[machine.laptop]", "[machine.evil]");
    assert_ne!(text, evil);

    let mut forged = sealed(&manager, revision + 9, &evil);
    forged.header.signature = other.sign(&signed_bytes(
        &forged.header.cluster,
        revision + 9,
        &forged.header.hash,
    ));
    let mut swapped = sealed(&manager, revision + 9, &text);
    swapped.content = sealed(&manager, revision + 9, &evil).content;
    let of_other = evil.replace(&cluster.id, &other.id().to_string());
    let lies = [
        ("older", sealed(&manager, revision - 9, &evil), None),
        ("forged", forged, Some("signature is not the manager's")),
        (
            "other cluster",
            sealed(&other, revision + 9, &of_other),
            Some("it is the cluster"),
        ),
        ("swapped", swapped, Some("not the one that was signed")),
        (
            "fork",
            sealed(&manager, revision, &evil),
            Some("fork: revision"),
        ),
    ];
    for (name, lie, words) in lies {
        peer::run(async {
            // Once in the greeting, once in so many words.
            let peer = Peer::connect(&laptop, &id(&cluster, "web01")).await;
            peer.give(lie.clone());
            peer.greet(Some(lie.header.clone())).await;
            match (peer.compare(lie.header).await, words) {
                (Compare::Header(Some(header)), None) => assert_eq!(header.revision, revision),
                (Compare::Refused(refusal), Some(words)) => {
                    assert_eq!(refusal.known_code(), Some(RefusalCode::Snapshot));
                    assert!(refusal.message.contains(words), "{name}: {refusal:?}");
                }
                (answer, _) => panic!("{name}: {answer:?}"),
            }
            if name != "swapped" {
                assert_eq!(peer.fetched(), 0, "{name}: its content was fetched");
            }
            // It is a member all the same.
            let answer = peer.exec(&["true"]).await;
            assert_eq!(answer, Ok(FromServer::Accepted), "{name}");
            peer.close().await;
        });
        assert_eq!(web01.revision(), revision, "{name}");
        assert_eq!(web01.read("machine.toml"), stored, "{name}");
        let reported = web01.status().contains("fork: revision");
        assert_eq!(reported, name == "fork", "{name}: {}", web01.status());
    }
    let answer = cluster.manager.run(&["web01.company", "echo", "on"]);
    assert_eq!(answer.clean(), "on\n");
}

/// A key that is not known here may bring the revision that it is known in.
#[test]
fn whoever_brings_the_newer_configuration_is_judged_by_it() {
    let cluster = Cluster::running(&["web01"]);
    let manager = seed(&cluster.manager, "cluster.private-key");
    cluster.manager.stop();
    let web01 = cluster.machine("web01");
    let revision = web01.revision() + 5;
    let newcomer = stranger();
    let text = cluster
        .manager
        .read("cluster.toml")
        .replace("allow_from = \"*\"", "allow_from = \"new\"");
    let text = format!("{text}\n[machine.new]\nid52 = \"{}\"\n", newcomer.id());
    let content = sealed(&manager, revision, &text);
    peer::run(async {
        let peer = Peer::connect(&newcomer, &id(&cluster, "web01")).await;
        peer.give(content.clone());
        peer.greet(Some(content.header)).await;
        assert_eq!(peer.exec(&["true"]).await, Ok(FromServer::Accepted));
        assert_eq!(peer.fetched(), 1);
    });
    assert_eq!(web01.revision(), revision);
    // The manager's name is in no list now: its own word counts no more than the configuration.
    cluster
        .manager
        .run(&["web01.company", "echo", "wrong"])
        .refused("allow_from");
}
