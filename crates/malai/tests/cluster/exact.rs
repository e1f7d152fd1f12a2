//! The exact behavior of a command on each route, as far as `streams.rs` and `signals.rs` do not test it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::harness::{Cluster, alone, finish, until};
use crate::measure::{marked, memory, written};

/// The memory that no stream may reach in any process, whatever passes through it.
const BOUND: u64 = 24 << 20;

/// The producer's byte count stops growing, and no process on the way uses much memory.
#[test]
fn a_reader_that_stops_stops_the_producer_in_bounded_memory() {
    let _alone = alone();
    let cluster = Cluster::with_routes();
    for (number, route) in cluster.routes().iter().enumerate() {
        let mark = format!("MALAI_MARK=stops-{number}-{}", std::process::id());
        let daemons = [cluster.manager.pid(), cluster.machine("web01").pid()];
        let before = daemons.map(|pid| memory(pid, "VmRSS"));
        let mut child = route.home.spawn(&route.args(&["env", &mark, "yes"]));
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0; 1000]).unwrap();
        let producer = marked(&mark)[0];
        let stands = |from: u64| {
            let (mut last, mut same) = (from, 0);
            until("the producer to stand still", || {
                let now = written(producer);
                same = if now == last { same + 1 } else { 0 };
                last = now;
                same > 15
            });
            last
        };
        let count = stands(0);
        assert!(count < BOUND, "{}: {count} bytes were produced", route.name);
        for (pid, before) in daemons.into_iter().zip(before) {
            let grown = memory(pid, "VmRSS").saturating_sub(before);
            assert!(grown < BOUND, "{}: {grown} bytes in a daemon", route.name);
        }
        let client = memory(child.id(), "VmHWM");
        assert!(
            client < 3 * BOUND,
            "{}: {client} bytes in the client",
            route.name
        );
        // The producer continues when its reader does, and stops with it.
        out.read_exact(&mut vec![0; 8 << 20]).unwrap();
        assert!(stands(count) >= count + (7 << 20), "{}", route.name);
        drop(out);
        assert_eq!(finish(child, Vec::new()).code, 141, "{}", route.name);
        until("the producer's end", || marked(&mark).is_empty());
    }
}

/// The same for input: a command that does not read blocks the process that writes to its client.
#[test]
fn a_command_that_does_not_read_stops_its_feeder_in_bounded_memory() {
    let _alone = alone();
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let daemons = [cluster.manager.pid(), cluster.machine("web01").pid()];
        let before = daemons.map(|pid| memory(pid, "VmRSS"));
        let mut feeder = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
        let args = route.args(&["sh", "-c", "echo begun; read line; exec sleep 329"]);
        let mut command = route.home.command(&args);
        let mut child = command
            .stdin(feeder.stdout.take().unwrap())
            .spawn()
            .unwrap();
        let mut begun = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut begun).unwrap();
        let (mut last, mut same) = (0, 0);
        until("the feeder to stand still", || {
            let now = written(feeder.id());
            same = if now == last { same + 1 } else { 0 };
            last = now;
            same > 15
        });
        assert!(last < BOUND, "{}: {last} bytes were taken", route.name);
        for (pid, before) in daemons.into_iter().zip(before) {
            let grown = memory(pid, "VmRSS").saturating_sub(before);
            assert!(grown < BOUND, "{}: {grown} bytes in a daemon", route.name);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        feeder.kill().unwrap();
        feeder.wait().unwrap();
    }
}

/// The machine's system accepts less than the client's: the error says so, and what to check.
#[test]
fn an_argument_list_that_the_machine_does_not_take() {
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    web01.stop();
    let malai = web01.command(&["daemon"]);
    let mut shell = Command::new("sh");
    // The limit is a quarter of the stack, but at least 128 KiB.
    shell.args(["-c", "ulimit -s 1024; exec \"$0\" daemon"]);
    shell
        .arg(malai.get_program())
        .env_clear()
        .stdout(Stdio::piped());
    for (name, value) in malai.get_envs() {
        shell.env(name, value.unwrap());
    }
    let said = finish(shell.spawn().unwrap(), Vec::new());
    web01.started(said.out());
    let many = vec!["z".repeat(1000); 300];
    let mut words = vec!["printf", "%s"];
    words.extend(many.iter().map(String::as_str));
    for route in &cluster.routes()[..3] {
        let output = route.run(&words);
        assert_eq!((output.code, output.out()), (126, ""), "{}", output.shown());
        let said = "malai: printf: the argument list (300310 bytes) exceeds";
        assert!(output.stderr.starts_with(said), "{}", output.shown());
        assert_eq!(route.run(&["printf", "%s", &many[0]]).clean(), many[0]);
    }
}
