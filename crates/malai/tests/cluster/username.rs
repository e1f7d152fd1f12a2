//! `username`: which user a command runs as, what it inherits, and that it never runs as another user.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{ALIAS, Cluster, Home, Output, finish};

/// Whether this test can run; if not, says why.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root may switch users");
    }
    root
}

/// Everything on web01 and laptop runs as this user.
fn runs_as(text: String, user: &str) -> String {
    let allowed = "\nallow_from = \"*\"\n";
    text.replace(allowed, &format!("{allowed}username = \"{user}\"\n"))
}

fn passwd(user: &str) -> Vec<String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(user));
    let line = line.unwrap_or_else(|| panic!("no user {user}"));
    line.split(':').map(str::to_owned).collect()
}

fn numbers(program: &str, user: &str) -> String {
    let output = Command::new("id").args([program, user]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A command's `Uid`, `Gid`, `Groups` and capabilities, according to the kernel.
const STATUS: &str = "grep -E '^(Uid|Gid|Groups|Cap(Inh|Prm|Eff|Amb)):' /proc/self/status";

#[test]
fn a_command_is_its_user_in_everything() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::new(&["web01", "laptop"]);
    cluster.edit(|text| runs_as(text, "nobody"));
    let cluster = running_with_groups(cluster);
    let [_, _, uid, gid, _, home, shell] = &passwd("nobody")[..] else {
        panic!("no such line");
    };
    let groups = numbers("-G", "nobody");
    let directory = match std::fs::metadata(home) {
        Ok(_) => home.as_str(),
        Err(_) => "/",
    };
    for route in cluster.routes() {
        let said = route.run(&["sh", "-c", STATUS]);
        let said: Vec<String> = said
            .clean()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let four = |id: &str| [id; 4].join(" ");
        let expected = [
            format!("Uid: {}", four(uid)),
            format!("Gid: {}", four(gid)),
            format!("Groups: {}", groups.trim()),
            "CapInh: 0000000000000000".to_owned(),
            "CapPrm: 0000000000000000".to_owned(),
            "CapEff: 0000000000000000".to_owned(),
            "CapAmb: 0000000000000000".to_owned(),
        ];
        assert_eq!(said, expected, "{}", route.name);
        assert_eq!(route.run(&["id", "-G"]).clean(), groups);
        assert_eq!(route.run(&["pwd"]).clean(), format!("{directory}\n"));

        let environment = route.run(&["env"]);
        let mut environment: Vec<&str> = environment.clean().lines().collect();
        environment.retain(|line| !line.starts_with("MALAI_CLIENT_") && !line.starts_with("SSH_C"));
        environment.sort_unstable();
        let own = [
            format!("HOME={home}"),
            "LOGNAME=nobody".to_owned(),
            "MALAI_CLUSTER=company".to_owned(),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            format!("SHELL={shell}"),
            "USER=nobody".to_owned(),
        ];
        assert_eq!(environment, own, "{}", route.name);

        let open = route.run(&["ls", "/proc/self/fd"]);
        assert_eq!(
            open.clean(),
            "0\n1\n2\n3\n",
            "{}: ls opens one itself",
            route.name
        );
        // It cannot use what only root may use.
        let key = cluster.machine("laptop").file("machine.private-key");
        let read = route.run(&["cat", key.to_str().unwrap()]);
        assert_eq!(read.code, 1, "{}", read.shown());
        let back = route.run(&["sh", "-c", "kill -0 1"]);
        assert_ne!(back.code, 0, "it may signal process 1");
        // It does not get the terminal that the daemon was started on either.
        let terminal = route.run(&[
            "sh",
            "-c",
            "ps -o tty= -p $$; cut -d' ' -f6 /proc/$$/stat; echo $$",
        ]);
        let words: Vec<&str> = terminal.clean().split_whitespace().collect();
        assert_eq!(words[0], "?");
        assert_eq!(words[1], words[2], "it leads a session of its own");
        assert_eq!(route.run(&["no-such-program"]).code, 127);
        assert_eq!(route.run_with(&["cat"], b"bytes").clean(), "bytes");
    }
}

/// Daemons that inherited supplementary groups and an open file.
fn running_with_groups(cluster: Cluster) -> Cluster {
    let start = |home: &Home| {
        let malai = home.command(&["daemon"]);
        let mut shell = Command::new("sh");
        let script = "exec setpriv --groups 4,24 \"$@\" 7</etc/passwd";
        shell.args(["-c", script, "sh"]);
        shell
            .arg(malai.get_program())
            .args(malai.get_args())
            .env_clear();
        for (name, value) in malai.get_envs() {
            shell.env(name, value.unwrap());
        }
        shell
            .env("LD_LIBRARY_PATH", "/secret")
            .env("SECRET", "secret");
        let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let output = finish(child.unwrap(), Vec::new());
        assert_eq!(output.code, 0, "{}", output.shown());
        home.started(output.out());
    };
    start(cluster.machine("web01"));
    start(cluster.machine("laptop"));
    start(&cluster.manager);
    cluster.rescan_everywhere();
    cluster.machine("laptop").stop();
    cluster
}

/// A daemon that is not root, like the tutorial's service, runs commands only as its own user.
#[test]
fn a_daemon_that_may_not_switch_refuses() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::new(&["web01"]);
    let web01 = cluster.machine("web01");
    let marker = cluster.folder().join("marker");
    cluster.edit(|text| {
        format!(
            "{text}\n[machine.web01.command.other]\ncommand = \"touch {}\"\nusername = \"daemon\"\n[machine.web01.command.root]\ncommand = \"touch {}\"\nusername = \"root\"\n[machine.web01.command.self]\ncommand = \"id -un\"\nusername = \"nobody\"\n",
            marker.display(),
            marker.display()
        )
    });
    // The home now belongs to the user `nobody`, who can reach it along its path.
    let folder = cluster.folder();
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let owner = format!("{}:{}", passwd("nobody")[2], passwd("nobody")[3]);
    let owned = Command::new("chown")
        .arg("-R")
        .arg(owner)
        .arg(&web01.path)
        .status();
    assert!(owned.unwrap().success());
    let binary = folder.join("malai");
    std::fs::copy(env!("CARGO_BIN_EXE_malai"), &binary).unwrap();
    let output = as_nobody(&binary, &web01.command(&["daemon"]));
    assert_eq!(output.code, 0, "{}", output.shown());
    web01.started(output.out());
    cluster.manager.start();
    // Root does not query another user's daemon; that daemon itself announces where it is.
    cluster.manager.succeed(&["rescan", ALIAS]);

    let run = |words: &[&str]| cluster.manager.run(&[&["web01.company"], words].concat());
    assert_eq!(run(&["id", "-un"]).clean(), "nobody\n");
    assert_eq!(run(&["self"]).clean(), "nobody\n");
    run(&["other"]).refused("daemon may not switch to user `daemon`");
    run(&["root"]).refused("daemon may not switch to user `root`");
    assert!(!marker.exists());
    let output = as_nobody(&binary, &web01.command(&["stop"]));
    assert_eq!(output.code, 0, "{}", output.shown());
    web01.wait_for_end();
}

/// Runs a copy of the binary as the user nobody.
fn as_nobody(binary: &Path, malai: &Command) -> Output {
    let mut setpriv = Command::new("setpriv");
    setpriv.args([
        "--reuid",
        "nobody",
        "--regid",
        &passwd("nobody")[3],
        "--clear-groups",
    ]);
    setpriv.arg(binary).args(malai.get_args()).env_clear();
    for (name, value) in malai.get_envs() {
        setpriv.env(name, value.unwrap());
    }
    let child = setpriv
        .current_dir("/")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    finish(child.unwrap(), Vec::new())
}
