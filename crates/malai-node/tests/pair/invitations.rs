//! Invitations between a manager and keys that are in no configuration: who is let in, and who is not.

use malai_cluster::{
    Asked, Claim, ClusterId, GroupName, Invitation, MachineId, MachineName, NamePattern, SecretSeed,
};
use malai_node::invitations::{self, Invited};
use malai_testing::cluster::{Cluster, Plan};
use malai_testing::peer::Peer;
use malai_wire::audit::Event;
use malai_wire::frame::Tagged;
use malai_wire::peer::hello::Greeting;
use malai_wire::time::Timestamp;
use malai_wire::{Refusal, RefusalCode};

/// A cluster whose manager accepts machines, with a group.
async fn start() -> Cluster {
    let plan = Plan::new(&[]);
    plan.config(|text| format!("{text}\n[group.web]\nmembers = []\n"))
        .start()
        .await
}

fn invite(cluster: &Cluster, names: &str, uses: u32) -> Invitation {
    let invitation = Invitation {
        cluster: cluster.id(),
        secret: invitations::new_secret(),
        alias: None,
        hints: Vec::new(),
    };
    let now = invitations::now();
    let invited = Invited {
        names: NamePattern::parse(names).unwrap(),
        groups: vec![GroupName::parse("web").unwrap()],
        allow_from: vec!["*".to_owned()],
        uses,
        created: now,
        expires: Timestamp(now.0 + 3_600_000),
        key: invitation.key(),
        revoked: None,
        revoked_because: None,
        used: Vec::new(),
    };
    invitations::create(&cluster.manager().dir, &invited).unwrap();
    invitation
}

fn seed(byte: u8) -> SecretSeed {
    SecretSeed::from_bytes([byte; 32])
}

/// The claim of a machine on a connection.
fn claim(peer: &Peer, cluster: &ClusterId, own: &MachineId, invitation: &Invitation) -> Claim {
    let mut binding = [0; 32];
    let exported =
        peer.connection
            .export_keying_material(&mut binding, b"EXPORTER-malai-join", b"");
    exported.unwrap();
    let asked = Asked {
        cluster,
        machine: own,
        binding: &binding,
        name: None,
        host: "web07",
    };
    Claim {
        invitation: invitation.id(),
        name: None,
        host: asked.host.to_owned(),
        proof: invitation.prove(&asked),
    }
}

/// Greets with a claim. Returns how the manager answers: a refusal, or nothing when it lets the machine in.
async fn greet(peer: &Peer, claim: Claim) -> Option<Refusal> {
    let mut hello = Peer::hello(None);
    hello.claim = Some(Box::new(claim));
    peer.say_first(&Greeting::Hello(hello).to_frame()).await;
    // The manager's hello is the answer to a member; a stranger's connection ends.
    let answered = tokio::select! {
        hello = peer.connection.accept_uni() => hello.err(),
        closed = peer.connection.closed() => Some(closed),
    };
    match answered {
        Some(_) => Some(peer.closed_by_peer().await),
        None => None,
    }
}

async fn ask(cluster: &Cluster, key: &SecretSeed, invitation: &Invitation) -> Option<Refusal> {
    let peer = Peer::connect(key, &cluster.manager().id()).await;
    let claim = claim(&peer, &cluster.id(), &key.id(), invitation);
    greet(&peer, claim).await
}

fn file(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.manager().dir.cluster_toml()).unwrap()
}

fn has(cluster: &Cluster, key: &SecretSeed) -> bool {
    let state = &cluster.manager().service.cluster_state;
    state.is_member(&key.id())
}

#[track_caller]
fn refused(answer: Option<Refusal>, code: RefusalCode, words: &str) {
    let refusal = answer.expect("a refusal");
    assert_eq!(refusal.known_code(), Some(code), "{refusal:?}");
    assert!(refusal.message.contains(words), "{}", refusal.message);
}

#[tokio::test]
async fn an_invited_machine_is_let_in_once() {
    let cluster = start().await;
    let invitation = invite(&cluster, "web*", 1);
    let (invited, second) = (seed(70), seed(71));
    assert_eq!(ask(&cluster, &invited, &invitation).await, None);
    assert!(has(&cluster, &invited));
    let text = file(&cluster);
    assert!(
        text.contains("[machine.web07]") && text.contains("members = [\"web07\"]"),
        "{text}"
    );
    let answer = ask(&cluster, &second, &invitation).await;
    refused(answer, RefusalCode::NotInvited, "used already: by web07");
    assert!(!has(&cluster, &second));
    let records = cluster.manager().records();
    let of = |allowed: bool| {
        let mut events = records.iter().map(|record| &record.event);
        events.any(|event| {
            matches!(event, Event::Invitation(asked) if asked.allowed == allowed && asked.invitation == invitation.id().to_string())
        })
    };
    assert!(of(true) && of(false));
}

/// A captured proof is worthless: to another key, on another connection, and with other words.
#[tokio::test]
async fn a_proof_cannot_be_used_again() {
    let cluster = start().await;
    let invitation = invite(&cluster, "web*", 1);
    let (invited, thief) = (seed(72), seed(73));
    let manager = cluster.manager().id();
    let first = Peer::connect(&invited, &manager).await;
    let captured = claim(&first, &cluster.id(), &invited.id(), &invitation);
    let peer = Peer::connect(&thief, &manager).await;
    let answer = greet(&peer, captured.clone()).await;
    refused(answer, RefusalCode::NotInvited, "does not know");
    let again = Peer::connect(&invited, &manager).await;
    let answer = greet(&again, captured.clone()).await;
    refused(answer, RefusalCode::NotInvited, "does not know");
    let changed = Claim {
        host: "web08".to_owned(),
        ..captured.clone()
    };
    let answer = greet(&first, changed).await;
    refused(answer, RefusalCode::NotInvited, "does not know");
    assert!(!has(&cluster, &invited) && !has(&cluster, &thief));
    // Nothing of this has cost a use.
    assert_eq!(ask(&cluster, &invited, &invitation).await, None);
}

/// Guesses are refused alike, whether there is such an invitation or not; they do not keep an invited machine out, and are
/// recorded up to a number.
#[tokio::test]
async fn guesses_are_refused_and_the_invited_machine_is_not() {
    let cluster = start().await;
    let invitation = invite(&cluster, "web*", 1);
    let mut messages = Vec::new();
    for byte in 0..40 {
        let thief = seed(100 + byte);
        let peer = Peer::connect(&thief, &cluster.manager().id()).await;
        let guess = Invitation {
            secret: [byte; malai_cluster::SECRET_BYTES],
            ..invitation.clone()
        };
        let mut claim = claim(&peer, &cluster.id(), &thief.id(), &guess);
        if byte % 2 == 0 {
            claim.invitation = invitation.id();
        }
        let id = claim.invitation.to_string();
        let refusal = greet(&peer, claim).await.expect("a refusal");
        assert_eq!(refusal.known_code(), Some(RefusalCode::NotInvited));
        messages.push(refusal.message.replace(&id, ""));
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(ask(&cluster, &seed(74), &invitation).await, None);
}

/// Strangers fill the list of keys that wait; a machine with an invitation has a place of its own.
#[tokio::test]
async fn strangers_that_wait_do_not_keep_an_invited_machine_out() {
    let plan = Plan::new(&[]).settings("boss", "[limits]\npending_joins_per_address = 32\n");
    let plan = plan.config(|text| format!("{text}\n[group.web]\nmembers = []\n"));
    let cluster = plan.start().await;
    let invitation = invite(&cluster, "web*", 1);
    for byte in 0..34 {
        let stranger = Peer::connect(&seed(150 + byte), &cluster.manager().id()).await;
        stranger.greet(None).await;
        stranger.connection.closed().await;
    }
    let waiting = malai_node::testing::pending_joins(&cluster.manager().service);
    assert_eq!(waiting, 32);
    assert_eq!(ask(&cluster, &seed(75), &invitation).await, None);
}

/// What the administrator has not published is not published by somebody who joins.
#[tokio::test]
async fn an_unpublished_edit_is_waited_for() {
    let cluster = start().await;
    let invitation = invite(&cluster, "web*", 1);
    let path = cluster.manager().dir.cluster_toml();
    let before = file(&cluster);
    let edited = format!("{before}\n[group.half]\nmembers = []\n");
    std::fs::write(&path, &edited).unwrap();
    let answer = ask(&cluster, &seed(76), &invitation).await;
    refused(answer, RefusalCode::JoinLater, "not published");
    assert_eq!(file(&cluster), edited);
    std::fs::write(&path, format!("{before}\n[machine")).unwrap();
    let answer = ask(&cluster, &seed(76), &invitation).await;
    refused(answer, RefusalCode::JoinLater, "has errors");
    std::fs::write(&path, &before).unwrap();
    assert_eq!(ask(&cluster, &seed(76), &invitation).await, None);
}

/// A name that is taken, an expired and a revoked invitation: each its sentence.
#[tokio::test]
async fn each_refusal_says_why() {
    let cluster = start().await;
    let dir = &cluster.manager().dir;
    let several = invite(&cluster, "web*", 2);
    assert_eq!(ask(&cluster, &seed(77), &several).await, None);
    let answer = ask(&cluster, &seed(78), &several).await;
    refused(
        answer,
        RefusalCode::NotInvited,
        "already has a machine web07",
    );
    let other = invite(&cluster, "db*", 1);
    let answer = ask(&cluster, &seed(78), &other).await;
    refused(
        answer,
        RefusalCode::NotInvited,
        "names like db*, not for web07",
    );
    let id = other.id().to_string();
    invitations::revoke(dir, &id, invitations::now(), None).unwrap();
    let answer = ask(&cluster, &seed(78), &other).await;
    refused(answer, RefusalCode::NotInvited, "it was revoked");
    let only = invite(&cluster, "db", 1);
    assert_eq!(ask(&cluster, &seed(79), &only).await, None);
    let name = MachineName::parse("db").unwrap();
    assert!(file(&cluster).contains(&format!("[machine.{name}]")));
}
