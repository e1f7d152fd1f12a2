//! What a command is like on each route, clause by clause, where `streams.rs` and `signals.rs` do not say it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Cluster, alone, finish, until};
use crate::measure::{marked, memory, written};

/// More memory than a stream may take in any process, whatever runs through it.
const BOUND: u64 = 24 << 20;

#[test]
fn each_signal_that_ends_a_command_is_its_exit_code() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        for (name, number) in [
            ("INT", 2),
            ("QUIT", 3),
            ("SEGV", 11),
            ("USR2", 12),
            ("PIPE", 13),
        ] {
            let script = format!("ulimit -c 0; echo out; echo err >&2; kill -{name} $$");
            let output = route.run(&["sh", "-c", &script]);
            let seen = (output.code, output.out(), output.stderr.as_str());
            assert_eq!(
                seen,
                (128 + number, "out\n", "err\n"),
                "{}, {name}",
                route.name
            );
        }
    }
}

/// The command has long ended, and its client goes when the last byte has been read and not before.
#[test]
fn the_exit_comes_after_the_last_byte() {
    let cluster = Cluster::with_routes();
    // As much as fits into no buffer on the way but the command's own pipe and the windows.
    let script = "head -c 100000 /dev/zero; exit 9";
    for route in cluster.routes() {
        let mut child = route.home.spawn(&route.args(&["sh", "-c", script]));
        let mut out = child.stdout.take().unwrap();
        let mut bytes = vec![0; 100_000];
        out.read_exact(&mut bytes[..1]).unwrap();
        // The pipe to this test holds 64 KiB: the client cannot have got rid of all of it.
        assert!(child.try_wait().unwrap().is_none(), "{}", route.name);
        out.read_exact(&mut bytes[1..]).unwrap();
        assert_eq!(out.read(&mut [0]).unwrap(), 0);
        assert_eq!(finish(child, Vec::new()).code, 9, "{}", route.name);
    }
}

#[test]
fn input_that_ends_first_and_input_that_is_not_wanted() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        // The client's end is closed; what the command has to say comes after that.
        let script = "cat; echo read; read more; echo \"none: $?\"; echo last >&2; exit 4";
        let output = route.run_with(&["sh", "-c", script], b"in\n");
        let seen = (output.code, output.out(), output.stderr.as_str());
        assert_eq!(seen, (4, "in\nread\nnone: 1\n", "last\n"), "{}", route.name);

        // The command closes its end; the client's stays open, and holds nothing up.
        let args = route.args(&["sh", "-c", "exec <&-; echo closed; exit 5"]);
        let mut child = route
            .home
            .command(&args)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let stays = child.stdin.take();
        let output = finish(child, Vec::new());
        assert_eq!(
            (output.code, output.out()),
            (5, "closed\n"),
            "{}",
            route.name
        );
        drop(stays);

        // The same where the client is in the middle of sending.
        let script = "head -c 10; exec <&-; echo; echo closed";
        let output = route.run_with(&["sh", "-c", script], &vec![b'x'; 3 << 20]);
        assert_eq!(output.clean(), "xxxxxxxxxx\nclosed\n", "{}", route.name);
    }
}

/// The producer's count of bytes stands still, and no process on the way uses much memory.
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
        // It goes on with its reader, and stands still with it.
        out.read_exact(&mut vec![0; 8 << 20]).unwrap();
        assert!(stands(count) >= count + (7 << 20), "{}", route.name);
        drop(out);
        assert_eq!(finish(child, Vec::new()).code, 141, "{}", route.name);
        until("the producer's end", || marked(&mark).is_empty());
    }
}

/// The same for input: a command that does not read stops whoever feeds its client.
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

#[test]
fn both_outputs_are_complete_and_no_byte_is_touched() {
    let cluster = Cluster::with_routes();
    let every: Vec<u8> = (0..=u8::MAX).collect();
    for route in cluster.routes() {
        let script = "tee /dev/stderr";
        let input = every.repeat(4000);
        let args = route.args(&["sh", "-c", script]);
        let mut command = route.home.command(&args);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut err = child.stderr.take().unwrap();
        let sent = input.clone();
        let feeding = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let output = finish(child, Vec::new());
        feeding.join().unwrap();
        assert_eq!(output.code, 0, "{}", route.name);
        assert!(output.stdout == input, "{}: standard output", route.name);
        assert!(
            errors.join().unwrap() == input,
            "{}: standard error",
            route.name
        );
    }
}

#[test]
fn an_argument_of_every_byte_the_longest_and_as_many_as_there_may_be() {
    use std::os::unix::ffi::OsStrExt;
    let cluster = Cluster::with_routes();
    let every: Vec<u8> = (1..=u8::MAX).collect();
    // The system's limit for one, its NUL included.
    let longest = "x".repeat((128 << 10) - 1);
    // A quarter of a stack of 8 MiB is the limit in all, pointers and environment included.
    let most = vec!["y".repeat(120_000); 17];
    for route in cluster.routes() {
        let bytes = std::ffi::OsStr::from_bytes(&every);
        let output = route.run(&["printf".as_ref(), "%s".as_ref(), bytes]);
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (0, ""),
            "{}",
            route.name
        );
        assert!(output.stdout == every, "{}", output.shown());
        assert!(route.run(&["printf", "%s", &longest]).clean() == longest);
        let mut words = vec!["printf", "%s"];
        words.extend(most.iter().map(String::as_str));
        assert!(route.run(&words).clean() == most.concat(), "{}", route.name);
    }
}

/// A machine whose system takes less than the client's: said there, and what to look at.
#[test]
fn an_argument_list_that_the_machine_does_not_take() {
    let cluster = Cluster::with_routes();
    let web01 = cluster.machine("web01");
    web01.stop();
    let malai = web01.command(&["daemon"]);
    let mut shell = Command::new("sh");
    // A quarter of it is the limit, and never less than 128 KiB.
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
        let said = "malai: printf: the argument list (300310 bytes) is longer";
        assert!(output.stderr.starts_with(said), "{}", output.shown());
        assert_eq!(route.run(&["printf", "%s", &many[0]]).clean(), many[0]);
    }
}

/// What ends with its standard input still open for writing at the client does not wait for it.
#[test]
fn a_command_that_ends_does_not_wait_for_input_that_could_come() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let args = route.args(&["sh", "-c", "exit 6"]);
        let mut child = route
            .home
            .command(&args)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let stays = child.stdin.take();
        let output = finish(child, Vec::new());
        assert_eq!(output.code, 6, "{}", route.name);
        assert!(output.took < Duration::from_secs(20), "{}", output.shown());
        drop(stays);
    }
}
