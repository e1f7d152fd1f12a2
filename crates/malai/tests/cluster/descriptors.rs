//! The caller's own files: used at their current position, with their flags left unchanged.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::harness::{Cluster, Route, finish};

#[test]
fn input_from_a_file_at_its_offset_a_pipe_and_a_socket() {
    let cluster = Cluster::with_routes();
    let path = cluster.folder().join("input");
    let text: String = (0..100_000).map(|i| format!("{i}\n")).collect();
    fs::write(&path, &text).unwrap();
    for route in cluster.routes() {
        let run = |stdin: Stdio| {
            let child = route
                .home
                .command(&route.args(&["cat"]))
                .stdin(stdin)
                .spawn();
            finish(child.unwrap(), Vec::new())
        };
        let mut file = File::open(&path).unwrap();
        file.seek(SeekFrom::Start(100)).unwrap();
        assert!(run(file.try_clone().unwrap().into()).clean() == &text[100..]);
        // The caller's file position shows how far it was read.
        assert_eq!(
            file.stream_position().unwrap(),
            text.len() as u64,
            "{}",
            route.name
        );

        let (ours, theirs) = UnixStream::pair().unwrap();
        let sent = text.clone();
        let sender = std::thread::spawn(move || {
            (&ours).write_all(sent.as_bytes()).unwrap();
            ours.shutdown(Shutdown::Write).unwrap();
        });
        assert!(run(OwnedFd::from(theirs).into()).clean() == text);
        sender.join().unwrap();
        assert!(route.run_with(&["cat"], text.as_bytes()).clean() == text);
    }
}

#[test]
fn output_to_a_file_appended_and_at_an_offset() {
    let cluster = Cluster::with_routes();
    let path = cluster.folder().join("output");
    for route in cluster.routes() {
        fs::write(&path, "before\n").unwrap();
        let run = |stdout: File| {
            let child = route
                .home
                .command(&route.args(&["echo", "added"]))
                .stdout(stdout)
                .spawn();
            assert_eq!(finish(child.unwrap(), Vec::new()).clean(), "");
        };
        run(OpenOptions::new().append(true).open(&path).unwrap());
        run(OpenOptions::new().append(true).open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nadded\nadded\n");
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(3)).unwrap();
        run(file.try_clone().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "befadded\nded\nadded\n");
        file.write_all(b"|").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "befadded\n|ed\nadded\n");
    }
}

/// Opens each kind of descriptor, runs malai on it, and compares F_GETFL of descriptors that share the open file
/// before, during and after the run.
const FLAGS: &str = r#"
import fcntl, os, pty, socket, subprocess, sys, tempfile, threading
malai, target = sys.argv[1:3]
def drain(fd):
    try:
        while os.read(fd, 65536): pass
    except OSError: pass
def pair(kind):
    if kind == 'pipe': return os.pipe()
    if kind == 'socket':
        a, b = socket.socketpair(); return a.detach(), b.detach()
    if kind == 'pty':
        a, b = pty.openpty(); return a, b
    f = tempfile.TemporaryFile(); return None, os.dup(f.fileno())
failed = []
for kind in ['pipe', 'file', 'socket', 'pty']:
  for place in [0, 1, 2]:
    far, near = pair(kind)
    if kind == 'pipe' and place == 0: far, near = near, far
    std = [subprocess.DEVNULL] * 3
    std[place] = near
    script = 'read line' if place == 0 else 'echo hello; echo hello >&2'
    before = fcntl.fcntl(near, fcntl.F_GETFL)
    if place == 0 and kind != 'file': os.write(far, b'hello\n')
    threads = []
    if far is not None and place != 0:
        threads = [threading.Thread(target=drain, args=(far,), daemon=True)]
        threads[0].start()
    child = subprocess.Popen([malai, target, 'sh', '-c', script], stdin=std[0], stdout=std[1], stderr=std[2])
    during = set()
    while child.poll() is None: during.add(fcntl.fcntl(near, fcntl.F_GETFL))
    after = fcntl.fcntl(near, fcntl.F_GETFL)
    during.discard(before)
    expected = 1 if kind == 'file' and place == 0 else 0
    if after != before or during or child.returncode != expected:
        failed.append((kind, place, oct(before), oct(after), sorted(map(oct, during)), child.returncode))
    os.close(near)
    if far is not None: os.close(far)
print(failed)
"#;

fn flags(route: &Route<'_>) -> String {
    let malai = route.home.command(&[] as &[&str]);
    let mut python = Command::new("python3");
    python
        .args(["-c", FLAGS])
        .arg(malai.get_program())
        .arg(route.target);
    for (name, value) in malai.get_envs() {
        python.env(name, value.unwrap());
    }
    let child = python
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn();
    finish(child.expect("python3"), Vec::new())
        .clean()
        .to_owned()
}

#[test]
fn flags_stay_as_they_were() {
    let cluster = Cluster::with_routes();
    for route in cluster.routes() {
        assert_eq!(
            flags(&route),
            "[]\n",
            "{}: kind, place, before, after, during, code",
            route.name
        );
    }
}
