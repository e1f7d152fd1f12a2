//! Another user of the same computer owns the folder that `MALAI_HOME` names, or has put something into a home: malai
//! trusts nothing of it, and sends nothing to it. These tests need root, to act as two users.

use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use malai_wire::control;

use crate::harness::{Cluster, Home, TEST_TIMEOUT, finish};

/// A different user.
const OTHER: u32 = 12345;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A fake daemon: greets like a real one, reads until the end, and returns what it was sent. It runs as this user; the
/// tests change whose it appears to be.
fn listen(home: &Path) -> std::thread::JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(home.join("malai.socket")).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let _ = stream.write_all(&control::preamble(control::VERSION));
        let mut sent = Vec::new();
        let _ = stream.read_to_end(&mut sent);
        sent
    })
}

/// Every command that asks a daemon or reads the home.
const VERBS: &[&[&str]] = &[
    &["web01.company", "cat"],
    &["exec", "web01.company", "cat"],
    &["shell", "web01.company"],
    &["status"],
    &["sessions"],
    &["stop"],
    &["rescan"],
    &["rescan", "--check"],
    &["why", "web01", "web01.company"],
    &["audit"],
    &["logs"],
    &["daemon"],
    &["cluster", "init", "mine"],
];

#[test]
fn root_sends_nothing_to_the_daemon_of_another_users_home() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    std::fs::create_dir(&home.path).unwrap();
    let heard = listen(&home.path);
    for path in [&home.path.join("malai.socket"), &home.path] {
        lchown(path, Some(OTHER), Some(OTHER)).unwrap();
    }
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "only root may read this").unwrap();
    for verb in VERBS {
        let mut command = home.command(verb);
        command.stdin(std::fs::File::open(&secret).unwrap());
        let output = finish(command.spawn().unwrap(), Vec::new());
        assert_ne!(output.code, 0, "{verb:?}: {}", output.shown());
        assert!(output.stdout.is_empty(), "{verb:?}: {}", output.shown());
        assert!(
            output.stderr.contains("belongs to user id 12345"),
            "{verb:?}: {}",
            output.shown()
        );
    }
    // doctor says what is wrong, and does not connect either.
    let said = home.run(&["doctor"]);
    assert!(
        said.out().contains("belongs to user 12345"),
        "{}",
        said.shown()
    );
    // Nobody has connected before: this is the first connection.
    drop(std::os::unix::net::UnixStream::connect(home.path.join("malai.socket")).unwrap());
    assert_eq!(heard.join().unwrap(), b"");
}

/// The home belongs to this user; the process that listens in it does not.
#[test]
fn nothing_is_sent_to_a_socket_that_another_user_listens_on() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    mode(folder.path(), 0o755);
    let home = Home::at(folder.path().join("home"));
    std::fs::create_dir(&home.path).unwrap();
    mode(&home.path, 0o777);
    let socket = home.path.join("malai.socket");
    // Greets each client, and prints what it reads.
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(9); print('ready', flush=True)\n\
        while True:\n  c, _ = s.accept(); c.settimeout(9)\n  try: c.sendall(b'malai/\\0\\1')\n  except OSError: pass\n  try: print(len(c.recv(99)), flush=True)\n  except OSError: print(0, flush=True)";
    let Some(python) = ["/usr/bin/python3", "/usr/local/bin/python3"]
        .into_iter()
        .find(|python| Path::new(python).exists())
    else {
        return;
    };
    let mut listener = Command::new("setpriv")
        .args(["--reuid", "12345", "--regid", "12345", "--clear-groups"])
        .args([python, "-c", script])
        .arg(&socket)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    listener
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    for verb in [
        &["web01.company", "true"][..],
        &["exec", "web01.company", "true"],
    ] {
        let output = home.run(verb);
        let said = format!(
            "{}{}",
            output.stderr,
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(
            said.contains("belongs to user id 12345") && said.contains("nothing was sent"),
            "{verb:?}: {}",
            output.shown()
        );
        assert_ne!(output.code, 0, "{verb:?}");
    }
    let _ = listener.kill();
    let mut heard = String::new();
    listener
        .stdout
        .as_mut()
        .unwrap()
        .read_to_string(&mut heard)
        .unwrap();
    listener.wait().unwrap();
    assert!(heard.lines().all(|line| line == "0"), "{heard}");
}

/// Files in a home are used only if its owner or root put them there.
#[test]
fn files_that_another_user_has_put_into_a_home_are_refused() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::new(&["web01"]);
    let web01 = cluster.machine("web01");
    let settings = web01.path.join("malai.toml");
    std::fs::write(&settings, "[aliases]\nx = \"web01.company\"\n").unwrap();
    let log = web01.path.join("malai.log");
    let audit = web01.path.join("audit.jsonl");
    let addresses = web01.file("addresses");
    for path in [&log, &audit, &addresses] {
        std::fs::write(path, "").unwrap();
    }
    let refuses = |what: &Path, verb: &[&str]| {
        lchown(what, Some(OTHER), None).unwrap();
        let output = web01.run(verb);
        let said = format!(
            "{}{}",
            output.stderr,
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(
            said.contains("belongs to user id 12345"),
            "{verb:?} with {}: {}",
            what.display(),
            output.shown()
        );
        lchown(what, Some(0), None).unwrap();
    };
    refuses(&settings, &["x", "true"]);
    refuses(&settings, &["rescan", "--check"]);
    refuses(&web01.file("machine.private-key"), &["rescan", "--check"]);
    refuses(&web01.file("machine.private-key"), &["daemon"]);
    refuses(&web01.file("manager"), &["rescan", "--check"]);
    refuses(&web01.file(""), &["rescan", "--check"]);
    refuses(&audit, &["audit"]);
    refuses(&log, &["daemon"]);
    refuses(&log, &["logs"]);
    // The same through a link that the other user made; root may link anywhere.
    let elsewhere = cluster.folder().join("malai.toml");
    std::fs::rename(&settings, &elsewhere).unwrap();
    symlink(&elsewhere, &settings).unwrap();
    refuses(&settings, &["x", "true"]);
    lchown(&elsewhere, Some(OTHER), None).unwrap();
    web01.start();
    cluster.manager.start();
    cluster.rescan_everywhere();
    assert_eq!(web01.run(&["x", "echo", "on"]).clean(), "on\n");
    web01.stop();
    // But a key may never belong to another user.
    let key = web01.file("machine.private-key");
    let kept = cluster.folder().join("key");
    std::fs::rename(&key, &kept).unwrap();
    symlink(&kept, &key).unwrap();
    lchown(&kept, Some(OTHER), None).unwrap();
    let output = web01.run(&["daemon"]);
    assert!(
        output.stderr.contains("belongs to user id 12345"),
        "{}",
        output.shown()
    );
}

/// A user who can change a folder on its path can replace the home.
#[test]
fn a_home_on_a_way_that_others_can_change_is_refused() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let between = folder.path().join("between");
    let home = Home::at(between.join("home"));
    std::fs::create_dir_all(&home.path).unwrap();
    mode(&between, 0o777);
    let output = home.run(&["status"]);
    assert!(
        output
            .stderr
            .contains("(mode 0777), and with it what malai reads there"),
        "{}",
        output.shown()
    );
    mode(&between, 0o755);
    lchown(&between, Some(OTHER), None).unwrap();
    let output = home.run(&["status"]);
    assert!(
        output.stderr.contains("belongs to user id 12345"),
        "{}",
        output.shown()
    );
    lchown(&between, Some(0), None).unwrap();
    assert!(home.run(&["status"]).stderr.is_empty());
}
