//! The reaper of a killed daemon ends its commands; a killed reaper is replaced; neither stays behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Cluster, Route, finish, lives, signal, until, within};
use crate::signals::{MEEK, STUBBORN, line, started};

/// Longer than the grace period, for a busy computer.
const ENDED: Duration = Duration::from_secs(20);

/// The reapers of a process.
fn reapers(parent: u32) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (name, rest) = stat.rsplit_once(") ").unwrap_or_default();
        name.ends_with("(malai-reaper") && rest.split(' ').nth(1) == Some(&parent.to_string())
    };
    let all = fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(is_one)
        .collect()
}

/// Waits for the reaper of a process, and returns it.
fn reaper(parent: u32) -> u32 {
    until("a reaper", || reapers(parent).len() == 1);
    reapers(parent)[0]
}

/// When malai is killed, its commands' process groups get HUP, then KILL after the grace period.
fn killed(route: &Route<'_>, folder: &Path, kill: impl Fn(u32), again: impl Fn()) {
    let marker = folder.join("marker");
    let runs: Vec<_> = [MEEK, STUBBORN]
        .iter()
        .map(|script| started(route, script, &marker))
        .collect();
    for (child, _) in &runs {
        kill(child.id());
    }
    for (_, ids) in &runs {
        within(ENDED, "the end of the group", || {
            !ids.iter().any(|id| lives(*id))
        });
    }
    assert_eq!(line(&marker), "HUP", "{}", route.name);
    again();
    for (child, _) in runs {
        finish(child, Vec::new());
    }
}

#[test]
fn a_killed_daemon_leaves_nothing_running() {
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    let [daemon, _, here, _] = cluster.routes();
    for route in [daemon, here] {
        let reaper = reaper(web01.pid());
        let again = || {
            web01.start();
        };
        killed(&route, cluster.folder(), |_| web01.kill(), again);
        until("the reaper's end", || !lives(reaper));
        let log = web01.log();
        assert!(log.contains("the daemon exited without ending"), "{log}");
        assert_eq!(route.run(&["echo", "on"]).clean(), "on\n");
    }
}

#[test]
fn a_killed_command_line_without_a_daemon_leaves_nothing_running() {
    let cluster = Cluster::with_routes();
    let here = cluster.routes()[3];
    let kill = |client| signal(client, Signal::KILL);
    killed(&here, cluster.folder(), kill, || ());
}

/// A process that left its session with `setsid`, and one that an ended command left in the background.
#[test]
fn what_is_nobodys_to_end_is_left_alone() {
    let cluster = Cluster::with_routes();
    let (web01, marker) = (cluster.machine("web01"), cluster.folder().join("marker"));
    let route = cluster.routes()[0];
    let output = route.run(&["sh", "-c", "sleep 326 & echo $!"]);
    let background: u32 = output.clean().trim().parse().unwrap();
    let script = "setsid sh -c 'echo $$ >\"$0\"; exec sleep 326' \"$1\" & \
        while ! [ -s \"$1\" ]; do sleep 0.1; done; echo $$; exec sleep 326";
    let (child, ids) = started(&route, script, &marker);
    let gone: u32 = line(&marker).parse().unwrap();
    web01.kill();
    within(ENDED, "the end of the group", || !lives(ids[0]));
    web01.start();
    assert_eq!(finish(child, Vec::new()).code, 255);
    for id in [background, gone] {
        assert!(lives(id));
        signal(id, Signal::KILL);
    }
}

#[test]
fn a_killed_reaper_is_replaced_and_told_everything() {
    let cluster = Cluster::with_routes();
    let (web01, marker) = (cluster.machine("web01"), cluster.folder().join("marker"));
    let route = cluster.routes()[0];
    let (before, first) = started(&route, MEEK, &marker);
    let old = reaper(web01.pid());
    signal(old, Signal::KILL);
    until("another reaper", || {
        reapers(web01.pid()).iter().any(|id| *id != old)
    });
    until("a word of it", || web01.log().contains("the reaper, which"));
    let (after, second) = started(&route, MEEK, &marker);
    web01.kill();
    for (child, ids) in [(before, first), (after, second)] {
        within(ENDED, "the end of the group", || {
            !ids.iter().any(|id| lives(*id))
        });
        signal(child.id(), Signal::KILL);
        finish(child, Vec::new());
    }
}

/// A reaper has no descriptors but its pipe and the log, no terminal, and little memory; it ends with the daemon.
#[test]
fn a_reaper_holds_nothing_and_does_not_stay() {
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    assert_eq!(web01.run(&["web01.company", "true"]).clean(), "");
    let id = reaper(web01.pid());
    // A signal sent to daemon and reaper at once must not end the reaper before the daemon.
    signal(id, Signal::TERM);
    let mut open: Vec<String> = fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    open.sort_unstable();
    // The last is the reaper's own copy of the first.
    assert_eq!(open, ["0", "1", "2", "3"]);
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let words = line.unwrap().split_whitespace();
        words.map(str::to_owned).next().unwrap()
    };
    assert_eq!(field("Threads:"), "1");
    assert_eq!(field("NSsid:"), id.to_string());
    // Its own memory, without the program's text. In a debug build, 1.3 MB of it are the loader's relocations.
    let own: u64 = field("RssAnon:").parse().unwrap();
    assert!(own < 4096, "{own} kB");
    web01.stop();
    until("the reaper's end", || !lives(id));
    assert!(!web01.log().contains("without ending"), "{}", web01.log());
}
