//! A relay on loopback, with members, a stranger, and a certificate that is not the pinned one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::{Endpoint, Watcher as _};
use malai_cluster::{ClusterAlias, Network, Pin, RelayAddress, SecretSeed, Snapshot, check};
use malai_wire::status::RelayFacts;
use n0_future::StreamExt;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{Relay, RelayError, RelayOptions};
use crate::home::init::init_cluster;
use crate::home::{ClusterDir, Home, keystore};
use crate::net::endpoint::{self, Ports};
use crate::net::relays::{Plan, Relays};
use crate::settings::Reach;

/// How long a test waits for what has to happen at once.
const TIMEOUT: Duration = Duration::from_secs(20);

fn options() -> RelayOptions {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    RelayOptions {
        address: "https://127.0.0.1:7843".parse().unwrap(),
        listen: Some(any),
        quic: Some(any),
        certificate: None,
        client_rate: None,
        metrics: None,
    }
}

/// A manager's home.
struct Managed {
    _folder: TempDir,
    home: Home,
    dir: ClusterDir,
    seed: SecretSeed,
}

impl Managed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let made = init_cluster(&home, &ClusterAlias::parse("company").unwrap()).unwrap();
        let seed = keystore::load(&made.dir.cluster_key()).unwrap();
        Self {
            _folder: folder,
            home,
            dir: made.dir,
            seed,
        }
    }

    /// Puts a revision with these machines in force.
    fn publish(&self, revision: u64, machines: &[&SecretSeed]) {
        let mut text = format!("[cluster_manager]\nid52 = \"{}\"\n", self.seed.id());
        for (number, machine) in machines.iter().enumerate() {
            text += &format!("[machine.m{number}]\nid52 = \"{}\"\n", machine.id());
        }
        let cluster = check("cluster.toml", &text).cluster.unwrap();
        let file = Snapshot::seal(&self.seed, revision, &cluster).to_file();
        crate::os::fs::write_atomic(&self.dir.published(), file.as_bytes(), 0o600).unwrap();
    }
}

fn plan(relay: RelayAddress) -> Plan {
    Plan::of(Reach::Loopback, &Network::new(vec![relay], false))
}

/// An endpoint that uses a relay and nothing else.
struct Client {
    endpoint: Endpoint,
    relays: Arc<Relays>,
}

impl Client {
    async fn new(seed: &SecretSeed, relay: RelayAddress) -> Self {
        Self::with(seed, plan(relay)).await
    }

    async fn with(seed: &SecretSeed, plan: Plan) -> Self {
        let relays = Relays::new(plan);
        let endpoint = endpoint::bind_with(seed, Reach::Loopback, Ports::Any, &relays).await;
        Self {
            endpoint: endpoint.unwrap(),
            relays,
        }
    }

    /// Waits until the state of the relay is as wanted.
    async fn until(&self, wanted: impl Fn(&RelayFacts) -> bool) -> RelayFacts {
        let mut news = self.endpoint.home_relay_status().stream();
        let seen = async {
            loop {
                let facts = self.relays.facts(&self.endpoint).unwrap();
                if wanted(&facts) {
                    return facts;
                }
                news.next().await;
            }
        };
        let seen = tokio::time::timeout(TIMEOUT, seen).await;
        seen.unwrap_or_else(|_| {
            let facts = self.relays.facts(&self.endpoint);
            panic!("the relay's state stays {facts:?}")
        })
    }
}

fn is_refused(facts: &RelayFacts) -> bool {
    let problem = facts.problem.as_deref().unwrap_or_default();
    !facts.connected && problem.contains("this key is no member")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_admitted_until_a_revision_removes_them() {
    let managed = Managed::new();
    let [web, db, desk, stranger] = [7, 8, 9, 10].map(|byte| SecretSeed::from_bytes([byte; 32]));
    managed.publish(1, &[&web, &db, &desk]);
    let relay = Relay::start(&managed.home, &options()).await.unwrap();
    let admitted = relay.admitted();
    assert_eq!(admitted[0].to_string(), "company (revision 1, 4 members)");
    let port = relay.listens_at().unwrap().port();
    let at = |pin: &Pin| -> RelayAddress {
        let quic = relay.address().quic_port();
        let text = format!("https://127.0.0.1:{port}?quic={quic}#{pin}");
        text.parse().unwrap()
    };
    let address = at(relay.address().pin().unwrap());
    let falsely_pinned = at(&Pin::from_bytes([1; 32]));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(relay.serve(async {
        let _ = stopped.await;
    }));

    let member = Client::new(&web, address.clone()).await;
    let other = Client::new(&db, address.clone()).await;
    let manager = Client::new(&managed.seed, address.clone()).await;
    for client in [&member, &other, &manager] {
        let facts = client.until(|facts| facts.connected).await;
        assert!(facts.own, "{facts:?}");
    }
    // One that learns of the relay while it is open.
    let later = Client::with(&desk, Plan::default()).await;
    assert_eq!(later.relays.facts(&later.endpoint), None);
    later
        .relays
        .apply(&later.endpoint, plan(address.clone()))
        .await;
    later.until(|facts| facts.connected).await;
    let outside = Client::new(&stranger, address).await;
    outside.until(is_refused).await;
    // The certificate is this relay's, but not the pinned one.
    let deceived = Client::new(&db, falsely_pinned).await;

    managed.publish(2, &[&db, &desk]);
    let begun = Instant::now();
    member.until(is_refused).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    other.until(|facts| facts.connected).await;
    let facts = deceived.relays.facts(&deceived.endpoint).unwrap();
    let problem = facts.problem.as_deref();
    assert_eq!(problem, Some("its certificate is not the pinned one"));
    later.relays.apply(&later.endpoint, Plan::default()).await;
    assert_eq!(later.relays.facts(&later.endpoint), None);

    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn its_pin_stays_and_metrics_stay_here() {
    let managed = Managed::new();
    let options = options();
    let first = options.public_address(&managed.home).unwrap();
    assert_eq!(options.public_address(&managed.home).unwrap(), first);
    let relay = Relay::start(&managed.home, &options).await.unwrap();
    assert_eq!(relay.address().pin(), first.pin());
    let open = RelayOptions {
        metrics: Some(([0, 0, 0, 0], 0).into()),
        ..options
    };
    assert!(matches!(
        Relay::start(&managed.home, &open).await,
        Err(RelayError::Metrics(_))
    ));
}
