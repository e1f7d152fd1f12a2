//! HTTP services, asked in raw bytes: who the client is is what malai says and nothing else, and nothing is held back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use iroh::endpoint::{RecvStream, SendStream};
use malai_node::framing;
use malai_testing::TEST_TIMEOUT;
use malai_testing::cluster::{Cluster, Plan};
use malai_testing::peer::Peer;
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::RequestKind;
use malai_wire::peer::connect::{Destination, FromClient, FromServer};

use crate::limits::member;

/// Runs a test that waits for its own threads: the cluster has others.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(test)
}

/// A request as it has arrived at the service.
#[derive(Debug)]
pub struct Seen {
    /// The first line and the fields, without line ends.
    lines: Vec<String>,
    /// The body, and trailers, as they were sent.
    body: String,
}

impl Seen {
    /// Fields that could be taken for malai's.
    fn ours(&self) -> Vec<&str> {
        let plain = |line: &str| {
            let spelled = line.chars().map(|c| match c.is_ascii_alphanumeric() {
                true => c.to_ascii_lowercase(),
                false => '-',
            });
            spelled.collect::<String>()
        };
        let all = self.lines.iter().map(String::as_str);
        all.filter(|line| plain(line).starts_with("malai-client"))
            .collect()
    }
}

/// Reads the next request of a connection.
fn next(from: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let line = line(from)?;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let field = |name: &str| {
        let all = lines.iter().filter_map(|line| line.split_once(": "));
        let mut found = all.filter(|(field, _)| *field == name);
        let value = found.next().map(|(_, value)| value.to_owned());
        assert!(found.next().is_none(), "{name} twice: {lines:?}");
        value
    };
    let mut body = Vec::new();
    match (field("content-length"), field("transfer-encoding")) {
        (Some(length), None) => {
            body = vec![0; length.parse().unwrap()];
            from.read_exact(&mut body).ok()?;
        }
        (None, Some(coding)) => {
            assert_eq!(coding, "chunked");
            loop {
                let size = line(from)?;
                let size = usize::from_str_radix(&size, 16).unwrap();
                if size == 0 {
                    break;
                }
                let mut chunk = vec![0; size + 2];
                from.read_exact(&mut chunk).ok()?;
                body.extend_from_slice(&chunk[..size]);
            }
            loop {
                let trailer = line(from)?;
                if trailer.is_empty() {
                    break;
                }
                body.extend_from_slice(format!("|{trailer}").as_bytes());
            }
        }
        (None, None) => {}
        both => panic!("two lengths: {both:?}"),
    }
    let body = String::from_utf8(body).unwrap();
    Some(Seen { lines, body })
}

fn line(from: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    if from.read_line(&mut line).ok()? == 0 {
        return None;
    }
    Some(line.strip_suffix("\r\n").expect("a line's end").to_owned())
}

/// A service that says `ok` to each request, and shows them.
pub fn service() -> (u16, Receiver<Seen>) {
    let (tell, seen) = channel();
    let port = serving(move |stream| {
        let mut from = BufReader::new(stream.try_clone().unwrap());
        let mut to = stream;
        while let Some(request) = next(&mut from) {
            let is_head = request.lines[0].starts_with("HEAD");
            let body = if is_head { "" } else { "ok" };
            let _ = tell.send(request);
            let _ = to.write_all(
                format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}").as_bytes(),
            );
        }
    });
    (port, seen)
}

/// A service whose connections are handled by this.
pub fn serving(handle: impl Fn(TcpStream) + Send + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test program.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            thread::spawn(move || {
                stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
                handle(stream);
            });
        }
    });
    port
}

/// A cluster in which `web01` has the service `web` at this port.
pub async fn cluster(port: u16, settings: &str) -> Cluster {
    let section = format!(
        "\n[service.web]\nmachine = \"web01\"\nhttp = \"127.0.0.1:{port}\"\nallow_from = \"*\"\n"
    );
    Plan::new(&["web01", "rogue"])
        .idle("rogue")
        .settings("web01", settings)
        .config(|text| text + &section)
        .start()
        .await
}

/// A client that sends whatever a test wants.
pub struct Client {
    pub send: SendStream,
    recv: RecvStream,
    heard: Vec<u8>,
}

impl Client {
    pub async fn connect(peer: &Peer) -> Client {
        let open = FromClient::Open(Destination::Service("web".to_owned())).to_frame();
        let request = [vec![RequestKind::Connect as u8], open].concat();
        let (send, mut recv) = peer.ask(&request).await.unwrap();
        let answer: FromServer = framing::expect(&mut recv, frame::SMALL, TEST_TIMEOUT)
            .await
            .unwrap();
        assert_eq!(answer, FromServer::Accepted);
        Client {
            send,
            recv,
            heard: Vec::new(),
        }
    }

    pub async fn say(&mut self, bytes: &str) {
        self.send.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads until this has come, and takes it with all before it.
    pub async fn until(&mut self, wanted: &str) -> String {
        let wanted = wanted.as_bytes();
        loop {
            let found = self.heard.windows(wanted.len()).position(|w| w == wanted);
            if let Some(at) = found {
                let rest = self.heard.split_off(at + wanted.len());
                let taken = std::mem::replace(&mut self.heard, rest);
                return String::from_utf8(taken).unwrap();
            }
            let mut buffer = [0; 65_536];
            let read = tokio::time::timeout(TEST_TIMEOUT, self.recv.read(&mut buffer));
            let count = read.await.expect("an answer in time").unwrap();
            let heard = String::from_utf8_lossy(&self.heard).into_owned();
            let count = count.unwrap_or_else(|| panic!("the end after {heard:?}"));
            self.heard.extend_from_slice(&buffer[..count]);
        }
    }

    /// Everything to the end, which may be a reset.
    pub async fn rest(mut self) -> String {
        let mut buffer = [0; 65_536];
        let reading = async {
            while let Ok(Some(count)) = self.recv.read(&mut buffer).await {
                self.heard.extend_from_slice(&buffer[..count]);
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, reading)
            .await
            .expect("an end");
        String::from_utf8(self.heard).unwrap()
    }
}

fn took(seen: &Receiver<Seen>) -> Seen {
    seen.recv_timeout(TEST_TIMEOUT).expect("a request")
}

/// 200 requests: each spelling of each name, in each place where a field can be.
fn forged() -> Vec<String> {
    let spellings: [fn(&str) -> String; 8] = [
        |name| name.to_owned(),
        |name| name.to_uppercase(),
        |name| name.replace('-', "_"),
        |name| name.to_uppercase().replace('-', "_"),
        |name| name.replacen('-', "_", 1),
        |name| name.replace("-c", "_C"),
        |name| name.replace('-', "."),
        |name| name.replace("malai", "Malai").replace('-', "~"),
    ];
    let names = [
        "malai-client-id52",
        "malai-client-machine",
        "malai-client-cluster",
        "malai-client-role",
        "malai-client-",
    ];
    // `N` is the name.
    let places = [
        "GET / HTTP/1.1\r\nHost: x\r\nN: forged\r\n\r\n",
        "GET / HTTP/1.1\r\nN:forged\r\nN:\t forged \r\nHost: x\r\nN: forged\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: N, keep-alive, malai-client-id52\r\nN: forged\r\nContent-Length: 4\r\n\r\nbody",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: N, X-Sum\r\n\r\n4\r\nbody\r\n0\r\nN: forged\r\nX-Sum: 1\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: x\r\nN: forged\r\nX-Forwarded-For: 1\r\nMalai-Client-Id52: forged\r\n\r\n",
    ];
    let mut all = Vec::new();
    for place in places {
        for spell in spellings {
            for name in names {
                all.push(place.replace('N', &spell(name)));
            }
        }
    }
    all
}

#[test]
fn no_forged_field_arrives() {
    let (port, seen) = service();
    run(async {
        let cluster = cluster(port, "").await;
        let rogue = cluster.machine("rogue");
        let peer = member(&rogue.seed(), &cluster.machine("web01").id()).await;
        let ours = [
            format!("malai-client-id52: {}", rogue.id()),
            "malai-client-machine: rogue".to_owned(),
            "malai-client-cluster: company".to_owned(),
        ];
        let check = |request: &Seen, asked: &str| {
            let mut found = request.ours();
            found.sort_unstable();
            let mut expected: Vec<&str> = ours.iter().map(String::as_str).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{asked:?}: {request:?}");
            let fields = request
                .lines
                .iter()
                .filter(|line| !line.starts_with("trailer"));
            let all = format!(
                "{fields:?} {}",
                request.body,
                fields = fields.collect::<Vec<_>>()
            );
            assert!(!all.contains("forged"), "{asked:?}: {all}");
        };
        let requests = forged();
        assert_eq!(requests.len(), 200);
        // Each alone on a connection, and then all on one, sent before the first is answered.
        for request in &requests {
            let mut client = Client::connect(&peer).await;
            client.say(request).await;
            client.until("\r\n\r\n").await;
            let found = took(&seen);
            check(&found, request);
            let body = match request.split(' ').next() {
                Some("POST") => "body",
                _ => "",
            };
            assert!(found.body.starts_with(body), "{found:?}");
            if request.contains("X-Sum: 1") {
                assert_eq!(found.body, "body|x-sum: 1");
            }
        }
        let mut client = Client::connect(&peer).await;
        client.say(&requests.concat()).await;
        for request in &requests {
            client.until("\r\n\r\n").await;
            check(&took(&seen), request);
        }
        // The body of a body is not read as fields.
        let mut client = Client::connect(&peer).await;
        client
            .say("POST / HTTP/1.1\r\nContent-Length: 26\r\n\r\nmalai-client-id52: forged\n")
            .await;
        client.until("ok").await;
        assert_eq!(took(&seen).body, "malai-client-id52: forged\n");
        peer.close().await;
    });
}

/// Requests that one reader could take for one and another for two: malai sends what it has understood, so each that
/// arrives says who sent it.
#[test]
fn what_has_two_meanings_is_refused_or_sent_with_one() {
    let (port, seen) = service();
    run(async {
        let cluster = cluster(port, "").await;
        let rogue = cluster.machine("rogue");
        let peer = member(&rogue.seed(), &cluster.machine("web01").id()).await;
        let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\nmalai-client-id52: forged\r\n\r\n";
        let length = hidden.len();
        let post = "POST / HTTP/1.1\r\nHost: x\r\n";
        for (head, refused) in [
            (
                format!("{post}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n"),
                true,
            ),
            (format!("{post}Content-Length: 0, {length}\r\n\r\n"), true),
            (format!("{post}Content-Length: +{length}\r\n\r\n"), true),
            (format!("{post}Content-Length: -1\r\n\r\n"), true),
            (format!("{post}Content-Length: 0x10\r\n\r\n"), true),
            (format!("{post}Transfer-Encoding: xchunked\r\n\r\n"), true),
            (
                format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n"),
                true,
            ),
            (
                format!("{post}Transfer-Encoding: identity\r\nContent-Length: {length}\r\n\r\n"),
                true,
            ),
            (format!("{post}Transfer-Encoding : chunked\r\n\r\n"), true),
            (format!("{post} Transfer-Encoding: chunked\r\n\r\n"), true),
            (
                format!("{post}X: y\r\n Content-Length: {length}\r\n\r\n"),
                true,
            ),
            (format!("{post}malai-client-id52 : forged\r\n\r\n"), true),
            (format!("{post}X\0: y\r\n\r\n"), true),
            (
                format!("{post}X: y\rmalai-client-id52: forged\r\n\r\n"),
                true,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
                true,
            ),
            ("GET / HTTP/1.1 \r\nX: y\r\n\r\n".to_owned(), true),
            ("GET  / HTTP/1.1\r\nX: y\r\n\r\n".to_owned(), true),
            ("GET /\r\n".to_owned(), true),
            (
                format!("{post}Transfer-Encoding: chunked\r\n\r\n{length:x};\n\r\n"),
                true,
            ),
            (
                format!("{post}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
                true,
            ),
            (
                format!("{post}Transfer-Encoding: chunked\r\n\r\n-1\r\n"),
                true,
            ),
            (
                format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n"),
                true,
            ),
            (
                format!(
                    "{post}Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n"
                ),
                false,
            ),
            (
                format!(
                    "{post}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                ),
                false,
            ),
            (format!("{post}\nContent-Length: {length}\r\n\r\n"), false),
            ("GET / HTTP/1.1\nHost: x\n\n".to_owned(), false),
        ] {
            let mut client = Client::connect(&peer).await;
            // The service may have answered and ended before all of it is sent.
            let _ = client
                .send
                .write_all(format!("{head}{hidden}").as_bytes())
                .await;
            let _ = client.send.finish();
            let answer = client.rest().await;
            let mut first = true;
            while let Ok(request) = seen.try_recv() {
                let found = request.ours();
                assert_eq!(found.len(), 3, "{head:?}: {request:?}");
                assert!(
                    !format!("{found:?}").contains("forged"),
                    "{head:?}: {found:?}"
                );
                first = false;
            }
            if refused {
                assert!(!answer.contains("200 OK"), "{head:?}: {answer}");
            }
            let _ = first;
        }
        peer.close().await;
    });
}
