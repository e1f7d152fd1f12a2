//! A command's streams and arguments, on each route.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use malai_testing::cluster::Cluster;
use malai_testing::{lives, run, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn output_and_errors_are_kept_apart() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            let script = "echo out; echo err >&2; echo more; echo worse >&2";
            let output = route.run(&["sh", "-c", script]).await;
            let seen = (output.out(), output.stderr.as_str());
            assert_eq!(seen, ("out\nmore\n", "err\nworse\n"), "{}", route.name);
        }
    });
}

#[test]
fn both_outputs_are_complete_and_no_byte_is_touched() {
    run(async {
        let cluster = Cluster::with_routes().await;
        let every: Vec<u8> = (0..=u8::MAX).collect();
        let input = every.repeat(1000);
        for route in cluster.routes() {
            let mut running = route.begin(&["sh", "-c", "tee /dev/stderr"]);
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let (mut stdin, sent) = (running.stdin, &input);
            let feed = async move { stdin.write_all(sent).await };
            let (fed, read, read_too) = tokio::join!(
                feed,
                running.stdout.read_to_end(&mut out),
                running.stderr.read_to_end(&mut err)
            );
            fed.and(read).and(read_too).unwrap();
            assert!(out == input && err == input, "{}", route.name);
        }
    });
}

#[test]
fn output_is_seen_before_the_command_ends() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            // The second line waits for input that is sent once the first line has been read.
            let script = ["sh", "-c", "echo one; read line; echo $line"];
            let mut running = route.begin(&script);
            assert_eq!(running.line().await, "one", "{}", route.name);
            let output = running.finish_with(b"two\n").await;
            assert_eq!(output.clean(), "two\n", "{}", route.name);
        }
    });
}

/// `malai … yes | head -1`.
#[test]
fn a_reader_that_goes_ends_both_sides() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            let mut running = route.begin(&["sh", "-c", "echo $$; exec yes"]);
            let pid: u32 = running.line().await.parse().unwrap();
            let (code, message) = running.finish_unread().await;
            let expected = (malai_node::EXIT_READER_GONE, String::new());
            assert_eq!((code, message), expected, "{}", route.name);
            until("the end of yes", || !lives(pid)).await;
        }
    });
}

#[test]
fn empty_input_and_input_that_is_not_read() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            assert_eq!(route.run(&["wc", "-c"]).await.clean(), "0\n");
            let unread = route
                .run_with(&["echo", "done"], &vec![b'x'; 1 << 20])
                .await;
            assert_eq!(unread.clean(), "done\n", "{}", route.name);
        }
    });
}

#[test]
fn input_that_ends_first_and_input_that_is_not_wanted() {
    run(async {
        let cluster = Cluster::with_routes().await;
        for route in cluster.routes() {
            // The client's end is closed first; the command's output comes after that.
            let script = "cat; echo read; read more; echo \"none: $?\"; echo last >&2; exit 4";
            let output = route.run_with(&["sh", "-c", script], b"in\n").await;
            let seen = (output.code, output.out(), output.stderr.as_str());
            assert_eq!(seen, (4, "in\nread\nnone: 1\n", "last\n"), "{}", route.name);

            // The command closes its end; the client's end stays open, and delays nothing.
            let mut running = route.begin(&["sh", "-c", "exec <&-; echo closed; exit 5"]);
            assert_eq!(running.line().await, "closed", "{}", route.name);
            until("its end", || running.has_ended()).await;
            assert_eq!(running.finish().await.code, 5, "{}", route.name);

            // The same while the client is still sending.
            let script = "head -c 10; exec <&-; echo; echo closed";
            let output = route
                .run_with(&["sh", "-c", script], &vec![b'x'; 3 << 20])
                .await;
            assert_eq!(output.clean(), "xxxxxxxxxx\nclosed\n", "{}", route.name);
        }
    });
}

/// The command has long ended, but its client ends only when the last byte has been read.
#[test]
fn the_exit_comes_after_the_last_byte() {
    run(async {
        let cluster = Cluster::with_routes().await;
        // Too much for any buffer on the way except the command's own pipe and the windows.
        let script = "head -c 100000 /dev/zero; exit 9";
        for route in cluster.routes() {
            let mut running = route.begin(&["sh", "-c", script]);
            let mut bytes = vec![0; 100_000];
            running.stdout.read_exact(&mut bytes[..1]).await.unwrap();
            // The pipe to this test holds 64 KiB, so the client cannot have written everything.
            assert!(!running.has_ended(), "{}", route.name);
            running.stdout.read_exact(&mut bytes[1..]).await.unwrap();
            assert_eq!(running.finish().await.code, 9, "{}", route.name);
        }
    });
}

#[test]
fn ten_thousand_lines_of_errors() {
    run(async {
        let cluster = Cluster::with_routes().await;
        let script = "i=0; while [ $i -lt 10000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let expected: String = (0..10_000).map(|i| format!("line {i}\n")).collect();
        for route in cluster.routes() {
            let output = route.run(&["sh", "-c", script]).await;
            assert_eq!(output.code, 3, "{}", route.name);
            assert!(output.stderr == expected, "{} bytes", output.stderr.len());
        }
    });
}

#[test]
fn an_argument_of_every_byte_the_longest_and_as_many_as_there_may_be() {
    run(async {
        let cluster = Cluster::with_routes().await;
        let every: Vec<u8> = (1..=u8::MAX).collect();
        // The system's limit for one argument, including its NUL.
        let longest = "x".repeat((128 << 10) - 1);
        // The limit for all is a quarter of the 8 MiB stack, including pointers and environment.
        let most = vec!["y".repeat(120_000); 17];
        let words: Vec<String> = (0..100_000).map(|i| format!("word{i:06}")).collect();
        for route in cluster.routes() {
            let output = route.run(&[b"printf", &b"%s"[..], &every]).await;
            assert_eq!(
                (output.code, output.stderr.as_str()),
                (0, ""),
                "{}",
                route.name
            );
            assert!(output.stdout == every, "{}", route.name);
            let output = route.run(&["printf", "%s", &longest]).await;
            assert!(output.clean() == longest, "{}", route.name);
            for (form, list) in [("%s", &most), ("%s\n", &words)] {
                let mut all = vec!["printf", form];
                all.extend(list.iter().map(String::as_str));
                let expected: String = list.iter().map(|word| form.replace("%s", word)).collect();
                assert!(route.run(&all).await.clean() == expected, "{}", route.name);
            }
        }
    });
}

/// As in execvp(3), which shells and ssh use.
#[test]
fn a_program_is_found_as_a_shell_finds_it() {
    run(async {
        let cluster = Cluster::with_routes().await;
        let file = |name: &str, text: &str, mode| {
            let path = cluster.file(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let script = file("script", "echo \"script $1\"\n", 0o755);
        let plain = file("plain", "echo\n", 0o644);
        for route in cluster.routes() {
            let output = route.run(&[&script, "a b"]).await;
            assert_eq!((output.code, output.out()), (0, "script a b\n"));
            assert_eq!(route.run(&[&plain]).await.code, 126);
            let folder = cluster.folder().to_str().unwrap();
            assert_eq!(route.run(&[folder]).await.code, 126);
            // The program sees its name as typed.
            let output = route.run(&["cat", "/proc/self/cmdline"]).await;
            assert_eq!(output.out(), "cat\0/proc/self/cmdline\0");
            for name in ["bin", "no-such-program"] {
                assert_eq!(route.run(&[name]).await.code, 127, "{name:?}");
            }
        }
    });
}
