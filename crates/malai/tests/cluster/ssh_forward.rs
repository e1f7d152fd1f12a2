//! `malai ssh -L`, `-D` and `-W`, and `malai forward <machine>:<address>`: what a machine reaches, without a service.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStderr, Stdio};
use std::thread;

use rustix::process::Signal;

use crate::forward::{add, answer, echo, error_of, service, tcp, through};
use crate::harness::{Cluster, Home, TEST_TIMEOUT, finish, lives, signal, until};

const WEB01: &str = "\n[machine.web01]\n";

/// Starts `malai ssh`, with standard input open.
fn spawn(home: &Home, args: &[&str]) -> Child {
    let mut command = home.command(&[&["ssh"], args].concat());
    command.stdin(Stdio::piped()).spawn().unwrap()
}

/// A running `malai ssh` with a forwarding of port 0, ended with the test.
struct Ssh {
    child: Child,
    said: BufReader<ChildStderr>,
    port: u16,
}

impl Ssh {
    #[track_caller]
    fn start(home: &Home, args: &[&str]) -> Ssh {
        let mut child = spawn(home, args);
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let port = line
            .strip_prefix("Allocated port ")
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        Ssh {
            port: port.unwrap_or_else(|| panic!("it said {line:?}")),
            child,
            said,
        }
    }

    /// Connects, once it is ready: that it listens is said before.
    fn connect(&self) -> TcpStream {
        connect(self.port)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream
}

#[track_caller]
fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

#[test]
fn a_port_here_leads_to_what_the_machine_reaches() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    cluster.machine("laptop").stop();
    let port = service(echo);
    let to = format!("0:localhost:{port}");
    // By the daemon, without one, and to this computer itself.
    for (home, machine) in [
        (&cluster.manager, "web01.company"),
        (cluster.machine("laptop"), "web01.company"),
        (cluster.machine("web01"), "web01.company"),
        (cluster.machine("laptop"), "laptop.company"),
    ] {
        let ssh = Ssh::start(home, &["-N", "-L", &to, machine]);
        let (mut one, mut other) = (ssh.connect(), ssh.connect());
        echoes(&mut one);
        echoes(&mut other);
    }
    let web01 = cluster.machine("web01");
    let audit = web01.succeed(&["audit", "--json"]);
    let recorded = format!("\"action\":\"connect\",\"to\":\"localhost:{port}\"");
    assert!(audit.contains(&recorded), "{audit}");
    assert!(audit.contains("machine.web01.allow_from: *"), "{audit}");
}

#[test]
fn beside_a_command_and_as_long_as_it() {
    let cluster = Cluster::running(&["web01"]);
    let to = format!("0:127.0.0.1:{}", service(echo));
    let mut ssh = Ssh::start(&cluster.manager, &["-L", &to, "web01.company", "cat"]);
    let mut stream = ssh.connect();
    echoes(&mut stream);
    drop(ssh.child.stdin.take());
    assert!(ssh.child.wait().unwrap().success());
    let ended = error_of(&mut stream).kind();
    assert_eq!(ended, std::io::ErrorKind::ConnectionReset);
    TcpStream::connect(("127.0.0.1", ssh.port)).unwrap_err();
}

#[test]
fn sockets_on_either_side() {
    let cluster = Cluster::running(&["web01"]);
    let there = cluster.folder().join("there.sock");
    let listener = UnixListener::bind(&there).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard);
            let _ = stream.write_all(&heard);
        }
    });
    let boss = &cluster.manager;
    let to = format!("0:{}", there.display());
    let ssh = Ssh::start(boss, &["-N", "-L", &to, "web01.company"]);
    let mut stream = ssh.connect();
    stream.write_all(b"by port").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "by port");

    let here = cluster.folder().join("here.sock");
    let both = format!("{}:{}", here.display(), there.display());
    let child = spawn(boss, &["-L", &both, "web01.company", "cat"]);
    until("the socket", || here.exists());
    assert_eq!(through(&here, b"by socket"), b"by socket");
    assert_eq!(finish(child, Vec::new()).code, 0);
    assert!(!here.exists(), "it is removed at the end");
}

#[test]
fn standard_streams_are_the_connection() {
    let cluster = Cluster::running(&["web01"]);
    let boss = &cluster.manager;
    let to = format!("localhost:{}", service(answer));
    let output = boss.run_with(&["ssh", "-W", &to, "web01.company"], b"by pipe");
    assert_eq!(
        (output.code, output.out(), &*output.stderr),
        (0, "by pipe", "")
    );
    let ad_hoc = format!("web01.company:{to}");
    let output = boss.run_with(&["forward", "-", &ad_hoc], b"ad hoc");
    assert_eq!((output.code, output.out()), (0, "ad hoc"));
    let closed = format!("127.0.0.1:{}", free_port());
    boss.run(&["ssh", "-W", &closed, "web01.company"])
        .refused("connection refused: nothing listens there");
}

/// Asks a SOCKS 5 proxy for a name and a port; returns its code.
fn socks(stream: &mut TcpStream, host: &str, port: u16) -> u8 {
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, 1, 0, 3, host.len() as u8];
    request.extend(host.bytes());
    request.extend(port.to_be_bytes());
    stream.write_all(&request).unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();
    answer[1]
}

#[test]
fn a_proxy_asks_each_client_where_it_wants_to() {
    let cluster = Cluster::running(&["web01"]);
    let port = service(echo);
    let mut ssh = Ssh::start(&cluster.manager, &["-N", "-D", "0", "web01.company"]);
    let mut stream = ssh.connect();
    assert_eq!(socks(&mut stream, "localhost", port), 0);
    echoes(&mut stream);
    // SOCKS 4a, with the first bytes at once.
    let mut stream = ssh.connect();
    let mut request = vec![4, 1];
    request.extend(port.to_be_bytes());
    request.extend(b"\0\0\0\x01me\0localhost\0early");
    stream.write_all(&request).unwrap();
    let mut heard = [0; 13];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!((heard[1], &heard[8..]), (90, &b"early"[..]));

    let closed = free_port();
    let mut stream = ssh.connect();
    assert_eq!(socks(&mut stream, "localhost", closed), 5, "refused");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert!(ssh.line().contains("nothing listens there"));
    cluster.edit(|text| text.replace(WEB01, &format!("{WEB01}allow_forward = []\n")));
    cluster.rescan_everywhere();
    let mut stream = ssh.connect();
    assert_eq!(socks(&mut stream, "localhost", port), 2, "not allowed");
}

#[test]
fn it_needs_the_right_and_loses_it_at_once() {
    let cluster = Cluster::running(&["web01"]);
    let port = service(echo);
    add(&cluster, &[], &tcp("open", "web01", port));
    let boss = &cluster.manager;
    let to = format!("0:localhost:{port}");
    let mut ssh = Ssh::start(boss, &["-N", "-L", &to, "web01.company"]);
    let mut stream = ssh.connect();
    echoes(&mut stream);
    cluster.edit(|text| text.replace(WEB01, &format!("{WEB01}allow_forward = \"web01\"\n")));
    cluster.rescan_everywhere();
    let ended = error_of(&mut stream).kind();
    assert_eq!(ended, std::io::ErrorKind::ConnectionReset);
    let said = ssh.line();
    assert!(
        said.contains("the configuration no longer allows it"),
        "{said}"
    );
    error_of(&mut ssh.connect());
    let said = ssh.line();
    let why = "machine.web01.allow_forward does not allow you to forward ports";
    assert!(said.contains(why), "{said}");
    let asked = format!("web01.company:localhost:{port}");
    let told = boss.run(&["why", "boss", &asked]);
    assert_eq!(told.code, 1);
    let expected = format!(
        "❌ refused: boss may not connect to {asked}\n   because  not in machine.web01.allow_forward\n"
    );
    assert!(told.out().starts_with(&expected), "{}", told.shown());
    // A service is another right.
    let output = boss.run_with(&["forward", "-", "open.company"], b"");
    output.clean();
}

#[test]
fn what_cannot_be_set_up_is_said_and_may_be_the_end() {
    let cluster = Cluster::running(&["web01"]);
    let boss = &cluster.manager;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("{}:localhost:1", taken.local_addr().unwrap().port());
    let words = "another program already does";
    let output = boss.run(&["ssh", "-L", &to, "web01.company", "echo", "on"]);
    assert_eq!((output.code, output.out()), (0, "on\n"));
    assert!(output.stderr.contains(words), "{}", output.shown());
    let strict = ["ssh", "-o", "ExitOnForwardFailure=yes", "-L"];
    boss.run(&[&strict[..], &[&*to, "web01.company", "echo", "on"]].concat())
        .refused(words);
    // scp and sftp ask for none.
    let cleared = ["ssh", "-L", &to, "-o", "ClearAllForwardings=yes"];
    boss.run(&[&cleared[..], &["web01.company", "echo", "on"]].concat())
        .clean();
    for (wrong, why) in [
        ("8080", "it is not [bind:]port:host:hostport"),
        ("8080:h", "it is not [bind:]port:host:hostport"),
        ("h:8080:h:x", "`h:x` has no valid port"),
    ] {
        boss.run(&["ssh", "-L", wrong, "web01.company", "true"])
            .refused(why);
    }
    boss.run(&["ssh", "-W", "h:1", "web01.company", "true"])
        .refused("no command can run");
}

#[test]
fn in_the_background_once_it_listens() {
    let cluster = Cluster::running(&["web01"]);
    let port = free_port();
    let to = format!("{port}:localhost:{}", service(echo));
    let boss = &cluster.manager;
    boss.run(&["ssh", "-fN", "-L", &to, "web01.company"])
        .clean();
    echoes(&mut connect(port));
    let running = crate::harness::processes_of(&boss.path);
    let ssh = running.into_iter().find(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(&to)
    });
    let ssh = ssh.unwrap();
    signal(ssh, Signal::TERM);
    until("its end", || !lives(ssh));
}
