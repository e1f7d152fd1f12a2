//! A command's environment is the machine's, on every route and however malai was started.

use std::process::{Command, Stdio};

use crate::harness::{Cluster, Home, Output, finish};

/// Prints what a command inherits, one item per line: signals, umask, niceness, scheduling, soft limits, groups, and
/// variables except those that name the caller.
const PROBE: &str = "\
    grep -E '^Sig(Blk|Ign):' /proc/self/status; \
    echo umask $(umask); \
    echo nice $(cut -d' ' -f19 /proc/self/stat) policy $(cut -d' ' -f41 /proc/self/stat); \
    echo oom $(cat /proc/self/oom_score_adj); \
    sed 's/^\\(.\\{26\\}\\)\\([^ ]*\\).*/\\1\\2/' /proc/self/limits; \
    echo groups $(id -G); \
    env | grep -v -e ^MALAI_CLIENT -e ^SSH_C -e ^_= | sort";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same command, started with everything different that can be: all signals ignored and blocked, another umask,
/// other limits, another niceness, batch scheduling, other groups, another language.
fn by_a_stranger(command: &Command) -> Command {
    let mut script = "umask 077; ulimit -S -n 300; ulimit -S -s 4096; ulimit -S -f 1000000; \
                      ulimit -S -c unlimited 2>/dev/null; exec env --ignore-signal --block-signal "
        .to_owned();
    // Only root can undo the niceness and the groups.
    if is_root() {
        script += "setpriv --groups 4,24 nice -n 5 chrt --batch 0 ";
    }
    let mut stranger = Command::new("sh");
    stranger.args(["-c", &format!("{script} \"$@\""), "sh"]);
    stranger.arg(command.get_program()).args(command.get_args());
    stranger
        .env_clear()
        .env("TERM", "strange")
        .env("LANG", "strange");
    for (name, value) in command.get_envs() {
        stranger.env(name, value.unwrap());
    }
    stranger.current_dir("/").stdin(Stdio::null());
    stranger.stdout(Stdio::piped()).stderr(Stdio::piped());
    stranger
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    finish(command.spawn().expect("malai starts"), Vec::new())
}

/// Starts a daemon with everything different.
#[track_caller]
fn start_by_a_stranger(home: &Home) {
    let output = run(&mut by_a_stranger(&home.command(&["daemon"])));
    assert_eq!(output.code, 0, "{}", output.shown());
    let pid = output.out().split_once("(pid ").unwrap().1;
    home.own(pid.split_once(')').unwrap().0.parse().unwrap());
}

/// A command's output on each route, with a plain client and with one that has everything different.
#[track_caller]
fn on_all_ways(cluster: &Cluster) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for route in cluster.routes() {
        let words = route.args(&["sh", "-c", PROBE]);
        let plain = run(&mut route.home.command(&words));
        found.push((route.name.to_owned(), plain.clean().to_owned()));
        let strange = run(&mut by_a_stranger(&route.home.command(&words)));
        let name = format!("{}, by a stranger", route.name);
        found.push((name, strange.clean().to_owned()));
    }
    let laptop = cluster.machine("laptop");
    let several = ["laptop.company,web01.company", "sh", "-c", PROBE];
    let output = run(&mut laptop.command(&several));
    for machine in ["laptop", "web01"] {
        let prefix = format!("{machine}: ");
        let lines = output
            .clean()
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        found.push((format!("{machine}, one of several"), text));
    }
    found
}

#[track_caller]
fn all_alike(found: &[(String, String)]) -> &str {
    let (first, expected) = &found[0];
    for (name, text) in found {
        assert_eq!(text, expected, "{name}, beside {first}");
    }
    expected
}

/// The daemon of web01 was started with everything different, the manager's was not.
#[test]
fn a_command_finds_the_same_on_all_ways() {
    let cluster = Cluster::new(&["web01", "laptop"]);
    start_by_a_stranger(cluster.machine("web01"));
    cluster.machine("laptop").start();
    start_by_a_stranger(&cluster.manager);
    cluster.rescan_everywhere();
    cluster.machine("laptop").stop();

    let found = on_all_ways(&cluster);
    let text = all_alike(&found);
    let line = |start: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(start));
        found
            .unwrap_or_else(|| panic!("no {start} in {text}"))
            .trim()
    };
    assert_eq!(line("SigBlk:"), "0000000000000000");
    // glibc leaves its own two signals, 32 and 33, ignored in programs that it starts.
    let ignored = u64::from_str_radix(line("SigIgn:"), 16).unwrap();
    assert_eq!(ignored & !(0b11 << 31), 0, "{text}");
    assert_eq!(line("umask"), "0022");
    assert_eq!(line("Max open files"), "1024");
    assert_eq!(line("Max stack size"), "8388608");
    assert_eq!(line("Max core file size"), "0");
    assert_eq!(line("Max file size"), "unlimited");
    assert!(!text.contains("strange"), "{text}");
    if is_root() {
        assert_eq!(line("nice"), "0 policy 0");
    }
}

#[test]
fn another_user_finds_the_same_on_all_ways() {
    if !is_root() {
        eprintln!("skipped: only root may switch users");
        return;
    }
    let cluster = Cluster::new(&["web01", "laptop"]);
    cluster.edit(|text| {
        let allowed = "\nallow_from = \"*\"\n";
        text.replace(allowed, &format!("{allowed}username = \"nobody\"\n"))
    });
    start_by_a_stranger(cluster.machine("web01"));
    cluster.machine("laptop").start();
    cluster.manager.start();
    cluster.rescan_everywhere();
    cluster.machine("laptop").stop();
    let found = on_all_ways(&cluster);
    let text = all_alike(&found);
    assert!(text.contains("USER=nobody"), "{text}");
    assert!(text.contains("nice 0 policy 0"), "{text}");
}

#[test]
fn variables_of_malai_toml_reach_commands_and_path_is_named_where_a_program_is_not_found() {
    let cluster = Cluster::with_routes();
    let programs = cluster.folder().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let hello = programs.join("hello");
    std::fs::write(&hello, "#!/bin/sh\necho hello $GREETED\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&hello, executable).unwrap();
    for route in cluster.routes() {
        let output = route.run(&["hello"]);
        assert_eq!(output.code, 127, "{}", output.shown());
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let expected = format!("malai: hello: command not found in {path}\n");
        assert_eq!(output.stderr, expected);
    }
    let path = format!("{}:/usr/bin:/bin", programs.display());
    for name in ["web01", "laptop"] {
        let settings = cluster.machine(name).path.join("malai.toml");
        let text = format!("[environment]\nPATH = \"{path}\"\nGREETED = \"world\"\n");
        std::fs::write(settings, text).unwrap();
    }
    cluster.machine("web01").succeed(&["rescan"]);
    for route in cluster.routes() {
        assert_eq!(route.run(&["hello"]).clean(), "hello world\n");
        let output = route.run(&["no-such-program"]);
        assert!(
            output.stderr.contains(&format!("not found in {path}")),
            "{}",
            output.shown()
        );
        let output = route.run(&["/no/such/program"]);
        assert_eq!(output.code, 127);
        assert_eq!(output.stderr, "malai: /no/such/program: no such file\n");
    }
    let broken = programs.join("broken");
    std::fs::write(&broken, "#!/no/such/shell\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&broken, executable).unwrap();
    let output = cluster.routes()[0].run(&["broken"]);
    assert_eq!(output.code, 127);
    assert!(
        output.stderr.contains("the interpreter in its first line"),
        "{}",
        output.shown()
    );
}
