//! Streams, exit codes and argument lists, on every route.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use crate::harness::{Cluster, finish};

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut source = std::fs::File::open("/dev/urandom").unwrap();
    source.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn five_random_megabytes_there_and_back() {
    let cluster = Cluster::with_routes();
    let bytes = random_bytes(5 << 20);
    for route in cluster.routes() {
        let output = route.run_with(&["cat"], &bytes);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""));
        assert!(output.stdout == bytes, "other bytes came back");
    }
}

#[test]
fn exit_codes_as_a_shell_gives_them() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("kill -TERM $$", 143),
            ("kill -KILL $$", 137),
            ("kill -USR1 $$", 138),
        ] {
            let output = route.run(&["sh", "-c", script]);
            let seen = (output.code, output.out(), output.stderr.as_str());
            assert_eq!(seen, (code, "", ""), "{script}");
        }
        let unknown = route.run(&["no-such-program", "x"]);
        assert_eq!(unknown.code, 127, "{}", unknown.shown());
        assert!(unknown.stderr.contains("no-such-program"));
        for not_a_program in ["/etc", "/etc/passwd"] {
            let output = route.run(&[not_a_program, "x"]);
            assert_eq!(output.code, 126, "{}", output.shown());
            assert!(output.stderr.contains(not_a_program));
        }
    }
}

/// Standard input is closed, as in daemons and cron jobs.
#[test]
fn closed_input() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let mut shell = std::process::Command::new("/bin/sh");
        let malai = route.home.command(&[] as &[&str]);
        shell.args(["-c", "exec \"$@\" <&-", "sh"]);
        shell
            .arg(malai.get_program())
            .args(route.args(&["wc", "-c"]));
        shell.env_clear();
        for (name, value) in malai.get_envs() {
            shell.env(name, value.unwrap());
        }
        let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let output = finish(child.unwrap(), Vec::new());
        assert_eq!(output.clean(), "0\n", "{}", route.name);
    }
}

#[test]
fn arguments_arrive_as_they_were_given() {
    let cluster = Cluster::with_routes();
    let arguments: [&OsStr; 12] = [
        OsStr::new("two words"),
        OsStr::new("'single' \"double\" `back` $HOME"),
        OsStr::new("--help"),
        OsStr::new("-V"),
        OsStr::new(""),
        OsStr::from_bytes(b"\xff\xfe raw"),
        OsStr::new("new\nline"),
        OsStr::new("*"),
        OsStr::new("--"),
        OsStr::new("\\"),
        OsStr::new("\u{1b}[31m"),
        OsStr::new("~"),
    ];
    let mut words = vec![OsStr::new("printf"), OsStr::new("%s\\0")];
    words.extend(arguments);
    let expected: Vec<u8> = arguments
        .iter()
        .flat_map(|argument| [argument.as_bytes(), b"\0"].concat())
        .collect();
    for route in cluster.routes() {
        let output = route.run(&words);
        assert_eq!(output.code, 0, "{}", output.shown());
        assert_eq!(output.stdout, expected, "{}", output.shown());
        // The same right after the target, where malai could take options for its own.
        let help = route.run(&["printf", "--help"]);
        assert!(!help.out().contains("malai"), "{}", help.shown());
    }
}

#[test]
fn a_sole_argument_with_blanks_is_split_and_needs_no_shell() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let output = route.run(&["printf '%s|' a  'b c' d"]);
        assert_eq!(output.clean(), "a|b c|d|");
        assert_eq!(route.run(&["echo  'b c'   d"]).clean(), "b c d\n");
    }
}

#[test]
fn a_sole_argument_that_means_a_shell_is_refused_with_the_form_to_use() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        for line in ["echo a | cat", "echo $HOME", "echo *", "A=1 env", "ls; ls"] {
            let output = route.run(&[line]);
            output.refused("no shell is involved");
            let form = format!("malai {} sh -c '{line}'", route.target);
            assert!(output.stderr.contains(&form), "{}", output.shown());
        }
    }
}

/// A command inherits nothing from the daemon.
#[test]
fn a_clean_environment() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let output = route.run(&["env"]);
        let mut names: Vec<&str> = output
            .clean()
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        names.sort_unstable();
        let own = [
            "HOME",
            "LOGNAME",
            "MALAI_CLIENT_ID52",
            "MALAI_CLIENT_MACHINE",
            "MALAI_CLUSTER",
            "PATH",
            "SHELL",
            "SSH_CLIENT",
            "SSH_CONNECTION",
            "USER",
        ];
        assert_eq!(names, own, "{}", route.name);
        let open = route.run(&["ls", "-l", "/proc/self/fd"]);
        for own in ["socket:", "anon_inode:", "/clusters/", "malai"] {
            assert!(!open.clean().contains(own), "{}", open.shown());
        }
    }
}
