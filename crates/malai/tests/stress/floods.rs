//! Floods against a real daemon: while each one runs, commands are answered within a second, and the daemon's memory
//! stays below 100 MB.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use iroh::{Endpoint, EndpointAddr};
use malai_cluster::{MachineId, SecretSeed};
use malai_node::{Ports, Reach, endpoint, endpoint_id};
use malai_wire::frame::Tagged;
use malai_wire::peer::sync::Fetch;
use malai_wire::peer::{RequestKind, StreamKind, raw_head};
use malai_wire::version::ALPN;
use tokio::task::JoinSet;

use crate::harness::{Cluster, Home, alone};
use malai_testing::peer::{Peer, open, stranger};

/// How long each flood runs.
const LONG: Duration = Duration::from_millis(2500);

/// The highest peak memory allowed for a daemon, in KiB.
const MEMORY: u64 = 100 * 1024;

/// The target of a flood, and the identities that it uses.
#[derive(Clone)]
struct Flood {
    target: MachineId,
    member: SecretSeed,
    over: Arc<AtomicBool>,
}

impl Flood {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    async fn wait(&self) {
        while self.goes_on() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Connects and greets as a member.
    async fn member(&self) -> Peer {
        let peer = Peer::connect(&self.member, &self.target).await;
        peer.greet_as_command().await;
        peer
    }

    /// Sends a request and keeps it open, whether answered or not; gives up if it cannot be sent in time.
    async fn ask(&self, peer: &Peer, bytes: &[u8]) -> bool {
        let ask = peer.ask(bytes);
        match tokio::time::timeout(Duration::from_millis(200), ask).await {
            Ok(Some(streams)) => {
                tokio::spawn(async move {
                    let _streams = streams;
                    tokio::time::sleep(2 * LONG).await;
                });
                true
            }
            _ => false,
        }
    }

    async fn run(self, name: &str) {
        match name {
            "fresh identities" => {
                let mut all = JoinSet::new();
                for _ in 0..16 {
                    let flood = self.clone();
                    all.spawn(async move {
                        while flood.goes_on() {
                            let silent = Peer::connect(&stranger(), &flood.target).await;
                            let _ = tokio::time::timeout(
                                Duration::from_millis(300),
                                silent.connection.closed(),
                            )
                            .await;
                        }
                    });
                }
                all.join_all().await;
            }
            "connections that never greet" => {
                let mut held = Vec::new();
                for _ in 0..8 {
                    held.push(bound(&stranger()).await);
                }
                let mut all = JoinSet::new();
                for endpoint in &held {
                    let (flood, endpoint) = (self.clone(), endpoint.clone());
                    all.spawn(async move {
                        let mut connections = Vec::new();
                        while flood.goes_on() && connections.len() < 100 {
                            let dial = endpoint.connect(address(&flood.target), ALPN);
                            let dial = tokio::time::timeout(Duration::from_secs(1), dial);
                            if let Ok(Ok(connection)) = dial.await {
                                connections.push(connection);
                            }
                        }
                        flood.wait().await;
                    });
                }
                all.join_all().await;
            }
            "handshakes that stall" => self.stalled().await,
            "one byte at a time" => {
                let mut all = JoinSet::new();
                for n in 0..40 {
                    let flood = self.clone();
                    all.spawn(async move {
                        let seed = if n % 4 == 0 {
                            flood.member.clone()
                        } else {
                            stranger()
                        };
                        let peer = Peer::connect(&seed, &flood.target).await;
                        if n % 4 == 0 {
                            peer.greet(None).await;
                            if let Ok((mut send, _recv)) = peer.connection.open_bi().await {
                                for byte in
                                    [&[RequestKind::Exec as u8][..], &open(&["true"])].concat()
                                {
                                    let _ = send.write_all(&[byte]).await;
                                    tokio::time::sleep(LONG / 12).await;
                                }
                            }
                        } else if let Ok(mut send) = peer.connection.open_uni().await {
                            for byte in [StreamKind::Hello as u8, 0, 0, 0, 23, 1, 1, 1, 0, 1] {
                                let _ = send.write_all(&[byte]).await;
                                tokio::time::sleep(LONG / 12).await;
                            }
                        }
                    });
                }
                all.join_all().await;
            }
            "frames of 4 GiB" => {
                while self.goes_on() {
                    let peer = self.member().await;
                    for kind in [
                        RequestKind::Exec,
                        RequestKind::Fetch,
                        RequestKind::Compare,
                        RequestKind::Ping,
                    ] {
                        for _ in 0..20 {
                            self.ask(&peer, &[kind as u8, 255, 255, 255, 255, 1, 7])
                                .await;
                        }
                    }
                    Peer::connect(&stranger(), &self.target)
                        .await
                        .say_first(&[255, 255, 255, 255, 1, 0])
                        .await;
                    peer.close().await;
                }
            }
            "thousands of streams" => {
                let mut peers = Vec::new();
                for _ in 0..8 {
                    peers.push(self.member().await);
                }
                let mut opened = 0;
                while self.goes_on() && opened < 4000 {
                    for peer in &peers {
                        if self.ask(peer, &[RequestKind::Exec as u8, 0, 0]).await {
                            opened += 1;
                        }
                    }
                }
                eprintln!("{opened} streams");
                self.wait().await;
            }
            "streams opened and reset" => {
                let peer = self.member().await;
                let mut many = 0;
                while self.goes_on() {
                    let Ok((mut send, mut recv)) = peer.connection.open_bi().await else {
                        break;
                    };
                    let _ = send.write_all(&[RequestKind::Exec as u8, 0, 0]).await;
                    let _ = (send.reset(7u32.into()), recv.stop(7u32.into()));
                    many += 1;
                }
                eprintln!("{many} streams");
            }
            "unknown kinds of streams" => {
                while self.goes_on() {
                    let peer = self.member().await;
                    for kind in 100..200 {
                        self.ask(&peer, &[kind, 1, 2, 3]).await;
                    }
                    peer.throw(&[99; 64]).await;
                    peer.close().await;
                }
            }
            "streams without sessions, after sessions that have left" => {
                let open = [&[RequestKind::Exec as u8][..], &open(&["sleep", "60"])].concat();
                let mut all = JoinSet::new();
                for _ in 0..8 {
                    let peer = self.member().await;
                    let mut sessions = Vec::new();
                    for _ in 0..16 {
                        let Some((send, mut recv)) = peer.ask(&open).await else {
                            break;
                        };
                        let _ = recv.read_exact(&mut [0; 5]).await;
                        sessions.push((send, recv));
                    }
                    drop(sessions);
                    let flood = self.clone();
                    all.spawn(async move {
                        let mut streams = JoinSet::new();
                        for session in 0..64u64 {
                            let connection = peer.connection.clone();
                            streams.spawn(async move {
                                let Ok(mut send) = connection.open_uni().await else {
                                    return;
                                };
                                let head = raw_head(StreamKind::Stdin, 400_000 + session * 4);
                                let _ = send.write_all(&head).await;
                                while send.write_all(&[7; 64 * 1024]).await.is_ok() {}
                            });
                        }
                        flood.wait().await;
                    });
                }
                all.join_all().await;
            }
            "raw streams for sessions that never come" => {
                let mut peers = Vec::new();
                for _ in 0..20 {
                    peers.push(self.member().await);
                }
                let chunk = vec![7; 64 * 1024];
                for (n, peer) in peers.iter().enumerate() {
                    for session in 0..100u64 {
                        if !self.goes_on() {
                            break;
                        }
                        let head = raw_head(StreamKind::Stdin, 400_000 + session * 4 + n as u64);
                        let bytes = [&head[..], &chunk].concat();
                        let throw = peer.throw(&bytes);
                        if tokio::time::timeout(Duration::from_millis(30), throw)
                            .await
                            .is_err()
                        {
                            break;
                        }
                    }
                }
                self.wait().await;
            }
            "long argument lists" => {
                let peer = self.member().await;
                let argument = "x".repeat(5 * 1024 * 1024);
                let request = [vec![RequestKind::Exec as u8], open(&["true", &argument])].concat();
                let mut all = JoinSet::new();
                for _ in 0..60 {
                    let (connection, request) = (peer.connection.clone(), request.clone());
                    all.spawn(async move {
                        let (mut send, _recv) = connection.open_bi().await.ok()?;
                        // All but the end of the request.
                        send.write_all(&request[..request.len() - 9]).await.ok()?;
                        connection.closed().await;
                        Some(())
                    });
                }
                self.wait().await;
            }
            "configurations that nobody reads" => {
                let peer = self.member().await;
                let request = [
                    vec![RequestKind::Fetch as u8],
                    Fetch::Revision(1).to_frame(),
                ]
                .concat();
                let mut asked = 0;
                while self.goes_on() && asked < 2000 {
                    asked += usize::from(self.ask(&peer, &request).await);
                }
                self.wait().await;
            }
            "more sessions than allowed" => {
                let peer = self.member().await;
                let request = [vec![RequestKind::Exec as u8], open(&["sleep", "20"])].concat();
                for _ in 0..200 {
                    self.ask(&peer, &request).await;
                }
                self.wait().await;
                peer.close().await;
            }
            other => panic!("no flood {other}"),
        }
    }

    /// Forwards the first packets of handshakes to the daemon, and none of its answers.
    async fn stalled(&self) {
        let sink = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let at = sink.local_addr().expect("an address");
        sink.set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        let flood = self.clone();
        let forwarding = thread::spawn(move || {
            let mut sources: HashMap<Vec<u8>, UdpSocket> = HashMap::new();
            let mut packet = [0; 2048];
            while flood.goes_on() {
                let Ok(length) = sink.recv(&mut packet) else {
                    continue;
                };
                // A long header contains the id of its connection.
                let id = packet[6..6 + usize::from(packet[5]).min(20)].to_vec();
                let from = sources
                    .entry(id)
                    .or_insert_with(|| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
                for port in endpoint::derived_ports(&flood.target) {
                    let _ = from.send_to(&packet[..length], ("127.0.0.1", port));
                }
            }
            sources.len()
        });
        let mut all = JoinSet::new();
        let endpoint = bound(&stranger()).await;
        for _ in 0..400 {
            let (endpoint, target) = (endpoint.clone(), self.target);
            let nowhere = EndpointAddr::new(endpoint_id(&target)).with_ip_addr(at);
            all.spawn(async move { drop(endpoint.connect(nowhere, ALPN).await) });
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.wait().await;
        all.abort_all();
        let made = forwarding.join().expect("the sink");
        assert!(made > 50, "only {made} handshakes were begun");
        eprintln!("{made} handshakes");
    }
}

async fn bound(seed: &SecretSeed) -> Endpoint {
    let bound = endpoint::bind(seed, Reach::Loopback, Ports::Any).await;
    bound.expect("an endpoint")
}

fn address(to: &MachineId) -> EndpointAddr {
    let ports = endpoint::derived_ports(to).into_iter();
    ports.fold(EndpointAddr::new(endpoint_id(to)), |address, port| {
        address.with_ip_addr(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

/// The peak memory of a process, in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.expect("a figure")
}

/// Runs commands until the flood is over; returns how long each took.
fn meanwhile(home: &Home, args: &[&str]) -> Vec<Duration> {
    let until = Instant::now() + LONG;
    let mut times = Vec::new();
    thread::sleep(Duration::from_millis(300));
    while Instant::now() < until {
        let output = home.run(args);
        assert_eq!(output.code, 0, "{}", output.shown());
        times.push(output.took);
    }
    times.sort();
    times
}

/// Half of all commands within a second, and all within three, so that a busy computer does not fail the test.
#[track_caller]
fn assert_quick(name: &str, times: &[Duration]) {
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    assert!(median < Duration::from_secs(1), "{name}: {times:?}");
    assert!(worst < Duration::from_secs(3), "{name}: {times:?}");
}

fn during(
    flood: Flood,
    name: &'static str,
    legitimate: impl FnOnce() -> Vec<Duration>,
) -> Vec<Duration> {
    let (over, running) = (
        flood.over.clone(),
        thread::spawn(move || malai_testing::run(flood.run(name))),
    );
    let times = legitimate();
    over.store(true, Ordering::Relaxed);
    running
        .join()
        .unwrap_or_else(|_| panic!("the flood {name}"));
    times
}

#[test]
fn a_daemon_under_a_flood_answers_and_stays_small() {
    let _alone = alone();
    let cluster = Cluster::running(&["web01", "laptop", "rogue"]);
    cluster.machine("laptop").stop();
    cluster.machine("rogue").stop();
    let web01 = cluster.machine("web01");
    let seed = cluster.machine("rogue").read("machine.private-key");
    for name in [
        "fresh identities",
        "connections that never greet",
        "handshakes that stall",
        "one byte at a time",
        "frames of 4 GiB",
        "thousands of streams",
        "streams opened and reset",
        "unknown kinds of streams",
        "raw streams for sessions that never come",
        "streams without sessions, after sessions that have left",
        "long argument lists",
        "configurations that nobody reads",
        "more sessions than allowed",
    ] {
        let flood = Flood {
            target: cluster.id_of("web01").parse().unwrap(),
            member: SecretSeed::parse_file(&seed).unwrap(),
            over: Arc::default(),
        };
        let times = during(flood, name, || {
            let mut times = meanwhile(&cluster.manager, &["web01.company", "true"]);
            // A new connection works too, even from the flooding address.
            let direct = cluster.machine("laptop").run(&["web01.company", "true"]);
            assert_eq!(direct.code, 0, "{name}: {}", direct.shown());
            eprintln!("{name}: a new connection {:?}", direct.took);
            assert!(
                direct.took < Duration::from_secs(3),
                "{name}: {:?}",
                direct.took
            );
            times.sort();
            times
        });
        let memory = memory(web01.pid());
        eprintln!(
            "{name}: {} commands, median {:?}, worst {:?}; memory at most {memory} KiB",
            times.len(),
            times[times.len() / 2],
            times[times.len() - 1]
        );
        assert_quick(name, &times);
        assert!(memory < MEMORY, "{name}: {memory} KiB");
    }
}

#[test]
fn a_control_socket_full_of_silence_answers() {
    let _alone = alone();
    let cluster = Cluster::running(&["web01"]);
    let home = &cluster.manager;
    let (stop, stopped) = mpsc::channel::<()>();
    let path = home.path.join("malai.socket");
    let flood = thread::spawn(move || {
        let mut held = Vec::new();
        while stopped.try_recv().is_err() {
            if held.len() < 2000
                && let Ok(stream) = UnixStream::connect(&path)
            {
                held.push(stream);
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
        held.len()
    });
    let times = meanwhile(home, &["web01.company", "true"]);
    let healthy = home.status();
    stop.send(()).unwrap();
    let held = flood.join().unwrap();
    let memory = memory(home.pid());
    eprintln!(
        "{held} silent, {} commands, worst {:?}; {memory} KiB",
        times.len(),
        times[times.len() - 1]
    );
    assert!(held > 300, "{held}");
    assert!(healthy.contains("RUNNING"), "{healthy}");
    assert_quick("silence", &times);
    assert!(memory < MEMORY, "{memory} KiB");
}
