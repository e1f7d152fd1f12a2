//! How configurations reach every machine, and what is in force until they do.

use malai_cluster::{MachineId, SecretSeed};
use malai_wire::RefusalCode;
use malai_wire::peer::exec::FromServer;

use crate::harness::{ALIAS, Cluster, Home, section, until};
use malai_testing::peer::Peer;

/// Nobody may run anything: these tests change who may command whom.
fn allow_none(text: String) -> String {
    let text = text.replace("allow_from = \"*\"", "allow_from = \"nobody-yet\"");
    format!("{text}\n[group.nobody-yet]\nmembers = []\n")
}

#[test]
fn machines_command_each_other_while_the_manager_is_away() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    cluster.manager.stop();
    let (web01, laptop) = (cluster.machine("web01"), cluster.machine("laptop"));
    for _ in 0..2 {
        assert_eq!(laptop.run(&["web01.company", "echo", "on"]).clean(), "on\n");
        assert_eq!(web01.run(&["laptop.company", "echo", "on"]).clean(), "on\n");
        // The same works after both have restarted, with no manager to ask.
        for home in [web01, laptop] {
            home.stop();
            home.start();
        }
    }
    let status = laptop.status();
    assert!(
        status.contains("Manager last reached: not since"),
        "{status}"
    );
}

#[test]
fn a_machine_that_is_not_in_the_configuration_yet_waits_and_is_listed() {
    let mut cluster = Cluster::running(&["web01"]);
    let section = cluster.join("new");
    let id = cluster.id_of("new");
    let new = cluster.machine("new");
    new.start();
    let asks = format!("⏳ {id} asks to join, from 127.0.0.1:");
    until("the newcomer in the manager's list", || {
        let status = cluster.manager.status();
        status.contains(&asks) && status.contains("(compare with what machine init printed)")
    });
    let status = new.status();
    assert!(
        status.contains("Waiting for the first configuration"),
        "{status}"
    );
    new.run(&["web01.company", "true"])
        .refused("has not sent its configuration yet");
    // It refuses everybody who connects, including the manager.
    let seed = SecretSeed::parse_file(&cluster.manager.read("cluster.private-key")).unwrap();
    let target: MachineId = id.parse().unwrap();
    malai_testing::run(async {
        let peer = Peer::connect(&seed, &target).await;
        peer.greet(None).await;
        match peer.exec(&["true"]).await {
            Ok(FromServer::Refused(refusal)) => {
                assert_eq!(refusal.known_code(), Some(RefusalCode::NoConfiguration));
            }
            other => panic!("{other:?}"),
        }
    });
    cluster.edit(|text| format!("{text}\n{section}"));
    let said = cluster.rescan_everywhere();
    assert!(said.contains("new: updated"), "{said}");
    assert_eq!(
        cluster.manager.run(&["new.company", "echo", "in"]).clean(),
        "in\n"
    );
    assert_eq!(new.run(&["web01.company", "echo", "out"]).clean(), "out\n");
    let status = cluster.manager.status();
    assert!(!status.contains("asks to join"), "{status}");
    // Each machine is shown with its revision, whichever side sent it.
    assert_eq!(status.matches("(current)").count(), 2, "{status}");
}

#[test]
fn an_invalid_file_changes_nothing() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    manager.succeed(&["cluster", "init", "other"]);
    let revision = manager.revision();
    cluster.edit(|text| {
        let text = text.replace("allow_from = \"*\"", "alow_from = \"*\"");
        format!("{text}\n[machine.bad]\nid52 = \"nonsense\"\n")
    });
    for args in [&["rescan"][..], &["rescan", ALIAS]] {
        let output = manager.run(args);
        assert_eq!(output.code, 1, "{}", output.shown());
        let said = format!("{}{}", output.out(), output.stderr);
        for words in [
            "alow_from",
            "allow_from",
            "nonsense",
            "cluster.toml:",
            "stays in force",
        ] {
            assert!(said.contains(words), "no {words:?} in {said}");
        }
        let other = said.contains("✅ other: unchanged");
        assert_eq!(other, args.len() == 1, "{said}");
    }
    assert_eq!(manager.run(&["rescan", "other"]).code, 0);
    assert_eq!(manager.revision(), revision);
    let status = manager.status();
    assert!(status.contains("its files have errors"), "{status}");
    let answer = manager.run(&["web01.company", "echo", "on"]);
    assert_eq!(answer.clean(), "on\n");
    // Once the file is fixed, it is published.
    cluster.edit(|text| {
        text.replace("alow_from", "allow_from")
            .replace("\n[machine.bad]\nid52 = \"nonsense\"\n", "")
    });
    cluster.rescan_everywhere();
    assert!(!manager.status().contains("its files have errors"));
}

/// Two clusters that share the machine web01.
fn of_two_clusters() -> (Cluster, Cluster) {
    let (cluster, other) = (Cluster::running(&["web01", "laptop"]), Cluster::new(&[]));
    let said = cluster
        .machine("web01")
        .succeed(&["machine", "init", &other.id, "other"]);
    other.edit(|text| format!("{text}\n{}", section(&said, "web01")));
    other.manager.start();
    until("the other manager's command", || {
        other.manager.run(&["web01.company", "true"]).code == 0
    });
    (cluster, other)
}

#[test]
fn a_damaged_file_denies_its_cluster_and_is_fetched_again() {
    let (cluster, other) = of_two_clusters();
    let (web01, laptop) = (cluster.machine("web01"), cluster.machine("laptop"));
    cluster.manager.stop();
    laptop.stop();
    let whole = web01.read("machine.toml");
    let edited = whole.replace("[machine.laptop]", "[machine.intruder]");
    let torn = whole[..whole.len() / 2].to_owned();
    for (damaged, heal) in [
        (torn, laptop),
        (edited, &cluster.manager),
        (String::new(), laptop),
    ] {
        web01.stop();
        web01.write("machine.toml", &damaged);
        web01.start();
        let status = web01.status();
        assert!(status.contains("cannot be used"), "{status}");
        assert!(status.contains("denies everything"), "{status}");
        // Nobody who has the configuration is running: this cluster denies everything, the other one is served.
        web01
            .run(&["web01.company", "echo", "wrong"])
            .refused("denies everything");
        let served = other.manager.run(&["web01.company", "echo", "served"]);
        assert_eq!(served.clean(), "served\n");
        // The first member that it meets sends it again.
        heal.start();
        until("the configuration to be back", || {
            heal.run(&["web01.company", "echo", "back"]).code == 0
        });
        assert_eq!(web01.read("machine.toml"), whole);
        assert!(!web01.status().contains("cannot be used"));
        heal.stop();
    }
}

#[test]
fn a_local_edit_is_put_back_and_never_obeyed() {
    let cluster = Cluster::new(&["web01", "laptop"]);
    cluster.edit(allow_none);
    let (web01, laptop) = (cluster.machine("web01"), cluster.machine("laptop"));
    web01.start();
    laptop.start();
    cluster.manager.start();
    cluster.rescan_everywhere();
    let refused = |home: &Home| {
        home.run(&["web01.company", "echo", "wrong"])
            .refused("allow_from")
    };
    refused(laptop);
    let received = web01.read("machine.toml");
    let edited = received.replace("nobody-yet", "laptop");
    assert_ne!(edited, received);
    web01.write("machine.toml", &edited);
    refused(laptop);
    let said = web01.succeed(&["rescan"]);
    assert!(said.contains("was edited here"), "{said}");
    assert_eq!(web01.read("machine.toml"), received);
    refused(laptop);
    // A command without a daemon, which reads the file itself, does not obey the edit either.
    web01.stop();
    web01.write("machine.toml", &edited.replace("\"laptop\"", "\"web01\""));
    let direct = web01.run(&["web01.company", "echo", "wrong"]);
    assert_eq!((direct.code, direct.out()), (255, ""), "{}", direct.shown());
}
