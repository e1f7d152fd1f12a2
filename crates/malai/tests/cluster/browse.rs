//! `malai browse`, as a browser and as those that are not let in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::{Cluster, Home, TEST_TIMEOUT};
use crate::http::{ask, mirror, section};

/// A link: where it leads, and its path.
struct Link {
    host: String,
    path: String,
    place: String,
}

impl Link {
    fn to(home: &Home, service: &str) -> Link {
        let said = home.succeed(&["browse", "--print", service]);
        let rest = said.trim().strip_prefix("http://").expect(&said);
        let (host, path) = rest.split_once('/').expect(&said);
        let (_, port) = host.rsplit_once(':').expect(&said);
        Link {
            host: host.to_owned(),
            path: format!("/{path}"),
            place: format!("127.0.0.1:{port}"),
        }
    }

    /// Asks for a path with these fields more.
    fn get(&self, path: &str, more: &[&str]) -> String {
        let first = format!("GET {path} HTTP/1.1");
        let host = format!("Host: {}", self.host);
        ask(&self.place, &[&[&*first, &*host], more].concat())
    }

    /// Opens it; the cookie.
    fn open(&self) -> String {
        let answer = self.get(&self.path, &["Sec-Fetch-Site: none"]);
        assert!(answer.starts_with("HTTP/1.1 303 "), "{answer}");
        assert!(answer.contains("\r\nlocation: /\r\n"), "{answer}");
        let field = answer
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        let (cookie, rest) = field
            .and_then(|field| field.split_once("; "))
            .expect(&answer);
        assert_eq!(rest, "Path=/; HttpOnly; SameSite=Strict");
        format!("Cookie: a=1; {cookie}; b=2")
    }
}

#[test]
fn a_browser_that_was_opened_is_let_in_and_nobody_else() {
    let cluster = Cluster::running(&["web01"]);
    let port = mirror();
    let tcp = section("raw", port).replace("http", "tcp");
    cluster.edit(|text| text + &section("web", port) + &section("other", port) + &tcp);
    cluster.rescan_everywhere();
    let boss = &cluster.manager;
    let link = Link::to(boss, "web.company");
    assert!(
        link.host.starts_with("web.company.localhost:"),
        "{}",
        link.host
    );

    let refused = |answer: String, why: &str| {
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains(why), "{answer}");
        assert!(!answer.contains("from: "), "{answer}");
    };
    refused(
        link.get("/", &[]),
        "only a browser that was opened by `malai browse web.company` may see this page",
    );
    refused(link.get("/malai-browse/00", &[]), "this link works once");
    let cookie = link.open();
    refused(
        link.get(&link.path, &[]),
        "this link works once, within a minute",
    );

    // The page, without malai's cookie, and as this computer.
    let page = link.get("/d/1?q", &[&cookie, "malai-client-id52: forged"]);
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    for line in [
        "GET /d/1?q HTTP/1.1",
        &format!("host: {}", link.host),
        "cookie: a=1; b=2",
        "malai-client-machine: boss",
        &format!("malai-client-id52: {}", cluster.id),
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    assert!(page.contains("\r\nset-cookie: own=1\r\n"), "{page}");
    let own = format!("Origin: http://{}", link.host);
    let page = link.get("/", &[&cookie, &own, "Sec-Fetch-Site: same-origin"]);
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");

    // Pages of elsewhere, even with the cookie.
    let page = "a page of another address";
    for foreign in [
        "Origin: http://evil.example",
        "Origin: null",
        &format!("Origin: http://{}", link.host.replace("web", "other")),
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        refused(link.get("/", &[&cookie, foreign]), page);
    }
    // Names that were made to resolve to this computer.
    let (_, number) = link.host.rsplit_once(':').unwrap();
    for host in [
        "evil.example",
        "127.0.0.1",
        "localhost",
        "web.company.localhost.evil.example",
    ] {
        let host = format!("Host: {host}:{number}");
        let answer = ask(&link.place, &["GET / HTTP/1.1", &host, &cookie]);
        refused(answer, "this address is not one that `malai browse` opens");
    }
    let host = format!("Host: {}", link.host);
    let line = format!("GET http://evil.example:{number}/ HTTP/1.1");
    let answer = ask(&link.place, &[&line, &host, &cookie]);
    refused(answer, "this address is not one");

    // The cookie is for one service.
    let other = Link::to(boss, "other.company");
    assert_eq!(other.place, link.place);
    refused(other.get("/", &[&cookie]), "`malai browse other.company`");
    refused(link.get(&other.path, &[]), "this link works once");
    let cookie = other.open();
    assert!(other.get("/", &[&cookie]).starts_with("HTTP/1.1 200 "));

    let output = boss.run(&["browse", "raw.company"]);
    assert_eq!(output.code, 1, "{}", output.shown());
    assert!(
        output.stderr.contains("raw.company is not an HTTP service"),
        "{}",
        output.shown()
    );
    let output = boss.run(&["browse", "wed.company"]);
    assert!(
        output.stderr.contains("did you mean `web.company`?"),
        "{}",
        output.shown()
    );

    // The machine is away.
    cluster.machine("web01").kill();
    let answer = other.get("/", &[&cookie]);
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    boss.stop();
    assert!(TcpStream::connect(&link.place).is_err());
}

/// Another user who has got hold of a link, or of a cookie, gets nothing with it.
#[test]
fn another_user_is_not_let_in() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: it needs root, to be another user");
        return;
    }
    let cluster = Cluster::running(&["web01"]);
    cluster.edit(|text| text + &section("web", mirror()));
    cluster.rescan_everywhere();
    let link = Link::to(&cluster.manager, "web.company");
    let as_nobody = |path: &str, more: &str| {
        let script = format!(
            "exec 3<>/dev/tcp/{}; printf 'GET {path} HTTP/1.1\\r\\nHost: {}\\r\\n{more}Connection: close\\r\\n\\r\\n' >&3; cat <&3",
            link.place.replace(':', "/"),
            link.host
        );
        let output = Command::new("bash")
            .args(["-c", &script])
            .uid(65_534)
            .gid(65_534)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let answer = as_nobody(&link.path, "");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    // The link still works for the user who has asked for it.
    let cookie = link.open();
    let answer = as_nobody("/", &format!("{cookie}\\r\\n"));
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(link.get("/", &[&cookie]).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_web_socket_passes_both_proxies() {
    let cluster = Cluster::running(&["web01"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    cluster.edit(|text| text + &section("web", port));
    cluster.rescan_everywhere();
    let link = Link::to(&cluster.manager, "web.company");
    let cookie = link.open();
    let service = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .unwrap();
        let mut echoed = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut echoed).unwrap();
    });
    let mut stream = TcpStream::connect(&link.place).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let ask = format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{cookie}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        host = link.host
    );
    stream.write_all(ask.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, word.as_bytes());
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    service.join().unwrap();
}
