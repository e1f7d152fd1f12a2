//! What a daemon reports to a service manager: ready, reloading, stopping, and that it is alive because it answers.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};

use rustix::process::Signal;

use crate::harness::{Cluster, Home, TEST_TIMEOUT, finish, signal, until};

/// A service manager's socket.
struct Manager {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Manager {
    fn new(cluster: &Cluster) -> Manager {
        let path = cluster.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Manager { socket, path }
    }

    fn start(&self, home: &Home, watchdog_usec: &str) -> Child {
        let child = home
            .command(&["daemon", "--foreground"])
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", watchdog_usec)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        home.own(child.id());
        child
    }

    /// The lines of the next message.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message");
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The next message that is not about the watchdog.
    fn said(&self) -> Vec<String> {
        loop {
            let said = self.next();
            if said != ["WATCHDOG=1"] {
                return said;
            }
        }
    }
}

#[test]
fn a_service_manager_is_told_what_happens_and_its_socket_reaches_no_command() {
    let cluster = Cluster::new(&[]);
    let manager = Manager::new(&cluster);
    let home = &cluster.manager;
    let daemon = manager.start(home, "0");
    assert_eq!(manager.said(), ["READY=1", "STATUS=serving 1 cluster"]);

    let environment = home.succeed(&["boss.company", "env"]);
    assert!(environment.contains("MALAI_CLUSTER="), "{environment}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG"] {
        assert!(!environment.contains(name), "{environment}");
    }

    signal(daemon.id(), Signal::HUP);
    let said = manager.said();
    assert_eq!(said[0], "RELOADING=1");
    let since: u64 = said[1]
        .strip_prefix("MONOTONIC_USEC=")
        .unwrap()
        .parse()
        .unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    assert!(since as f64 / 1e6 <= uptime + 1.0, "{since} {uptime}");
    let ready = ["READY=1", "STATUS=serving 1 cluster"];
    let said = manager.said();
    let said = if said == ready[1..] {
        manager.said()
    } else {
        said
    };
    assert_eq!(said, ready);

    home.write("cluster.toml", "[nonsense");
    signal(daemon.id(), Signal::HUP);
    let broken = "STATUS=serving 1 cluster; company has problems (run `malai rescan --check`)";
    until("word of the broken file", || {
        manager.said().contains(&broken.to_owned())
    });

    signal(daemon.id(), Signal::TERM);
    until("word of the stop", || {
        manager.said() == ["STOPPING=1", "STATUS=stopping"]
    });
    assert_eq!(finish(daemon, Vec::new()).code, 0);
}

#[test]
fn the_watchdog_hears_of_a_daemon_that_answers() {
    let cluster = Cluster::new(&[]);
    let manager = Manager::new(&cluster);
    let home = &cluster.manager;
    let daemon = manager.start(home, "400000");
    assert_eq!(manager.said()[0], "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.next(), ["WATCHDOG=1"]);
    }
    signal(daemon.id(), Signal::TERM);
    assert_eq!(finish(daemon, Vec::new()).code, 0);
}

#[test]
fn a_daemon_in_the_background_tells_a_service_manager_nothing() {
    let cluster = Cluster::new(&[]);
    let manager = Manager::new(&cluster);
    let home = &cluster.manager;
    let started = home
        .command(&["daemon"])
        .env("NOTIFY_SOCKET", &manager.path)
        .output()
        .unwrap();
    assert!(started.status.success(), "{started:?}");
    home.started(&String::from_utf8(started.stdout).unwrap());
    home.stop();
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err());
}
