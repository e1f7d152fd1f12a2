//! Many commands: side by side through one daemon, and one after another without.

use std::thread;

use crate::harness::{Cluster, alone};

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
    // Each as fast as the first: what one leaves behind must not slow the next.
    let slowest = times.iter().max().unwrap();
    assert!(slowest.as_secs() < 2, "{times:?}");
}
