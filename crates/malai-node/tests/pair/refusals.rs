//! Strangers, members of other clusters, and members that lie get a refusal and nothing else.

use std::path::Path;
use std::time::Duration;

use malai_cluster::{MachineId, SecretSeed, Snapshot, signed_bytes};
use malai_node::testing;
use malai_testing::cluster::{Cluster, Plan};
use malai_testing::peer::{Peer, open, stranger};
use malai_testing::{TEST_TIMEOUT, run};
use malai_wire::RefusalCode;
use malai_wire::frame::Tagged;
use malai_wire::peer::exec::FromServer;
use malai_wire::peer::hello::Greeting;
use malai_wire::peer::sync::{Compare, Content, Fetch};
use malai_wire::peer::{RequestKind, StreamKind, raw_head};
use malai_wire::version::Versions;
use tokio::task::JoinSet;

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
                if tokio::time::timeout(Duration::from_millis(50), ask)
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
    run(async {
        // A silent peer is waited for; this is the shortest time that can be set.
        let greeting = "[limits]\ngreeting_seconds = 1\n";
        let plan = Plan::new(&["web01"]).settings("web01", greeting);
        let cluster = plan.settings("boss", greeting).start().await;
        let marker = cluster.file("marker");
        let (boss, web01) = (cluster.manager(), cluster.machine("web01"));
        let mut attacks = JoinSet::new();
        for target in [boss.id(), web01.id()] {
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
                    let answer = tokio::time::timeout(TEST_TIMEOUT, attack).await;
                    let refusal = peer.closed_by_peer().await;
                    (name, answer.expect(name), refusal, peer.fetched())
                });
            }
        }
        while let Some(ended) = attacks.join_next().await {
            let (name, answer, refusal, fetched) = ended.unwrap();
            assert!(answer.is_empty(), "{name}: {answer:?} came back");
            let code = refusal.known_code();
            let expected = match name {
                "silence" | "half-open greeting" => RefusalCode::Busy,
                "4 GiB greeting" | "garbage greeting" | "unknown stream" => RefusalCode::Protocol,
                "other version" => RefusalCode::Version,
                _ => RefusalCode::NotAMember,
            };
            assert_eq!(code, Some(expected), "{name}: {refusal:?}");
            assert_eq!(fetched, 0, "{name}: a forged header was fetched");
        }
        assert_eq!((boss.revision(), web01.revision()), (1, 1));
        assert!(!marker.exists(), "a stranger's command ran");
        let answer = boss.run("web01.company", &["echo", "on"]).await;
        assert_eq!(answer.clean(), "on\n");
        // The manager lists some of the strangers, the machine none.
        assert!(testing::pending_joins(&boss.service) > 0);
        assert_eq!(testing::pending_joins(&web01.service), 0);
    });
}

/// Keys are free to create, so nothing is kept for a refused one, whatever the reason.
#[test]
fn nothing_is_kept_for_the_key_of_a_stranger() {
    run(async {
        let settings = "[limits]\ngreeting_seconds = 1\n";
        let plan = Plan::new(&["web01", "rogue"]).idle("rogue");
        let cluster = plan.settings("web01", settings).start().await;
        let (web01, rogue) = (cluster.machine("web01"), cluster.machine("rogue").seed());
        for name in ["exec", "silence", "flood"] {
            let stranger = stranger();
            let peer = Peer::connect(&stranger, &web01.id()).await;
            attack(name, &peer, &cluster.file("marker")).await;
            peer.closed_by_peer().await;
            let keeps = testing::keeps_state_of(&web01.service, &stranger.id()).await;
            assert!(!keeps, "{name}");
        }
        // The check does detect the state of a member.
        let peer = Peer::connect(&rogue, &web01.id()).await;
        peer.greet_as_command().await;
        assert_eq!(peer.exec(&["true"]).await, Ok(FromServer::Accepted));
        assert!(testing::keeps_state_of(&web01.service, &rogue.id()).await);
    });
}

/// The header of a newer configuration can be overheard, so few keys that present one are kept.
#[test]
fn strangers_with_a_newer_header_are_few() {
    run(async {
        let plan = Plan::new(&["web01"]);
        let plan = plan.settings("web01", "[limits]\ndeliveries_per_minute = 2\n");
        let mut cluster = plan.start().await;
        let newer = cluster.seal(|text| text + "\n[group.g]\nmembers = \"web01\"\n");
        let web01 = cluster.machine("web01");
        let mut codes = Vec::new();
        for _ in 0..4 {
            let stranger = stranger();
            let peer = Peer::connect(&stranger, &web01.id()).await;
            peer.refuse_content();
            peer.greet(Some(newer.header().clone())).await;
            codes.push(peer.closed_by_peer().await.known_code());
            let keeps = testing::keeps_state_of(&web01.service, &stranger.id()).await;
            assert_eq!(keeps, codes.len() <= 2, "{codes:?}");
        }
        let (member, busy) = (Some(RefusalCode::NotAMember), Some(RefusalCode::Busy));
        assert_eq!(codes, [member, member, busy, busy]);
        assert_eq!(web01.revision(), 1);
    });
}

/// A snapshot that lists `member` as a machine, signed by a stranger.
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

/// A member that lies about configurations: every lie is refused, reported where it has to be, and never stored.
#[test]
fn configurations_that_are_not_the_managers_next_are_refused() {
    run(async {
        let plan = Plan::new(&["web01", "laptop"]).idle("laptop");
        let mut cluster = plan.start().await;
        let newer = cluster.seal(|text| text);
        let again = cluster.seal(|text| text + "\n[group.g]\nmembers = \"web01\"\n");
        assert_eq!(newer.revision(), again.revision());
        // Revision 2 is in force; the lies are about it, revision 1 and a later one.
        let web01 = cluster.machine("web01");
        web01.install(&newer);
        cluster.manager().install(&newer);
        let (revision, manager) = (newer.revision(), cluster.manager().seed());
        let laptop = cluster.machine("laptop").seed();
        let other = stranger();
        let text = newer.content().to_owned();
        let evil = text.replace("[machine.laptop]", "[machine.evil]");
        assert_ne!(text, evil);

        let mut forged = sealed(&manager, revision + 9, &evil);
        let of_it = (&forged.header.cluster, &forged.header.hash);
        forged.header.signature = other.sign(&signed_bytes(of_it.0, revision + 9, of_it.1));
        let mut swapped = sealed(&manager, revision + 9, &text);
        swapped.content = sealed(&manager, revision + 9, &evil).content;
        let of_other = evil.replace(&cluster.id().to_string(), &other.id().to_string());
        let lies = [
            ("older", sealed(&manager, revision - 1, &evil), None),
            ("forged", forged, Some("signature is not the manager's")),
            (
                "other cluster",
                sealed(&other, revision + 9, &of_other),
                Some("it belongs to cluster"),
            ),
            ("swapped", swapped, Some("not what was signed")),
            (
                "fork",
                sealed(&manager, revision, &evil),
                Some("fork: revision"),
            ),
        ];
        for (name, lie, words) in lies {
            // The lie is sent twice: in the greeting, and in an explicit request.
            let peer = Peer::connect(&laptop, &web01.id()).await;
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
            // It is still a member.
            let answer = peer.exec(&["true"]).await;
            assert_eq!(answer, Ok(FromServer::Accepted), "{name}");
            assert_eq!(web01.revision(), revision, "{name}");
            let stored = std::fs::read_to_string(web01.dir.machine_toml()).unwrap();
            assert!(!stored.contains("machine.evil"), "{name}");
            let fork = testing::fork(&web01.service);
            assert_eq!(fork.is_some(), name == "fork", "{name}: {fork:?}");
        }
        let answer = cluster
            .manager()
            .run("web01.company", &["echo", "on"])
            .await;
        assert_eq!(answer.clean(), "on\n");
    });
}

/// An unknown key may bring the revision that lists it.
#[test]
fn the_bringer_of_a_newer_configuration_is_authorized_by_it() {
    run(async {
        let mut cluster = Cluster::start(&["web01"]).await;
        let newcomer = stranger();
        let newer = cluster.seal(|text| {
            let text = text.replace("allow_from = \"*\"", "allow_from = \"new\"");
            format!("{text}\n[machine.new]\nid52 = \"{}\"\n", newcomer.id())
        });
        let content = Content {
            header: newer.header().clone(),
            content: newer.content().to_owned(),
        };
        let (boss, web01) = (cluster.manager(), cluster.machine("web01"));
        let peer = Peer::connect(&newcomer, &web01.id()).await;
        peer.give(content.clone());
        peer.greet(Some(content.header)).await;
        assert_eq!(peer.exec(&["true"]).await, Ok(FromServer::Accepted));
        assert_eq!(peer.fetched(), 1);
        assert_eq!(web01.revision(), newer.revision());
        // The manager is no longer in any list: the configuration applies to it too.
        let refused = boss.run("web01.company", &["echo", "wrong"]).await;
        refused.refused("allow_from");
    });
}
