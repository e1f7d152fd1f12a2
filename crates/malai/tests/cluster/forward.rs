//! `malai forward`: connections to services of other machines, with their half-closes, resets and ends as they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Cluster, Home, TEST_TIMEOUT, finish, signal, until};

/// A running `malai forward`, ended with the test.
pub struct Forward {
    child: Option<Child>,
    /// Where it listens, as it said.
    pub place: String,
    said: BufReader<std::process::ChildStderr>,
}

impl Forward {
    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(home: &Home, listen: &str, service: &str) -> Forward {
        let mut child = home.spawn(&["forward", listen, service]);
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let rest = line.strip_prefix("malai: forwarding ");
        let rest = rest.unwrap_or_else(|| panic!("it said {line:?}"));
        let (place, _) = rest.split_once(" to ").unwrap();
        Forward {
            child: Some(child),
            place: place.to_owned(),
            said,
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.place).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream
    }

    /// The next thing that it says.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(mut self) -> i32 {
        let child = self.child.take().unwrap();
        signal(child.id(), Signal::INT);
        finish(child, Vec::new()).code
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A service on a free port; each connection is handled by this.
pub(crate) fn service(handle: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test program.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || handle(stream));
        }
    });
    port
}

/// Reads to the end, then answers with what it read, and closes.
pub(crate) fn answer(mut stream: TcpStream) {
    let mut heard = Vec::new();
    if stream.read_to_end(&mut heard).is_ok() {
        let _ = stream.write_all(&heard);
    }
}

/// Says that it is there and ends that direction; then reads to the end and says how much that was on the other port.
fn greet(mut stream: TcpStream) {
    let _ = stream.write_all(b"ready");
    let _ = stream.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    if let Ok(port) = String::from_utf8(heard).unwrap().parse::<u16>() {
        let _ = TcpStream::connect(("127.0.0.1", port));
    }
}

/// How a stream that has nothing to read ends. A signal to this process, which has other tests, is not an end.
pub(crate) fn error_of(stream: &mut TcpStream) -> std::io::Error {
    loop {
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other.unwrap_err(),
        }
    }
}

/// Sends back each byte.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut heard = stream.try_clone().unwrap();
    let _ = std::io::copy(&mut heard, &mut stream);
}

/// Closes with a byte unread, which makes it a reset.
fn reset(stream: TcpStream) {
    let mut byte = [0];
    let _ = stream.peek(&mut byte);
}

fn section(name: &str, machine: &str, address: &str) -> String {
    format!("\n[service.{name}]\nmachine = \"{machine}\"\n{address}\nallow_from = \"*\"\n")
}

pub(crate) fn tcp(name: &str, machine: &str, port: u16) -> String {
    section(name, machine, &format!("tcp = \"127.0.0.1:{port}\""))
}

#[track_caller]
pub(crate) fn add(cluster: &Cluster, away: &[&str], sections: &str) {
    cluster.edit(|text| format!("{text}{sections}"));
    cluster.rescan_except(away);
}

#[test]
fn bytes_and_half_closes_pass_on_every_route() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let (answers, greets) = (service(answer), service(greet));
    let sections = ["web01", "laptop"].map(|machine| {
        let port = tcp(&format!("answer-{machine}"), machine, answers);
        port + &tcp(&format!("greet-{machine}"), machine, greets)
    });
    add(&cluster, &[], &sections.concat());
    cluster.machine("laptop").stop();
    let (web01, laptop) = (cluster.machine("web01"), cluster.machine("laptop"));
    for (home, machine) in [
        (&cluster.manager, "web01"),
        (laptop, "web01"),
        (web01, "web01"),
        (laptop, "laptop"),
    ] {
        // The client ends first, with more than any buffer on the way holds.
        let forward = Forward::start(home, "0", &format!("answer-{machine}.company"));
        let sent: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut stream = forward.connect();
        let mut writer = stream.try_clone().unwrap();
        let bytes = sent.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        writing.join().unwrap();
        assert!(heard == sent, "{} of {} bytes", heard.len(), sent.len());
        assert_eq!(forward.interrupt(), 130);

        // The service ends first, and still reads.
        let forward = Forward::start(home, "0", &format!("greet-{machine}.company"));
        let done = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = forward.connect();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "ready");
        let port = done.local_addr().unwrap().port();
        stream.write_all(port.to_string().as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        done.accept().unwrap();
    }
}

#[test]
fn a_reset_is_a_reset_at_the_other_end() {
    let cluster = Cluster::running(&["web01"]);
    let told = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = told.local_addr().unwrap().port();
    add(
        &cluster,
        &[],
        &(tcp("reset", "web01", service(reset)) + &tcp("told", "web01", port)),
    );
    let forward = Forward::start(&cluster.manager, "0", "reset.company");
    let mut stream = forward.connect();
    stream.write_all(b"x").unwrap();
    let error = error_of(&mut stream);
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let forward = Forward::start(&cluster.manager, "0", "told.company");
    let mut stream = forward.connect();
    stream.write_all(b"x").unwrap();
    let (mut upstream, _) = told.accept().unwrap();
    upstream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    upstream.read_exact(&mut [0]).unwrap();
    upstream.write_all(b"unread").unwrap();
    stream.peek(&mut [0]).unwrap();
    // Closed with bytes unread.
    drop(stream);
    let error = error_of(&mut upstream);
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    // Ended by its own user: the connection that is open is cut off, not ended.
    let stream = forward.connect();
    let (mut upstream, _) = told.accept().unwrap();
    upstream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    assert_eq!(forward.interrupt(), 130);
    let error = error_of(&mut upstream);
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    drop(stream);
}

#[test]
fn a_rule_that_is_removed_ends_its_connections_and_the_record_says_why() {
    let cluster = Cluster::running(&["web01"]);
    add(&cluster, &[], &tcp("echo", "web01", service(echo)));
    let mut forward = Forward::start(&cluster.manager, "0", "echo.company");
    let mut stream = forward.connect();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let listed = cluster.manager.succeed(&["sessions"]);
    assert!(listed.contains("(a connection to echo)"), "{listed}");
    // Another edit leaves it alone.
    cluster.edit(|text| format!("{text}\n[group.other]\nmembers = \"boss\"\n"));
    cluster.rescan_everywhere();
    stream.write_all(b"again").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();

    cluster.edit(|text| {
        let (before, service) = text.split_once("[service.echo]").unwrap();
        let service = service.replacen("allow_from = \"*\"", "allow_from = \"web01\"", 1);
        format!("{before}[service.echo]{service}")
    });
    cluster.manager.succeed(&["rescan"]);
    let begun = Instant::now();
    let ended = error_of(&mut stream);
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(
        forward.line(),
        "malai: echo.company: web01.company: the configuration no longer allows it\n"
    );
    let web01 = cluster.machine("web01");
    let why = "ended because the configuration has changed: service.echo.allow_from does not allow you to connect to this service";
    until("the end in the record", || {
        let audit = web01.succeed(&["audit", "--json", "-n", "1"]);
        audit.contains(why) && audit.contains("\"bytes_in\":10,\"bytes_out\":10")
    });

    // The next one is refused at once.
    let refused = error_of(&mut forward.connect());
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);
    let said = forward.line();
    assert!(
        said.contains("service.echo.allow_from does not allow you to connect"),
        "{said}"
    );
    let audit = web01.succeed(&["audit", "--refused", "-n", "1"]);
    assert!(audit.contains("a connection to echo"), "{audit}");
}

#[test]
fn a_service_that_moves_is_found_by_the_next_connection() {
    let cluster = Cluster::running(&["web01", "web02"]);
    let echoes = service(echo);
    let away = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = away.local_addr().unwrap().port();
    drop(away);
    add(&cluster, &[], &tcp("moved", "web01", closed));
    let mut forward = Forward::start(&cluster.manager, "0", "moved.company");
    // Nothing listens there: the connection is reset, not accepted and ended.
    let error = error_of(&mut forward.connect());
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(
        forward.line(),
        format!(
            "malai: moved.company: web01.company: cannot connect to 127.0.0.1:{closed}: connection refused: nothing listens there\n"
        )
    );
    cluster.edit(|text| {
        text.replace(
            &tcp("moved", "web01", closed),
            &tcp("moved", "web02", echoes),
        )
    });
    cluster.rescan_everywhere();
    let mut stream = forward.connect();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();

    // A machine that is away is an answer as well, and within ten seconds.
    cluster.machine("web02").kill();
    error_of(&mut stream);
    let begun = Instant::now();
    let error = error_of(&mut forward.connect());
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(begun.elapsed() < Duration::from_secs(12), "{begun:?}");
}

#[test]
fn a_thousand_connections_at_once() {
    let _alone = crate::harness::alone();
    let cluster = Cluster::running(&["web01"]);
    add(&cluster, &[], &tcp("echo", "web01", service(echo)));
    let forward = Forward::start(&cluster.manager, "0", "echo.company");
    malai_node::raise_limit(8_192);
    let mut streams: Vec<TcpStream> = (0..1_000).map(|_| forward.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        write!(stream, "{number:04}").unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, format!("{number:04}").as_bytes());
    }
    let web01 = cluster.machine("web01");
    let open = || {
        let folder = format!("/proc/{}/fd", web01.pid());
        std::fs::read_dir(folder).unwrap().count()
    };
    assert!(open() > 1_000);
    drop(streams);
    until("the descriptors to be closed", || open() < 100);
    let sessions = web01.succeed(&["sessions"]);
    assert_eq!(sessions, "Nothing runs here.\n");
}

#[test]
fn sockets_of_files_and_standard_streams() {
    let cluster = Cluster::running(&["web01"]);
    let path = cluster.folder().join("up.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard);
            let _ = stream.write_all(&heard);
        }
    });
    let address = format!("unix = \"{}\"", path.display());
    add(&cluster, &[], &section("socket", "web01", &address));
    let boss = &cluster.manager;

    let output = boss.run_with(&["forward", "-", "socket.company"], b"by pipe");
    assert_eq!((output.code, output.out()), (0, "by pipe"));
    assert_eq!(output.stderr, "");

    let local = cluster.folder().join("local.sock");
    let place = local.to_str().unwrap();
    // A file that was left behind.
    drop(UnixListener::bind(&local).unwrap());
    let forward = Forward::start(boss, place, "socket.company");
    assert_eq!(through(&local, b"by socket"), b"by socket");
    let second = boss.run(&["forward", place, "socket.company"]);
    second.refused("another program already does");
    assert_eq!(through(&local, b"still"), b"still");
    assert_eq!(forward.interrupt(), 130);
    assert!(!local.exists());
    std::fs::write(&local, "a file").unwrap();
    boss.run(&["forward", place, "socket.company"])
        .refused("there is a file that is not a socket");
    assert!(!std::fs::metadata(&local).unwrap().file_type().is_socket());

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    boss.run(&["forward", &port, "socket.company"])
        .refused(&format!(
            "cannot listen on 127.0.0.1:{port}: another program"
        ));
    boss.run(&["forward", "0", "sockt.company"])
        .refused("has no service `sockt`; did you mean `socket.company`?");
    boss.run(&["forward", "0", "web01.company"])
        .refused("is a machine, not a service");
    boss.run(&["socket.company", "true"])
        .refused("`socket.company` is a service, on which no commands run: `malai forward <port> socket.company`");
    boss.run(&["forward", "-", "socket.company", "0", "socket.company"])
        .refused("- is the only connection");
}

/// What comes back through a Unix socket.
pub(crate) fn through(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    heard
}
