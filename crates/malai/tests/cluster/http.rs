//! HTTP services by real daemons: who asks, answers for what cannot be reached, and `malai whois`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::forward::Forward;
use crate::harness::{Cluster, TEST_TIMEOUT, until};

/// A service that answers each request with what it has been asked, and keeps connections.
pub fn mirror() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test program.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut to = stream;
                loop {
                    let mut asked = format!("from: {}\n", to.peer_addr().unwrap());
                    loop {
                        match lines.next() {
                            Some(Ok(line)) if line.is_empty() => break,
                            Some(Ok(line)) => asked.push_str(&format!("{line}\n")),
                            _ => return,
                        }
                    }
                    let length = asked.len();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nset-cookie: own=1\r\ncontent-length: {length}\r\n\r\n"
                    );
                    let _ = to.write_all(head.as_bytes());
                    let _ = to.write_all(asked.as_bytes());
                }
            });
        }
    });
    port
}

/// The section of an HTTP service on `web01`.
pub fn section(name: &str, port: u16) -> String {
    format!(
        "\n[service.{name}]\nmachine = \"web01\"\nhttp = \"127.0.0.1:{port}\"\nallow_from = \"*\"\n"
    )
}

/// Asks with these lines on a connection of its own; the whole answer.
pub fn ask(place: &str, lines: &[&str]) -> String {
    let mut stream = TcpStream::connect(place).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let lines = lines.join("\r\n");
    let request = format!("{lines}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // Whatever comes after a reset is lost with it.
    let _ = stream.read_to_string(&mut answer);
    answer
}

const GET: &[&str] = &["GET / HTTP/1.1", "Host: x", "malai_client_id52: forged"];

#[test]
fn a_service_is_told_who_asks_and_whois_agrees() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let port = mirror();
    cluster.edit(|text| text + &section("web", port));
    cluster.rescan_everywhere();
    cluster.machine("laptop").stop();
    let (web01, laptop) = (cluster.machine("web01"), cluster.machine("laptop"));
    // Through the daemon, without one, and on the machine itself.
    for (home, name, id) in [
        (&cluster.manager, "boss", cluster.id.clone()),
        (laptop, "laptop", cluster.id_of("laptop")),
        (web01, "web01", cluster.id_of("web01")),
    ] {
        let forward = Forward::start(home, "0", "web.company");
        let answer = ask(&forward.place, GET);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let mut ours: Vec<_> = answer
            .lines()
            .filter(|line| line.contains("malai"))
            .collect();
        ours.sort_unstable();
        let expected = [
            "malai-client-cluster: company".to_owned(),
            format!("malai-client-id52: {id}"),
            format!("malai-client-machine: {name}"),
        ];
        assert_eq!(ours, expected, "{answer}");

        // The same by the address that the service sees, while the connection is there.
        let mut open = TcpStream::connect(&forward.place).unwrap();
        open.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut lines = BufReader::new(open.try_clone().unwrap()).lines();
        let from = lines
            .find_map(|line| Some(line.unwrap().strip_prefix("from: ")?.to_owned()))
            .unwrap();
        let said = web01.succeed(&["whois", &from]);
        assert!(
            said.starts_with(&format!(
                "{name}.company uses web.company\n   id52 {id}\n   to 127.0.0.1:{port} · session "
            )),
            "{said}"
        );
        let facts: serde_json::Value =
            serde_json::from_str(&web01.succeed(&["whois", "--json", &from])).unwrap();
        assert_eq!(facts["connections"][0]["id52"], id.as_str());
        assert_eq!(facts["connections"][0]["service"], "web");
        drop((open, lines));
        until("the connection to be forgotten", || {
            web01.run(&["whois", &from]).code == 1
        });
    }
    let output = web01.run(&["whois", "localhost"]);
    assert!(
        output.stderr.contains("is no address with a port"),
        "{}",
        output.shown()
    );
    let shown = web01.succeed(&["list"]);
    assert!(
        shown.contains(&format!("127.0.0.1:{port} (HTTP)")),
        "{shown}"
    );
    let why = cluster.manager.succeed(&["why", "laptop", "web.company"]);
    assert!(
        why.contains(&format!("127.0.0.1:{port} (HTTP) on web01")),
        "{why}"
    );
}

#[test]
fn what_cannot_be_reached_has_an_answer() {
    let cluster = Cluster::running(&["web01"]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let denied = section("denied", port).replace('*', "web01");
    cluster.edit(|text| text + &section("web", port) + &denied);
    cluster.rescan_everywhere();
    let boss = &cluster.manager;
    let forward = Forward::start(boss, "0", "web.company");
    let answer = ask(&forward.place, GET);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let why = format!(
        "malai: cannot connect to 127.0.0.1:{port}: connection refused: nothing listens there\n"
    );
    assert!(answer.ends_with(&why), "{answer}");

    let refused = Forward::start(boss, "0", "denied.company");
    let answer = ask(&refused.place, GET);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let why = "malai: denied.company: web01.company: service.denied.allow_from does not allow you to connect to this service\n";
    assert!(answer.ends_with(why), "{answer}");

    cluster.machine("web01").kill();
    let begun = Instant::now();
    let answer = ask(&forward.place, GET);
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("\r\n\r\nmalai: web.company: "), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{begun:?}");
}

#[test]
fn a_rule_that_is_removed_ends_its_connections() {
    let cluster = Cluster::running(&["web01"]);
    let port = mirror();
    cluster.edit(|text| text + &section("web", port));
    cluster.rescan_everywhere();
    let forward = Forward::start(&cluster.manager, "0", "web.company");
    let mut open = forward.connect();
    open.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut first = [0; 12];
    open.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    cluster.edit(|text| {
        let (before, service) = text.split_once("[service.web]").unwrap();
        let service = service.replacen('*', "web01", 1);
        format!("{before}[service.web]{service}")
    });
    cluster.manager.succeed(&["rescan"]);
    let begun = Instant::now();
    let mut rest = Vec::new();
    let ended = open.read_to_end(&mut rest).unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(begun.elapsed() < Duration::from_secs(1));
    until("the end in the record", || {
        let audit = cluster
            .machine("web01")
            .succeed(&["audit", "--json", "-n", "1"]);
        audit.contains("ended because the configuration has changed")
            && audit.contains("\"bytes_in\":27,")
            && !audit.contains("\"bytes_out\":0")
    });
}
