//! Many commands: concurrently through one daemon, and one after another without a daemon.

use std::io::Read;
use std::process::Stdio;
use std::thread;

use rustix::process::Signal;

use crate::harness::{Cluster, alone, finish, signal, until};
use crate::measure::{Held, marked, memory};

#[test]
fn a_hundred_commands_side_by_side() {
    let _alone = alone();
    let cluster = Cluster::with_routes();
    let daemon = cluster.routes()[0];
    thread::scope(|scope| {
        let runs: Vec<_> = (0..100)
            .map(|number| {
                scope.spawn(move || {
                    let input = format!("input of {number}\n").repeat(500);
                    let script = "cat; echo \"err $1\" >&2; exit $(($1 % 50))";
                    let words = ["sh", "-c", script, "sh", &number.to_string()];
                    let output = daemon.home.run_with(&daemon.args(&words), input.as_bytes());
                    assert_eq!(output.code, number % 50, "{}", output.shown());
                    assert_eq!(output.stderr, format!("err {number}\n"));
                    assert!(output.out() == input, "other output than its own");
                })
            })
            .collect();
        for run in runs {
            run.join().unwrap();
        }
    });
}

#[test]
fn fifty_commands_in_a_row_without_a_daemon() {
    let _alone = alone();
    let cluster = Cluster::with_routes();
    let direct = cluster.routes()[1];
    let mut times = Vec::new();
    for number in 0..50 {
        let output = direct
            .home
            .run(&direct.args(&["echo", &number.to_string()]));
        assert_eq!(output.clean(), format!("{number}\n"));
        times.push(output.took);
    }
    // Each is as fast as the first: nothing that one leaves behind may slow down the next.
    let slowest = times.iter().max().unwrap();
    assert!(slowest.as_secs() < 2, "{times:?}");
}

/// Fifty commands at once, ended in three ways, and a thousand in sequence leave nothing behind.
#[test]
fn many_commands_leave_nothing_behind() {
    let _alone = alone();
    let cluster = Cluster::with_routes();
    let (boss, web01) = (&cluster.manager, cluster.machine("web01"));
    let route = cluster.routes()[0];
    let run = |count: usize| {
        for _ in 0..count {
            assert_eq!(route.home.run(&route.args(&["true"])).clean(), "");
        }
    };
    run(50);
    let mark = format!("MALAI_MARK=many-{}", std::process::id());
    let fifty = || {
        let args = route.args(&["env", &mark, "sh", "-c", "echo up; cat; sleep 0"]);
        let mut children: Vec<_> = (0..50)
            .map(|_| {
                route
                    .home
                    .command(&args)
                    .stdin(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for child in &mut children {
            let mut up = [0; 3];
            child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        }
        for (number, mut child) in children.into_iter().enumerate() {
            match number % 3 {
                0 => drop(child.stdin.take()),
                1 => child.kill().unwrap(),
                _ => signal(child.id(), Signal::TERM),
            }
            finish(child, Vec::new());
        }
        until("their end", || marked(&mark).is_empty());
    };
    // Runs once before counting, to create the threads and buffers that stay.
    fifty();
    let [ours, theirs] = [boss, web01].map(|home| {
        until("quiet", || Held::by(home) == Held::by(home));
        (Held::by(home), memory(home.pid(), "VmRSS"))
    });
    fifty();
    run(1000);
    for (home, (held, rss)) in [(boss, ours), (web01, theirs)] {
        held.is_all_of(home);
        let grown = memory(home.pid(), "VmRSS").saturating_sub(rss);
        assert!(
            grown < 8 << 20,
            "{grown} bytes more in {}",
            home.path.display()
        );
    }
}
