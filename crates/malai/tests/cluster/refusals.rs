//! A member of another cluster of the same daemon. Other refusals are tested in `malai-node/tests/pair/refusals.rs`.

use malai_cluster::{MachineId, SecretSeed};
use malai_testing::peer::Peer;
use malai_wire::RefusalCode;

use crate::harness::{Cluster, Home, until};

fn seed(home: &Home, file: &str) -> SecretSeed {
    SecretSeed::parse_file(&home.read(file)).unwrap()
}

fn id(cluster: &Cluster, name: &str) -> MachineId {
    cluster.id_of(name).parse().unwrap()
}

/// An identity in one cluster proves nothing in another, even if one daemon serves both.
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
    malai_testing::run(async {
        let peer = Peer::connect(&manager, &id(&cluster, "web01")).await;
        peer.greet(None).await;
        let answer = peer.exec(&["touch", marker.to_str().unwrap()]).await;
        assert!(answer.is_err(), "{answer:?}");
        let refusal = peer.closed_by_peer().await;
        assert_eq!(refusal.known_code(), Some(RefusalCode::NotAMember));
    });
    assert!(!marker.exists());
}
