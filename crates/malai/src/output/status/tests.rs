//! The screens of `malai status`, as they are shown.

use std::path::PathBuf;

use expect_test::{Expect, expect};
use malai_cluster::{ClusterId, MachineId};
use malai_node::Sign;
use malai_wire::status::{
    DaemonFacts, FormerMachine, ForwardFacts, Notice, NoticeKind, WaitingFacts,
};

use super::*;

const MANAGER: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
const MACHINE: &str = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";
const STRANGER: &str = "mlk9ubnvu8r1sk06j4tjb98njra0od5d2dglpm8gubbvg4glthng";

fn check(facts: &Facts, expected: Expect) {
    expected.assert_eq(&render(facts));
}

fn id(text: &str) -> MachineId {
    MachineId::parse(text).unwrap()
}

fn managed() -> LocalCluster {
    LocalCluster {
        alias: "company".to_owned(),
        role: Some(Role::Manager),
        manager: Some(ClusterId::new(id(MANAGER))),
        own_id: Some(id(MANAGER)),
        config: PathBuf::from("/Users/admin/.malai/clusters/company/cluster.toml"),
        machines: Some(3),
        condition: Condition::Sound,
        errors: 0,
        warnings: 0,
        unpublished: false,
        joining: None,
    }
}

fn joined() -> LocalCluster {
    LocalCluster {
        alias: "production".to_owned(),
        role: Some(Role::Machine),
        own_id: Some(id(MACHINE)),
        config: PathBuf::from("/Users/admin/.malai/clusters/production/machine.toml"),
        ..managed()
    }
}

fn facts(state: DaemonState, clusters: Vec<LocalCluster>) -> Facts {
    let home = PathBuf::from("/Users/admin/.malai");
    Facts {
        version: "0.1.0",
        state,
        pid: None,
        lock: Sign {
            path: home.join("malai.lock"),
            present: false,
        },
        socket: Sign {
            path: home.join("malai.socket"),
            present: false,
        },
        home,
        no_answer: None,
        clusters,
        problems: Vec::new(),
        daemon: None,
    }
}

fn machine(name: Option<&str>, of: &str) -> MachineFacts {
    MachineFacts {
        name: name.map(str::to_owned),
        id: id(of),
        revision: None,
        heard_seconds_ago: None,
        path: None,
        rtt_ms: None,
        state: MachineState::Idle,
        failed_seconds_ago: None,
        failure: None,
    }
}

/// The block in the tutorial, word for word.
const TUTORIAL: &str = "\
📊 malai Status
═══════════════════════════════════════
📁 MALAI_HOME: /Users/admin/.malai
🔒 Daemon: RUNNING ✅
   📁 Lock: /Users/admin/.malai/malai.lock
   🔌 Socket: /Users/admin/.malai/malai.socket (CLI communication active)
🔍 Testing daemon responsiveness... ✅ RESPONSIVE

🏗️  Cluster Configurations:
   👑 company (Cluster Manager)
      📄 Config: /Users/admin/.malai/clusters/company/cluster.toml
      📊 Machines: 3

🖥️  Machine Configurations:
   💻 production (Machine)
      📄 Config: /Users/admin/.malai/clusters/production/machine.toml
";

#[test]
fn the_tutorials_lines_are_all_there_in_their_order() {
    let screen = render(&facts(DaemonState::Running, vec![managed(), joined()]));
    let mut shown = screen.lines();
    for wanted in TUTORIAL.lines() {
        assert!(
            shown.any(|line| line == wanted),
            "missing: {wanted}\n{screen}"
        );
    }
    let head = TUTORIAL.find("      📊").unwrap();
    assert!(screen.starts_with(&TUTORIAL[..head]), "{screen}");
}

#[test]
fn a_manager_and_its_machines() {
    let company = ClusterFacts {
        alias: "company".to_owned(),
        revision: Some(1_732_000_000),
        machines: vec![
            MachineFacts {
                revision: Some(1_732_000_000),
                heard_seconds_ago: Some(3),
                path: Some(NetworkPath::Direct),
                rtt_ms: Some(0.42),
                state: MachineState::Answering,
                ..machine(Some("web01"), MACHINE)
            },
            MachineFacts {
                revision: Some(1_731_000_000),
                heard_seconds_ago: Some(7300),
                path: Some(NetworkPath::Relayed),
                rtt_ms: Some(81.3),
                state: MachineState::NotAnswering,
                ..machine(Some("db"), STRANGER)
            },
            MachineFacts {
                state: MachineState::NotAnswering,
                ..machine(None, MANAGER)
            },
        ],
        waiting: vec![WaitingFacts {
            id: id(STRANGER),
            address: "192.0.2.7:28772".to_owned(),
            asked_seconds_ago: 485,
            former: Some(FormerMachine {
                name: "db".to_owned(),
                revision: 3,
            }),
        }],
        notices: vec![Notice::new(
            NoticeKind::NewerRevision,
            "web\u{1b}[2J shows a newer revision",
        )],
        ..ClusterFacts::default()
    };
    let production = ClusterFacts {
        alias: "production".to_owned(),
        revision: Some(5),
        manager_reachable_seconds_ago: Some(61),
        ..ClusterFacts::default()
    };
    let mut facts = facts(DaemonState::NotResponsive, vec![managed(), joined()]);
    facts.answered(Ok(DaemonFacts {
        version: "0.2.0".to_owned(),
        pid: 7,
        tasks: 20,
        clusters: vec![company, production],
        audit: Some("the audit record cannot be written".to_owned()),
        forwards: vec![
            ForwardFacts {
                listen: "127.0.0.1:5432".to_owned(),
                to: "db.company".to_owned(),
                open: 2,
                total: 7,
                failure: Some("db.company: connection refused".to_owned()),
                failed_seconds_ago: Some(61),
                ..ForwardFacts::default()
            },
            ForwardFacts {
                listen: "127.0.0.1:80".to_owned(),
                to: "web01.company:localhost:80".to_owned(),
                problem: Some("cannot listen on 127.0.0.1:80".to_owned()),
                ..ForwardFacts::default()
            },
        ],
        notices: Vec::new(),
        user: String::new(),
        default_user: None,
    }));
    assert!(facts.is_healthy());
    check(
        &facts,
        expect![[r#"
            📊 malai Status
            ═══════════════════════════════════════
            📁 MALAI_HOME: /Users/admin/.malai
            🔒 Daemon: RUNNING ✅
               📁 Lock: /Users/admin/.malai/malai.lock
               🔌 Socket: /Users/admin/.malai/malai.socket (CLI communication active)
            🔍 Testing daemon responsiveness... ✅ RESPONSIVE
            ⚠️  The daemon is malai 0.2.0, this command line malai 0.1.0: restart the daemon (malai stop, malai daemon)
            ⚠️  the audit record cannot be written

            🏗️  Cluster Configurations:
               👑 company (Cluster Manager)
                  📄 Config: /Users/admin/.malai/clusters/company/cluster.toml
                  📊 Machines: 3
                  🆔 Manager: i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60
                  🔖 Revision: 1732000000
                  🖥️  web01     e87aeds2…  revision 1732000000 (current) · heard 3s ago · direct 0.4 ms
                  ⚠️  db        mlk9ubnv…  revision 1731000000 (behind) · heard 2h 1m ago · not answering · relayed 81 ms
                  ⚠️  (manager) i66fo538…  revision unknown · never heard from · not answering
                  ⏳ mlk9ubnvu8r1sk06j4tjb98njra0od5d2dglpm8gubbvg4glthng asks to join, from 192.0.2.7:28772, last asked 8m ago; it was db until revision 3 (compare with what machine init printed)
                  ⚠️  web\x1b[2J shows a newer revision

            🖥️  Machine Configurations:
               💻 production (Machine)
                  📄 Config: /Users/admin/.malai/clusters/production/machine.toml
                  🆔 Manager: i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60
                  🔑 This machine: e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80
                  🔖 Revision: 5
                  📡 Manager last reached: 1m 1s ago

            🔀 Forwards ([forward] in malai.toml):
               127.0.0.1:5432 → db.company (2 open, 7 in all)
                  last failure, 1m 1s ago: db.company: connection refused
               127.0.0.1:80 → web01.company:localhost:80
                  ⚠️  cannot listen on 127.0.0.1:80
        "#]],
    );
}

#[test]
fn a_daemon_that_does_not_answer() {
    let mut facts = facts(DaemonState::NotResponsive, vec![managed()]);
    facts.pid = Some(4711);
    facts.answered(Err("no answer within 5 seconds".to_owned()));
    assert!(!facts.is_healthy());
    check(
        &facts,
        expect![[r#"
            📊 malai Status
            ═══════════════════════════════════════
            📁 MALAI_HOME: /Users/admin/.malai
            🔒 Daemon: RUNNING ⚠️
               📁 Lock: /Users/admin/.malai/malai.lock
               🔌 Socket: /Users/admin/.malai/malai.socket (no CLI communication)
            🔍 Testing daemon responsiveness... ❌ NOT RESPONSIVE
               ⚠️  no answer within 5 seconds
               💡 A daemon (pid 4711) holds the lock but does not respond. Check /Users/admin/.malai/malai.log, end it (kill 4711, or kill -9 4711 if that does nothing), and start a new one: malai daemon

            🏗️  Cluster Configurations:
               👑 company (Cluster Manager)
                  📄 Config: /Users/admin/.malai/clusters/company/cluster.toml
                  📊 Machines: 3
                  🆔 Manager: i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60
        "#]],
    );
}

#[test]
fn a_daemon_that_is_starting() {
    let mut facts = facts(DaemonState::Starting, Vec::new());
    facts.pid = Some(4711);
    check(
        &facts,
        expect![[r#"
            📊 malai Status
            ═══════════════════════════════════════
            📁 MALAI_HOME: /Users/admin/.malai
            🔒 Daemon: STARTING ⚠️
               📁 Lock: /Users/admin/.malai/malai.lock
               🔌 Socket: /Users/admin/.malai/malai.socket (not there yet)
               💡 A daemon (pid 4711) holds the lock but is not ready yet; try again shortly: malai status

            🏗️  Cluster Configurations:
               none yet
               💡 Create a cluster: malai cluster init <alias>
               💡 Or join one: malai machine init <manager-id52> <alias>
        "#]],
    );
}

#[test]
fn a_daemon_that_crashed() {
    check(
        &facts(DaemonState::Crashed, Vec::new()),
        expect![[r#"
            📊 malai Status
            ═══════════════════════════════════════
            📁 MALAI_HOME: /Users/admin/.malai
            🔒 Daemon: CRASHED ❌
               🔌 Socket: /Users/admin/.malai/malai.socket (left behind by a daemon that did not exit cleanly)
               💡 See why: malai logs
               💡 Start it again: malai daemon

            🏗️  Cluster Configurations:
               none yet
               💡 Create a cluster: malai cluster init <alias>
               💡 Or join one: malai machine init <manager-id52> <alias>
        "#]],
    );
}

#[test]
fn no_daemon_and_no_clusters() {
    let facts = facts(DaemonState::NotRunning, Vec::new());
    assert!(
        !render(&facts).contains("RUNNING ✅"),
        "the health check greps for it"
    );
    check(
        &facts,
        expect![[r#"
            📊 malai Status
            ═══════════════════════════════════════
            📁 MALAI_HOME: /Users/admin/.malai
            🔒 Daemon: NOT RUNNING 💤

            🏗️  Cluster Configurations:
               none yet
               💡 Create a cluster: malai cluster init <alias>
               💡 Or join one: malai machine init <manager-id52> <alias>
               💡 Then start the daemon: malai daemon
        "#]],
    );
}

#[test]
fn no_daemon_and_everything_that_can_be_wrong() {
    let broken = LocalCluster {
        machines: None,
        manager: None,
        condition: Condition::Broken,
        errors: 2,
        warnings: 1,
        unpublished: false,
        joining: None,
        ..managed()
    };
    let waiting = LocalCluster {
        condition: Condition::Waiting,
        ..joined()
    };
    let unclear = LocalCluster {
        alias: "Bad\nName".to_owned(),
        role: None,
        manager: None,
        own_id: None,
        config: PathBuf::from("/Users/admin/.malai/clusters/Bad\nName"),
        machines: None,
        condition: Condition::Broken,
        errors: 1,
        warnings: 0,
        unpublished: false,
        joining: None,
    };
    let warned = LocalCluster {
        alias: "warned".to_owned(),
        warnings: 1,
        unpublished: false,
        joining: None,
        ..managed()
    };
    let mut facts = facts(
        DaemonState::NotRunning,
        vec![broken, waiting, unclear, warned],
    );
    facts.lock.present = true;
    facts.problems = vec!["malai.toml has 1 error: `malai rescan --check` shows where".to_owned()];
    check(
        &facts,
        expect![[r#"
            📊 malai Status
            ═══════════════════════════════════════
            📁 MALAI_HOME: /Users/admin/.malai
            🔒 Daemon: NOT RUNNING 💤
               📁 Lock: /Users/admin/.malai/malai.lock (no daemon holds it)
               💡 Start it: malai daemon
            ⚠️  malai.toml has 1 error: `malai rescan --check` shows where

            🏗️  Cluster Configurations:
               👑 company (Cluster Manager)
                  📄 Config: /Users/admin/.malai/clusters/company/cluster.toml
                  📊 Machines: unknown
                  ❌ 2 errors, 1 warning: malai rescan --check company
               👑 warned (Cluster Manager)
                  📄 Config: /Users/admin/.malai/clusters/company/cluster.toml
                  📊 Machines: 3
                  🆔 Manager: i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60
                  ⚠️  1 warning: malai rescan --check warned

            🖥️  Machine Configurations:
               💻 production (Machine)
                  📄 Config: /Users/admin/.malai/clusters/production/machine.toml
                  🆔 Manager: i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60
                  🔑 This machine: e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80
                  ⏳ Waiting for the first configuration: the manager has to add this machine

            ❓ Unrecognized folders in clusters/:
               ❓ Bad\nName
                  📁 Folder: /Users/admin/.malai/clusters/Bad\nName
                  ❌ 1 error: malai rescan --check
        "#]],
    );
}

#[test]
fn a_machine_that_waits_is_told_so_once() {
    let waiting = LocalCluster {
        condition: Condition::Waiting,
        ..joined()
    };
    let mut facts = facts(DaemonState::NotResponsive, vec![waiting]);
    facts.answered(Ok(DaemonFacts {
        clusters: vec![ClusterFacts {
            alias: "production".to_owned(),
            membership: MembershipState::Waiting,
            membership_notice: Some("no configuration yet".to_owned()),
            machines: vec![MachineFacts {
                revision: Some(7),
                heard_seconds_ago: Some(0),
                ..machine(None, MANAGER)
            }],
            ..ClusterFacts::default()
        }],
        ..DaemonFacts::default()
    }));
    let screen = render(&facts);
    let shown: Vec<&str> = screen
        .lines()
        .filter(|line| line.contains("onfiguration") && line.starts_with(INDENT))
        .collect();
    let told = "      ⏳ Waiting for the first configuration: the manager has to add this machine";
    assert_eq!(shown, [told], "{screen}");
    assert!(screen.contains("revision 7 · heard 0s ago\n"), "{screen}");
}

#[test]
fn who_is_not_a_member_is_told_so_and_the_exit_code_says_it() {
    for (membership, shows_machines) in [
        (MembershipState::Removed, true),
        (MembershipState::NotAManager, false),
    ] {
        let production = ClusterFacts {
            alias: "production".to_owned(),
            membership,
            membership_notice: Some("it is so".to_owned()),
            machines: vec![MachineFacts {
                revision: Some(0),
                heard_seconds_ago: Some(3),
                state: MachineState::NotAnswering,
                failed_seconds_ago: Some(61),
                failure: Some("no answer".to_owned()),
                ..machine(Some("web01"), MACHINE)
            }],
            ..ClusterFacts::default()
        };
        let mut facts = facts(DaemonState::NotResponsive, vec![joined()]);
        facts.answered(Ok(DaemonFacts {
            clusters: vec![production],
            ..DaemonFacts::default()
        }));
        assert!(!facts.is_healthy());
        let screen = render(&facts);
        assert!(screen.contains("      ❌ it is so\n"), "{screen}");
        let machine = "⚠️  web01 e87aeds2…  no configuration · heard 3s ago · not answering (tried 1m 1s ago: no answer)";
        assert_eq!(screen.contains(machine), shows_machines, "{screen}");
    }
}
