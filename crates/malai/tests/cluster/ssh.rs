//! `malai ssh`: lines, users, the environment, one stream for both outputs, the sftp subsystem, and a link named ssh.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::{Cluster, finish, lives, processes_of, signal, until};
use crate::terminal::Terminal;

/// A cluster with these lines in the section of web01.
fn with_rules(rules: &str) -> Cluster {
    let cluster = Cluster::running(&["web01"]);
    cluster.edit(|text| {
        let (before, section) = text.rsplit_once("[machine.web01]").expect("the section");
        let section = section.replacen("allow_from = \"*\"\n", &format!("{rules}\n"), 1);
        format!("{before}[machine.web01]{section}")
    });
    cluster.rescan_everywhere();
    cluster
}

#[test]
fn a_line_is_run_by_the_login_shell_and_plain_words_by_no_shell() {
    let cluster = with_rules("allow_from = \"*\"");
    let ssh = |words: &[&str]| {
        cluster
            .manager
            .run(&[&["ssh", "web01.company"], words].concat())
    };
    let said = ssh(&["echo", "out;", "echo err >&2; exit 7"]);
    assert_eq!((said.code, said.out()), (7, "out\n"), "{}", said.shown());
    assert!(said.stderr.ends_with("err\n"), "{}", said.shown());
    assert_eq!(
        ssh(&["printf", "'%s.'", "$((1+2))", "*.nothing"]).of_login_shell(),
        "3.*.nothing."
    );
    assert_eq!(ssh(&["ls", "-d", "'/'"]).of_login_shell(), "/\n");
    let closed = with_rules("allow_from = \"*\"\nallow_shell = []");
    let ssh = |words: &[&str]| {
        closed
            .manager
            .run(&[&["ssh", "web01.company"], words].concat())
    };
    assert_eq!(ssh(&["ls", "-d", "/"]).clean(), "/\n");
    ssh(&["ls -d /; id"]).refused("machine.web01.allow_shell does not allow you");
    ssh(&["-s", "sftp"]).refused("machine.web01.allow_shell does not allow you to copy files");
}

#[test]
fn a_caller_asks_for_a_user_and_sends_variables() {
    let cluster = with_rules("allow_from = \"*\"\naccept_env = \"APP_* LANG\"");
    let manager = &cluster.manager;
    manager
        .run(&["root@web01.company", "id"])
        .refused("machine.web01.username does not allow you to run as user `root`; it is not set");
    let script = "echo $APP_A-$OTHER-$LANG";
    let said = manager.run(&[
        "--env",
        "APP_A=1",
        "--env",
        "OTHER=2",
        "web01.company",
        "sh",
        "-c",
        script,
    ]);
    assert!(said.clean().starts_with("1--"), "{}", said.shown());
    let said = manager.run(&["ssh", "-oSetEnv=APP_A=3", "web01.company", script]);
    assert!(said.of_login_shell().starts_with("3--"), "{}", said.shown());
    let said = manager.run(&["ssh", "web01.company", "echo $SSH_CONNECTION"]);
    assert_eq!(
        said.of_login_shell().split_whitespace().count(),
        4,
        "{}",
        said.shown()
    );
    manager
        .run(&["--env", "NOT_SET_ANYWHERE", "web01.company", "true"])
        .refused("--env NOT_SET_ANYWHERE: it is not set here");
}

#[test]
fn outputs_that_are_one_file_stay_in_order() {
    let cluster = Cluster::with_routes();
    let path = cluster.folder().join("both");
    let script = "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done";
    for route in cluster.routes() {
        let file = std::fs::File::create(&path).unwrap();
        let mut command = route.home.command(&route.args(&["sh", "-c", script]));
        let status = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .status()
            .unwrap();
        assert!(status.success());
        let text = std::fs::read_to_string(&path).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(
            words,
            ["o1", "e1", "o2", "e2", "o3", "e3", "o4", "e4", "o5", "e5"],
            "{}",
            route.name
        );
    }
}

#[test]
fn the_sftp_subsystem_answers_and_ends_with_its_client() {
    let cluster = with_rules("allow_from = \"*\"");
    let init = [0, 0, 0, 5, 1, 0, 0, 0, 3];
    let said = cluster
        .manager
        .run_with(&["ssh", "-s", "web01.company", "sftp"], &init);
    assert_eq!(said.code, 0, "{}", said.shown());
    assert_eq!(said.stdout[4..9], [2, 0, 0, 0, 3], "{}", said.shown());
    assert!(
        said.stdout
            .windows(12)
            .any(|window| window == b"posix-rename")
    );
    let said = cluster
        .manager
        .run_with(&["ssh", "-s", "web01.company", "netconf"], &init);
    said.refused("there is no subsystem `netconf` here");
}

#[test]
fn a_link_named_ssh_hands_other_hosts_on() {
    let cluster = with_rules("allow_from = \"*\"");
    let (shim, other) = (
        cluster.folder().join("shim"),
        cluster.folder().join("other"),
    );
    std::fs::create_dir(&other).unwrap();
    let next = other.join("ssh");
    std::fs::write(&next, "#!/bin/sh\necho \"other: $*\"\n").unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(&shim).unwrap();
    symlink(env!("CARGO_BIN_EXE_malai"), shim.join("ssh")).unwrap();
    let ssh = |words: &[&str]| {
        let malai = cluster.manager.command(&[] as &[&str]);
        let mut command = Command::new(shim.join("ssh"));
        for (name, value) in malai.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let path = format!("{}:{}:/usr/bin:/bin", shim.display(), other.display());
        let child = command
            .args(words)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        finish(child, Vec::new())
    };
    assert_eq!(
        ssh(&["-p", "22", "web01.company", "ls", "-d", "/"]).clean(),
        "/\n"
    );
    assert_eq!(
        ssh(&["-p", "22", "-oFoo=bar", "git@example.org", "x y"]).clean(),
        "other: -p 22 -oFoo=bar git@example.org x y\n"
    );
    let version = ssh(&["-V"]);
    assert!(
        version.code == 0 && version.stderr.contains("OpenSSH"),
        "{}",
        version.shown()
    );
}

/// An sftp packet of this type, with these parts of its body.
fn packet(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let length = u32::try_from(body.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[kind], &body].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

/// Packets that create a file, write five bytes to it, and leave it open.
fn writes(path: &std::path::Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let id = [0; 4];
    [
        packet(1, &[&3u32.to_be_bytes()]),
        packet(
            3,
            &[
                &id,
                &string(path.as_os_str().as_bytes()),
                &0x1au32.to_be_bytes(),
                &[0; 4],
            ],
        ),
        packet(6, &[&id, &string(&[0; 4]), &[0; 8], &string(b"12345")]),
    ]
    .concat()
}

#[test]
fn files_are_in_the_audit_record_where_they_are() {
    let cluster = with_rules("allow_from = \"*\"");
    let web01 = cluster.machine("web01");
    let path = cluster.folder().join("a b");
    let said = cluster
        .manager
        .run_with(&["ssh", "-s", "web01.company", "sftp"], &writes(&path));
    assert_eq!(said.code, 0, "{}", said.shown());
    let shown = web01.run(&["audit"]);
    let lines: Vec<&str> = shown.out().lines().collect();
    let with = |what: &str| lines.iter().position(|line| line.contains(what));
    let quoted = format!("'{}'", path.display());
    let (start, made, written, end) = (
        with(" started ").unwrap(),
        with(&format!("/1 {quoted} · as ")).unwrap(),
        with(&format!("/1 {quoted} · 5 bytes · as ")).unwrap(),
        with(" ended ").unwrap(),
    );
    assert!(lines[made].contains(" created ") && lines[written].contains(" written "));
    assert!(
        start < made && made < written && written < end,
        "{lines:#?}"
    );
    let shown = web01.run(&["audit", "--json"]);
    assert!(
        shown.out().contains(r#""event":"file""#) && shown.out().contains(r#""change":"written""#),
        "{}",
        shown.shown()
    );
    // If arguments are not recorded, file names are not either.
    std::fs::write(web01.path.join("malai.toml"), "audit_arguments = false\n").unwrap();
    web01.run(&["rescan"]);
    let said = cluster
        .manager
        .run_with(&["ssh", "-s", "web01.company", "sftp"], &writes(&path));
    assert_eq!(said.code, 0, "{}", said.shown());
    let shown = web01.run(&["audit"]);
    assert!(
        shown.out().contains("/2 (a file) · 5 bytes"),
        "{}",
        shown.shown()
    );
}

#[test]
fn a_client_that_is_killed_leaves_no_sftp_server() {
    use std::io::{Read, Write};
    let cluster = with_rules("allow_from = \"*\"");
    let web01 = cluster.machine("web01");
    let path = cluster.folder().join("left");
    let mut client = cluster
        .manager
        .command(&["ssh", "-s", "web01.company", "sftp"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(&writes(&path)).unwrap();
    // After three answers, the client is in the middle of a file.
    let mut answers = [0; 4];
    let mut stdout = client.stdout.take().unwrap();
    for _ in 0..3 {
        stdout.read_exact(&mut answers).unwrap();
        let mut rest = vec![0; u32::from_be_bytes(answers) as usize];
        stdout.read_exact(&mut rest).unwrap();
    }
    let record = || web01.run(&["audit"]).out().to_owned();
    assert!(record().contains(" created "), "{}", record());
    client.kill().unwrap();
    client.wait().unwrap();
    let killed = std::time::Instant::now();
    until("the session ends", || record().contains(" ended "));
    assert!(
        killed.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    // The file that was open is in the record, before the end.
    let shown = record();
    assert!(shown.find(" written ") < shown.find(" ended "), "{shown}");
    assert!(shown.contains(" written "), "{shown}");
    assert_eq!(servers_of(web01), Vec::<String>::new());
}

/// The sftp servers that a home's daemon has started and that still run.
fn servers_of(home: &crate::harness::Home) -> Vec<String> {
    let daemon = home.pid().to_string();
    let children = format!("/proc/{daemon}/task");
    let mut found = Vec::new();
    for task in std::fs::read_dir(children).unwrap().flatten() {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in text.split_whitespace() {
            let line =
                std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if line.contains("sftp-server") {
                found.push(line);
            }
        }
    }
    found
}

#[test]
fn a_local_command_runs_here_once_where_it_is_permitted() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let path = cluster.folder().join("here");
        let local = format!("-oLocalCommand=echo %h >>{}", path.display());
        let target = route.args(&[""])[0].to_str().unwrap().to_owned();
        let run = |permitted: &str| {
            let permit = format!("-oPermitLocalCommand={permitted}");
            route.home.run(&["ssh", &permit, &local, &target, "exit 3"])
        };
        assert_eq!(run("no").code, 3);
        assert!(!path.exists(), "{}", route.name);
        let said = run("yes");
        assert_eq!(said.code, 3, "{}", said.shown());
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, format!("{target}\n"), "{}", route.name);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_command_goes_to_the_background_once_it_has_started() {
    let cluster = Cluster::with_routes();
    for (number, route) in cluster.routes().iter().enumerate() {
        let (fifo, out) = (
            cluster.folder().join(format!("fifo{number}")),
            cluster.folder().join(format!("out{number}")),
        );
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        // The command outlives the first process: it waits for the FIFO. Its output is a file, since the reader of a pipe
        // would wait for the command, as with ssh.
        let line = format!("cat {} && echo done", fifo.display());
        let mut command = route.home.command(&["ssh", "-f", route.target, &line]);
        let status = command
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out).unwrap())
            .status()
            .unwrap();
        assert!(status.success(), "{}", route.name);
        assert_eq!(std::fs::read(&out).unwrap(), b"", "{}", route.name);
        std::fs::write(&fifo, "later\n").unwrap();
        until("the output", || {
            std::fs::read(&out).is_ok_and(|text| text.ends_with(b"later\ndone\n"))
        });
    }
    let manager = &cluster.manager;
    let said = manager.run(&["ssh", "-f", "nothing.company", "true"]);
    said.refused("unknown machine `nothing` in cluster `company`");
    let said = manager.run(&["ssh", "-f", "web01.company"]);
    said.refused("-f: there is no command to run in the background");
}

#[test]
fn a_connection_without_a_command_is_kept_and_holds_no_pipe() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    let before = processes_of(&manager.path);
    // This reads the outputs to their end, so the process in the background has closed them.
    let said = manager.run(&["ssh", "-fN", "web01.company"]);
    assert_eq!(said.clean(), "");
    let mut kept = processes_of(&manager.path);
    kept.retain(|pid| !before.contains(pid));
    let [pid] = kept[..] else {
        panic!("{kept:?}");
    };
    let session = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(session.split(' ').nth(5), Some(&pid.to_string()[..]));
    signal(pid, Signal::TERM);
    until("its end", || !lives(pid));
    let said = manager.run(&["ssh", "-N", "nothing.company"]);
    said.refused("unknown machine `nothing` in cluster `company`");
    let said = manager.run(&["ssh", "-q", "nothing.company", "true"]);
    assert_eq!((said.code, &said.stderr[..]), (255, ""));
}

#[test]
fn the_escape_character_of_a_terminal_is_chosen() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        let words = ["ssh", "-e%", "-tt", route.target, "cat"];
        let mut terminal = Terminal::start(&route.home.command(&words));
        terminal.types("one\r");
        terminal.see("one");
        terminal.types("~.\r");
        terminal.see("~.");
        terminal.types("%?");
        terminal.see("%^Z  suspend");
        terminal.types("%.");
        terminal.see("was ended (%.)");
        assert_eq!(terminal.code(), 255, "{}", route.name);
    }
}
