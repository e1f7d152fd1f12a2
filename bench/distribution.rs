//! How long a new revision takes to reach many machines, and what it costs the manager's daemon.
//!
//! The manager is a real daemon; the machines are services in this process, each with its own home, key and endpoint,
//! over QUIC on loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use malai_cluster::ClusterAlias;
use malai_node::{Home, Node, Reach, Service, Settings, init_cluster, init_machine};

/// How long to wait for all machines.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(malai), Some(count)) = (args.next(), args.next()) else {
        panic!("usage: bench-distribution <the malai binary> <number of machines>");
    };
    let count: usize = count.parse().expect("a number of machines");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(run(Path::new(&malai), count, folder.path()));
    runtime.shutdown_background();
}

/// The manager's daemon, stopped when dropped.
struct Manager {
    malai: PathBuf,
    home: Home,
}

impl Manager {
    fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.malai);
        command
            .args(words)
            .env("MALAI_HOME", self.home.root())
            .env("MALAI_NETWORK", "loopback");
        let output = command.output().expect("malai runs");
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A memory figure of the daemon, in MB.
    fn memory(&self, name: &str) -> f64 {
        let pid = std::fs::read_to_string(self.home.lock_file()).expect("malai.lock");
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()));
        let status = status.expect("the daemon's status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a figure");
        let kib: f64 = line
            .trim_matches([':', ' ', '\t', 'k', 'B'])
            .parse()
            .expect("a number");
        kib / 1024.0
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let mut stop = Command::new(&self.malai);
        let _ = stop
            .arg("stop")
            .env("MALAI_HOME", self.home.root())
            .output();
    }
}

async fn run(malai: &Path, count: usize, folder: &Path) {
    let alias = ClusterAlias::parse("bench").expect("an alias");
    let manager = Manager {
        malai: malai.to_owned(),
        home: Home::at(folder.join("manager")),
    };
    let cluster = init_cluster(&manager.home, &alias).expect("a cluster");
    // The machines share one address, and need more connections than strangers may have.
    let limits = "[limits]\nunauthenticated_connections = 4096\nunauthenticated_connections_per_address = 4096\nconnections = 4096\n";
    std::fs::write(manager.home.root().join("malai.toml"), limits).expect("malai.toml");
    let mut text = std::fs::read_to_string(cluster.dir.cluster_toml()).expect("cluster.toml");
    let mut machines = Vec::new();
    for number in 0..count {
        let home = Home::at(folder.join(format!("m{number}")));
        let made = init_machine(&home, &alias, &cluster.id, &[]).expect("a machine");
        text += &format!(
            "\n[machine.m{number}]\nid52 = \"{}\"\nallow_from = \"*\"\n",
            made.id
        );
        let settings = Settings::default();
        let node = Node::daemon(Reach::Loopback, &home, &settings);
        machines.push(
            Service::start(made.dir, Arc::new(node))
                .await
                .expect("a service"),
        );
    }
    let write =
        |text: &str| std::fs::write(cluster.dir.cluster_toml(), text).expect("cluster.toml");
    write(&text);
    let started = Instant::now();
    for machine in &machines {
        machine.serve();
    }
    let manager = Arc::new(manager);
    // On its own thread, so that the machines keep running while `everywhere` is watched.
    let daemon = |words: &'static [&'static str]| {
        let manager = manager.clone();
        tokio::task::spawn_blocking(move || manager.run(words))
    };
    daemon(&["daemon"]).await.expect("a daemon");
    println!("{count} machines, {} KB of cluster.toml", text.len() / 1000);
    println!(
        "first revision everywhere after {:.2} s (daemon started with all machines waiting)",
        reached(&machines, 1, started).await
    );
    println!(
        "  manager's memory: {:.0} MB, at most {:.0} MB",
        manager.memory("VmRSS"),
        manager.memory("VmHWM")
    );
    for round in 1..=3 {
        let before = revision(&machines[0]);
        write(&format!("{text}\n[group.round{round}]\nmembers = \"m0\"\n"));
        let begun = Instant::now();
        let rescan = async {
            let _ = daemon(&["rescan", "bench"]).await;
            begun.elapsed().as_secs_f64()
        };
        let (told, everywhere) = tokio::join!(rescan, reached(&machines, before + 1, begun));
        println!(
            "revision {round}: everywhere after {everywhere:.2} s, rescan returned after {told:.2} s"
        );
    }
    println!(
        "  manager's memory: {:.0} MB, at most {:.0} MB",
        manager.memory("VmRSS"),
        manager.memory("VmHWM")
    );
}

fn revision(machine: &Arc<Service>) -> u64 {
    machine
        .cluster_state
        .header()
        .map_or(0, |header| header.revision)
}

/// Waits until all machines have at least this revision; returns the seconds from `begun` until the last one had it.
async fn reached(machines: &[Arc<Service>], wanted: u64, begun: Instant) -> f64 {
    loop {
        let missing = machines
            .iter()
            .filter(|machine| revision(machine) < wanted)
            .count();
        let took = begun.elapsed();
        if missing == 0 {
            return took.as_secs_f64();
        }
        assert!(
            took < TEST_TIMEOUT,
            "{missing} machines do not have it after {took:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
