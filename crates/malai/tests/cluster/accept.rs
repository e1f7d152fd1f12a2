//! What a computer's owner accepts: refusals that name it, at start, after a rescan, without a daemon,
//! and for what runs already.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::harness::{ALIAS, Cluster, Home, finish, lives, until};

fn settings(home: &Home, text: &str) {
    std::fs::write(home.path.join("malai.toml"), text).unwrap();
}

/// The user whom tests, and so daemons, run as.
fn own_user() -> String {
    let said = std::process::Command::new("id").arg("-un").output();
    let name = String::from_utf8(said.expect("id runs").stdout).unwrap();
    name.trim().to_owned()
}

/// A command that runs until it is ended, with the processes of its group.
struct Running {
    child: Child,
    processes: Vec<u32>,
}

impl Running {
    fn on(home: &Home, target: &str) -> Running {
        let script = "sleep 3571 & echo $$ $!; wait";
        let mut child = home.spawn(&[target, "sh", "-c", script]);
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let processes = line.split_whitespace().map(|pid| pid.parse().unwrap());
        let processes: Vec<u32> = processes.collect();
        assert_eq!(processes.len(), 2, "{line:?}");
        assert!(processes.iter().all(|pid| lives(*pid)));
        Running { child, processes }
    }

    /// Asserts that it ends within a second of now, with this reason and with its process group.
    #[track_caller]
    fn ended_now(self, reason: &str) {
        let since = Instant::now();
        let output = finish(self.child, Vec::new());
        let took = since.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        output.refused("ended, since the configuration has changed");
        output.refused(reason);
        until("the process group's end", || {
            !self.processes.iter().any(|pid| lives(*pid))
        });
    }

    /// Asserts that it goes on, and ends it.
    #[track_caller]
    fn goes_on(mut self) {
        std::thread::sleep(Duration::from_millis(300));
        assert!(self.child.try_wait().unwrap().is_none());
        assert!(self.processes.iter().all(|pid| lives(*pid)));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        until("the process group's end", || {
            !self.processes.iter().any(|pid| lives(*pid))
        });
    }
}

const FROM: &str = "malai.toml accept.company.from on that computer does not accept you";

#[test]
fn from_whom_at_start_and_after_a_rescan() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let (web01, laptop) = (cluster.machine("web01"), cluster.machine("laptop"));
    web01.stop();
    settings(web01, "[accept.company]\nfrom = \"boss\"\n");
    web01.start();
    let run = |home: &Home| home.run(&["web01.company", "echo", "on"]);
    run(laptop).refused(FROM);
    assert_eq!(run(&cluster.manager).clean(), "on\n");
    // What is refused to it here it is not refused elsewhere, and this computer still dials.
    let other = laptop.run(&["boss.company", "echo", "on"]);
    assert_eq!(other.clean(), "on\n");
    assert_eq!(web01.run(&["laptop.company", "echo", "on"]).clean(), "on\n");

    settings(web01, "[accept.company]\nfrom = [\"laptop\", \"web01\"]\n");
    let said = web01.succeed(&["rescan", ALIAS]);
    assert!(
        said.contains("what this computer accepts in `company` has changed"),
        "{said}"
    );
    run(&cluster.manager).refused(FROM);
    assert_eq!(run(laptop).clean(), "on\n");
    assert_eq!(run(web01).clean(), "on\n");

    // It dials, and nothing else.
    settings(web01, "[accept.company]\nfrom = []\n");
    web01.succeed(&["rescan"]);
    for home in [laptop, &cluster.manager, web01] {
        run(home).refused(FROM);
    }
    assert_eq!(web01.run(&["laptop.company", "echo", "on"]).clean(), "on\n");
    // Configurations reach it all the same.
    cluster.edit(|text| text + "\n# a new group\n[group.everybody]\nmembers = \"web01\"\n");
    cluster.rescan_everywhere();

    std::fs::remove_file(web01.path.join("malai.toml")).unwrap();
    web01.succeed(&["rescan"]);
    assert_eq!(run(laptop).clean(), "on\n");
    let log = web01.log();
    assert!(log.contains("accept.company.from"), "{log}");
}

#[test]
fn as_which_users_the_daemons_own_included() {
    let cluster = Cluster::with_routes();
    let homes = ["web01", "laptop"].map(|name| cluster.machine(name));
    let own = own_user();
    for (users, accepted) in [("somebody-else", false), (own.as_str(), true), ("", false)] {
        for home in homes {
            settings(home, &format!("[accept.company]\nusers = \"{users}\"\n"));
        }
        homes[0].succeed(&["rescan", ALIAS]);
        for route in cluster.routes() {
            let output = route.run(&["echo", "on"]);
            match accepted {
                true => assert_eq!(output.clean(), "on\n"),
                false => output.refused(&format!(
                    "malai.toml accept.company.users on that computer does not accept commands that run as user `{own}`"
                )),
            }
        }
    }
}

#[test]
fn nothing_is_accepted_by_a_file_that_is_wrong() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let run = || cluster.manager.run(&["web01.company", "echo", "on"]);
    settings(web01, "[accept.company]\nfrom = \"web01\"\n");
    web01.succeed(&["rescan"]);
    run().refused(FROM);
    for wrong in [
        "[accept.company]\nform = \"*\"\n",
        "[accept.company]\nfrom = \"*\n",
        "[accept.companny]\nfrom = []\n",
    ] {
        settings(web01, wrong);
        for args in [&["rescan"][..], &["rescan", ALIAS], &["rescan", "--check"]] {
            let output = web01.run(args);
            assert_eq!(output.code, 1, "{}", output.shown());
            assert!(output.out().contains("malai.toml"), "{}", output.shown());
        }
        // What was in force stays.
        run().refused(FROM);
    }
    web01.stop();
    let output = web01.run(&["daemon"]);
    assert_eq!(output.code, 1, "{}", output.shown());
    assert!(
        output.stderr.contains("did you mean `company`?"),
        "{}",
        output.shown()
    );

    // A name that the cluster does not have accepts nobody, and the check says so.
    settings(web01, "[accept.company]\nfrom = \"bos\"\n");
    web01.start();
    run().refused(FROM);
    let said = web01.succeed(&["rescan", "--check"]);
    assert!(said.contains("did you mean `boss`?"), "{said}");
}

#[test]
fn what_runs_already_is_judged_by_it_too() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let (web01, laptop) = (cluster.machine("web01"), cluster.machine("laptop"));
    let narrow = "[accept.company]\nfrom = \"boss,web01\"\n";
    let (taken, kept) = (
        Running::on(laptop, "web01.company"),
        Running::on(&cluster.manager, "web01.company"),
    );
    let here = Running::on(web01, "web01.company");
    settings(web01, narrow);
    web01.succeed(&["rescan"]);
    taken.ended_now(FROM);
    let log = web01.log();
    let line = log
        .lines()
        .find(|line| line.contains("ended, since the configuration has changed"));
    assert!(line.is_some_and(|line| line.contains(FROM)), "{log}");
    // The same file again changes nothing, and the others were never disturbed.
    web01.succeed(&["rescan"]);
    kept.goes_on();

    settings(web01, "[accept.company]\nusers = \"no-such-user\"\n");
    web01.succeed(&["rescan", ALIAS]);
    here.ended_now("malai.toml accept.company.users");
}

#[test]
fn a_new_configuration_ends_what_it_does_not_allow() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let web01 = cluster.machine("web01");
    let taken = Running::on(cluster.machine("laptop"), "web01.company");
    let kept = Running::on(&cluster.manager, "web01.company");
    let id = cluster.id_of("web01");
    let section = |allowed: &str| format!("id52 = \"{id}\"\nallow_from = \"{allowed}\"");
    cluster.edit(|text| text.replace(&section("*"), &section("boss")));
    let said = cluster.manager.succeed(&["rescan", ALIAS]);
    assert!(said.contains("web01: updated"), "{said}");
    taken.ended_now("machine.web01.allow_from");
    assert!(web01.log().contains("ended, since the configuration"));

    // Another list that holds the same member, and the daemon's own user by its name: the same answer.
    let own = own_user();
    cluster.edit(|text| {
        let again = format!("{}\nusername = \"{own}\"", section("bosses"));
        let text = text.replace(&section("boss"), &again);
        format!("{text}\n[group.bosses]\nmembers = \"boss\"\n")
    });
    cluster.rescan_everywhere();
    kept.goes_on();
}
