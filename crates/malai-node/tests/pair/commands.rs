//! How a command ends: exit codes, signals, and processes left in the background.

use malai_node::ControlEvent;
use malai_testing::cluster::Cluster;
use malai_testing::{lives, run, until};
use malai_wire::peer::exec::Signal;

#[test]
fn exit_codes_as_a_shell_gives_them() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
                let output = route.run(&["sh", "-c", script]).await;
                let seen = (output.code, output.out(), output.message.as_str());
                assert_eq!(seen, (code, "", ""), "{}, {script}", route.name);
            }
            for (program, code) in [
                ("no-such-program", 127),
                ("/etc", 126),
                ("/etc/passwd", 126),
            ] {
                let output = route.run(&[program, "x"]).await;
                assert_eq!(output.code, code, "{}: {output:?}", route.name);
                assert!(output.stderr.contains(program), "{output:?}");
            }
        }
    });
}

#[test]
fn each_signal_that_ends_a_command_is_its_exit_code() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            for (name, number) in [
                ("HUP", 1),
                ("INT", 2),
                ("QUIT", 3),
                ("KILL", 9),
                ("SEGV", 11),
                ("USR2", 12),
                ("PIPE", 13),
            ] {
                let script = format!("ulimit -c 0; echo out; echo err >&2; kill -{name} $$");
                let output = route.run(&["sh", "-c", &script]).await;
                let seen = (output.code, output.out(), output.stderr.as_str());
                assert_eq!(
                    seen,
                    (128 + number, "out\n", "err\n"),
                    "{}, {name}",
                    route.name
                );
            }
        }
    });
}

#[test]
fn a_command_that_a_callers_signal_ends_says_so() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            for (signal, code) in [(Signal::Int, 130), (Signal::Term, 143), (Signal::Hup, 129)] {
                let mut running = route.begin(&["sh", "-c", "echo begun; exec sleep 322"]);
                assert_eq!(running.line().await, "begun");
                running
                    .events
                    .send(ControlEvent::Signal(signal))
                    .await
                    .unwrap();
                let output = running.finish().await;
                let seen = (output.code, output.stderr.as_str(), output.message.as_str());
                assert_eq!(seen, (code, "", ""), "{}", route.name);
            }
        }
    });
}

#[test]
fn what_stays_in_the_background_does_not_hold_the_session() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            let mut running = route.begin(&["sh", "-c", "sleep 444 & echo $!; echo hi"]);
            let pid: u32 = running.line().await.parse().unwrap();
            assert_eq!(running.finish().await.clean(), "hi\n");
            assert!(lives(pid), "what was left in the background has ended");
            let kill = format!("kill -KILL {pid}");
            route.run(&["sh", "-c", &kill]).await;
            until("its end", || !lives(pid)).await;
        }
    });
}

/// A command that ends while its client still holds standard input open does not wait for more input.
#[test]
fn a_command_that_ends_does_not_wait_for_input_that_could_come() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            let running = route.begin(&["sh", "-c", "exit 6"]);
            until("its end", || running.has_ended()).await;
            assert_eq!(running.finish().await.code, 6, "{}", route.name);
        }
    });
}

/// When its caller disconnects, a command is ended.
#[test]
fn a_caller_that_goes_ends_its_command() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            let mut running = route.begin(&["sh", "-c", "echo $$; exec sleep 323"]);
            let pid: u32 = running.line().await.parse().unwrap();
            running.gone.cancel();
            until("its end", || !lives(pid)).await;
        }
    });
}
