//! All attacks at once: a manager, a member, strangers and packets attack one machine, and a machine attacks its
//! clients. During this, an honest member of another cluster is served and the daemons stay small; afterwards nothing
//! is left. It takes `MALAI_ATTACK_SECONDS`, 5 by default; `scripts/attack` runs it for longer.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use malai_cluster::{MachineId, SecretSeed};
use malai_node::endpoint;
use malai_wire::frame::Tagged;
use malai_wire::peer::exec::{FromClient, Signal};
use malai_wire::peer::sync::Compare;
use malai_wire::peer::{RequestKind, StreamKind, raw_head};

use crate::harness::{Cluster, Home, alone, section, until};
use crate::hostile::{LIES, Lie, contents, serve, signed};
use crate::measure::{Held, highest, reset_highest};
use malai_testing::peer::{Peer, open, stranger};

/// The most memory that each daemon may use, in bytes.
const MEMORY: usize = 100 << 20;

/// The time in which ninety-nine of a hundred honest commands end, including the start of their processes. Without
/// optimization everything takes several times as long.
const P99: Duration = Duration::from_millis(if cfg!(debug_assertions) { 300 } else { 100 });

/// Identifies the member's commands.
const MARK: &str = "4242.25";

struct Attack {
    over: AtomicBool,
    target: MachineId,
    manager: SecretSeed,
    member: SecretSeed,
    revision: u64,
    contents: AtomicUsize,
    requests: AtomicUsize,
    lies: AtomicUsize,
}

impl Attack {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    /// A manager that signs configurations that are expensive to check, each as a newer revision.
    async fn manager(&self) {
        let contents = contents(&self.manager);
        let mut revision = self.revision;
        for content in contents.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            revision += 1;
            let content = signed(&self.manager, revision, content.clone());
            let peer = Peer::connect(&self.manager, &self.target).await;
            peer.give(content.clone());
            peer.greet(None).await;
            match peer.compare(content.header.clone()).await {
                Compare::Refused(_) => self.contents.fetch_add(1, Ordering::Relaxed),
                other => panic!("{other:?}"),
            };
            peer.close().await;
            pause(100).await;
        }
    }

    /// A member that sends every allowed request, forbidden ones, and unreadable ones.
    async fn member(&self) {
        while self.goes_on() {
            let peer = Peer::connect(&self.member, &self.target).await;
            peer.greet_as_command().await;
            let mut held = Vec::new();
            let sleep = [vec![RequestKind::Exec as u8], open(&["sleep", MARK])].concat();
            for _ in 0..16 {
                held.extend(peer.ask(&sleep).await);
            }
            let half = [RequestKind::Exec as u8, 0, 4];
            let huge = [RequestKind::Fetch as u8, 0xff, 0xff, 0xff, 0xff];
            for bytes in [&half[..], &huge, &[0xee; 40], &[]] {
                held.extend(peer.ask(bytes).await);
            }
            for session in 0..16 {
                let head = raw_head(StreamKind::Stdin, 1_000_000 + session * 4);
                peer.throw(&[&head[..], &[b'x'; 16 << 10]].concat()).await;
            }
            // Messages that belong to no session, or come at the wrong time.
            for (send, _) in held.iter_mut().take(8) {
                let _ = send
                    .write_all(&FromClient::Signal(Signal::Usr1).to_frame())
                    .await;
                let _ = send.write_all(&open(&["true"])).await;
            }
            self.requests.fetch_add(held.len() + 16, Ordering::Relaxed);
            pause(50).await;
            peer.close().await;
        }
    }

    /// Unknown keys that send unreadable bytes.
    async fn strangers(&self) {
        while self.goes_on() {
            let peer = Peer::connect(&stranger(), &self.target).await;
            peer.say_first(&[0xff; 500]).await;
            let _held = peer.ask(&[RequestKind::Exec as u8, 0, 0]).await;
            pause(20).await;
            peer.close().await;
        }
    }

    /// Packets from another user of the same computer.
    fn packets(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut packet = [0; 1200];
        while self.goes_on() {
            for port in endpoint::derived_ports(&self.target) {
                for first in 0..32 {
                    // Long and short QUIC headers, and versions that do not exist.
                    packet[0] = first * 8;
                    packet[1..5].fill(first);
                    let _ = socket.send_to(&packet, ("127.0.0.1", port));
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A client of the lying machine.
    fn client(&self, home: &Home, lie: &Mutex<Lie>) {
        for what in LIES.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            *lie.lock().unwrap() = *what;
            let output = home.run(&["liar.company", "true"]);
            let right = output.code == 255 || *what == Lie::Strays;
            assert!(right, "{what:?}: {}", output.shown());
            assert!(output.stderr.len() < 10_000, "{what:?}: {}", output.shown());
            self.lies.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Whether a command of the member still runs.
fn marked() -> bool {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default())
        .any(|words| words == format!("sleep\0{MARK}\0").as_bytes())
}

#[test]
fn honest_commands_are_answered_while_everybody_attacks() {
    let _alone = alone();
    let seconds = std::env::var("MALAI_ATTACK_SECONDS").ok();
    let seconds = seconds
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(5);
    let cluster = Cluster::running(&["web01", "rogue", "liar", "laptop"]);
    for name in ["rogue", "liar"] {
        cluster.machine(name).stop();
    }
    // Another cluster, managed by web01, with one honest member.
    let web01 = cluster.machine("web01");
    web01.succeed(&["cluster", "init", "other"]);
    let file = web01.path.join("clusters/other/cluster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let id = text.split('"').find(|part| part.len() == 52).unwrap();
    let friend = Home::at(cluster.folder().join("friend"));
    let joins = section(&friend.succeed(&["machine", "init", id, "other"]), "friend");
    let me = format!("[machine.me]\nid52 = \"{id}\"\nallow_from = \"*\"\n");
    std::fs::write(&file, format!("{text}\n{me}\n{joins}")).unwrap();
    friend.start();
    web01.succeed(&["rescan", "other"]);
    let honest = ["me.other", "echo", "here"];
    until("the friend's first command", || {
        friend.run(&honest).code == 0
    });
    cluster.manager.stop();

    let seed = |home: &Home, file: &str| SecretSeed::parse_file(&home.read(file)).unwrap();
    let lie = Arc::new(Mutex::new(Lie::Refusal));
    serve(
        seed(cluster.machine("liar"), "machine.private-key"),
        None,
        lie.clone(),
        Duration::ZERO,
    );
    let laptop = cluster.machine("laptop");
    let attack = Attack {
        over: AtomicBool::new(false),
        target: cluster.id_of("web01").parse().unwrap(),
        manager: seed(&cluster.manager, "cluster.private-key"),
        member: seed(cluster.machine("rogue"), "machine.private-key"),
        revision: web01.revision(),
        contents: AtomicUsize::new(0),
        requests: AtomicUsize::new(0),
        lies: AtomicUsize::new(0),
    };
    let before = Held::by(web01);
    for home in [web01, laptop] {
        reset_highest(home.pid());
    }
    let mut took = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| malai_testing::run(attack.manager()));
        scope.spawn(|| malai_testing::run(attack.member()));
        scope.spawn(|| malai_testing::run(attack.strangers()));
        scope.spawn(|| attack.packets());
        scope.spawn(|| attack.client(laptop, &lie));
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            let output = friend.run(&honest);
            // If the attack continued, the test could not fail.
            if output.code != 0 || output.out() != "here\n" {
                attack.over.store(true, Ordering::SeqCst);
                panic!("{}", output.shown());
            }
            took.push(output.took);
        }
        attack.over.store(true, Ordering::SeqCst);
    });
    took.sort();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    let memory = [web01, laptop].map(|home| highest(home.pid()));
    println!(
        "{seconds} s: {} honest commands, p50 {:?}, p99 {:?}, slowest {:?}; the daemons at most {} and {} MiB; \
         {} contents, {} requests, {} lies",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        memory[0] >> 20,
        memory[1] >> 20,
        attack.contents.load(Ordering::Relaxed),
        attack.requests.load(Ordering::Relaxed),
        attack.lies.load(Ordering::Relaxed),
    );
    assert!(at(0.99) < P99, "{:?}", at(0.99));
    assert!(memory.iter().all(|most| *most < MEMORY), "{memory:?}");
    until("the end of the member's commands", || !marked());
    before.is_all_of(web01);
    assert_eq!(web01.revision(), attack.revision);
}
