//! A peer that sends whatever a test wants, with any key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream};
use iroh::{Endpoint, EndpointAddr};
use malai_cluster::{Header, MachineId, SecretSeed};
use malai_node::{Ports, Reach, endpoint, endpoint_id, framing};
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::exec::{Action, FromClient, FromServer, Open};
use malai_wire::peer::hello::{Greeting, Hello};
use malai_wire::peer::sync::{Compare, Content, Fetch, Fetched};
use malai_wire::peer::{RequestKind, StreamKind};
use malai_wire::version::{ALPN, Versions};
use malai_wire::{Refusal, RefusalCode};

use crate::TEST_TIMEOUT;

/// A connection to a daemon.
pub struct Peer {
    endpoint: Endpoint,
    /// Its connection, for anything that has no method here.
    pub connection: Connection,
    fetched: Arc<AtomicUsize>,
}

impl Peer {
    /// Connects to the daemon that has this key, with the identity of the seed.
    pub async fn connect(seed: &SecretSeed, to: &MachineId) -> Peer {
        let ports = endpoint::derived_ports(to);
        if let Some(peer) = Self::dial(seed, to, &ports).await {
            return peer;
        }
        // Something else has one of the ports and answered first, which decides a dial to all of them.
        for port in ports {
            if let Some(peer) = Self::dial(seed, to, &[port]).await {
                return peer;
            }
        }
        panic!("no connection to {to} at any of its ports");
    }

    /// Dials ports of this computer. The endpoint is new, so it knows no other address of the daemon.
    async fn dial(seed: &SecretSeed, to: &MachineId, ports: &[u16]) -> Option<Peer> {
        let own = endpoint::bind(seed, Reach::Loopback, Ports::Any);
        let endpoint = own.await.expect("an endpoint");
        let mut address = EndpointAddr::new(endpoint_id(to));
        for port in ports {
            address = address.with_ip_addr(SocketAddr::from(([127, 0, 0, 1], *port)));
        }
        let connection = tokio::time::timeout(TEST_TIMEOUT, endpoint.connect(address, ALPN));
        let connection = connection.await.expect("an answer").ok()?;
        Some(Peer {
            endpoint,
            connection,
            fetched: Arc::default(),
        })
    }

    /// A well-formed greeting with this header.
    pub fn hello(header: Option<Header>) -> Hello {
        Hello {
            versions: Versions::OURS,
            instance: rand_instance(),
            age_ms: 1,
            serves: true,
            header,
            claim: None,
        }
    }

    /// Greets.
    pub async fn greet(&self, header: Option<Header>) {
        self.say_first(&Greeting::Hello(Peer::hello(header)).to_frame())
            .await;
    }

    /// Greets as a command without a daemon. A peer that serves would be taken for a restarted daemon, which ends what
    /// the previous one had.
    pub async fn greet_as_command(&self) {
        let mut hello = Peer::hello(None);
        hello.serves = false;
        self.say_first(&Greeting::Hello(hello).to_frame()).await;
    }

    /// Sends these bytes on the stream for the greeting. The daemon may stop reading before their end.
    pub async fn say_first(&self, bytes: &[u8]) {
        if let Ok(mut send) = self.connection.open_uni().await {
            let _ = send.write_all(&[StreamKind::Hello as u8]).await;
            let _ = send.write_all(bytes).await;
            let _ = send.finish();
        }
    }

    /// Sends these bytes on a new unidirectional stream.
    pub async fn throw(&self, bytes: &[u8]) {
        if let Ok(mut send) = self.connection.open_uni().await {
            let _ = send.write_all(bytes).await;
        }
    }

    /// Sends these bytes on a new request stream, which stays open.
    pub async fn ask(&self, bytes: &[u8]) -> Option<(SendStream, RecvStream)> {
        let (mut send, recv) = self.connection.open_bi().await.ok()?;
        send.write_all(bytes).await.ok()?;
        Some((send, recv))
    }

    /// Sends a complete request and returns all bytes of the answer.
    pub async fn request(&self, kind: RequestKind, message: Vec<u8>) -> Vec<u8> {
        let bytes = [vec![kind as u8], message].concat();
        let Some((mut send, mut recv)) = self.ask(&bytes).await else {
            return Vec::new();
        };
        let _ = send.finish();
        let mut answer = Vec::new();
        while let Ok(Some(chunk)) = recv.read_chunk(1 << 16).await {
            answer.extend_from_slice(&chunk);
        }
        answer
    }

    /// Asks for a command; returns the first answer.
    pub async fn exec(&self, argv: &[&str]) -> Result<FromServer, String> {
        let request = [vec![RequestKind::Exec as u8], open(argv)].concat();
        let (send, mut recv) = self.ask(&request).await.ok_or("no stream")?;
        let answer = framing::expect(&mut recv, frame::SMALL, TEST_TIMEOUT).await;
        // Dropping this stream earlier would end the command.
        drop(send);
        answer.map_err(|error| error.to_string())
    }

    /// Compares headers as members do.
    pub async fn compare(&self, header: Header) -> Compare {
        let request = Compare::Header(Some(header)).to_frame();
        let request = [vec![RequestKind::Compare as u8], request].concat();
        let (mut send, mut recv) = self.ask(&request).await.expect("a stream");
        let _ = send.finish();
        let answer = framing::expect(&mut recv, frame::SMALL, TEST_TIMEOUT).await;
        answer.expect("an answer")
    }

    /// From now on, sends this content whenever the daemon fetches one.
    pub fn give(&self, content: Content) {
        self.answer_fetches(Fetched::Content(content));
    }

    /// From now on, refuses to send content that the daemon fetches.
    pub fn refuse_content(&self) {
        let refusal = Refusal::new(RefusalCode::NotAMember, "no");
        self.answer_fetches(Fetched::Refused(refusal));
    }

    fn answer_fetches(&self, answer: Fetched) {
        let (connection, fetched) = (self.connection.clone(), self.fetched.clone());
        tokio::spawn(async move {
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let mut kind = [0; 1];
                if recv.read_exact(&mut kind).await.is_err() || kind[0] != RequestKind::Fetch as u8
                {
                    continue;
                }
                fetched.fetch_add(1, Ordering::SeqCst);
                let _ = framing::expect::<Fetch>(&mut recv, frame::SMALL, TEST_TIMEOUT).await;
                let _ = framing::write(&mut send, &answer).await;
                let _ = send.finish();
            }
        });
    }

    /// How often the daemon has fetched the content.
    pub fn fetched(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }

    /// Waits until the daemon closes the connection; returns its reason.
    pub async fn closed_by_peer(&self) -> Refusal {
        let closed = tokio::time::timeout(Duration::from_secs(30), self.connection.closed());
        match closed.await {
            Ok(ConnectionError::ApplicationClosed(close)) => Refusal {
                code: u16::try_from(close.error_code.into_inner()).unwrap(),
                message: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            other => panic!("not closed with a reason: {other:?}"),
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.connection.close(0u32.into(), b"");
        self.endpoint.close().await;
    }
}

/// The frame that opens a command.
pub fn open(argv: &[&str]) -> Vec<u8> {
    FromClient::Open(Open {
        request: Action::Exec(argv.iter().map(|word| word.as_bytes().to_vec()).collect()).into(),
        stdin: false,
        terminal: None,
    })
    .to_frame()
}

/// An unknown key.
pub fn stranger() -> SecretSeed {
    let (a, b): ([u8; 16], [u8; 16]) = (rand_instance(), rand_instance());
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&a);
    seed[16..].copy_from_slice(&b);
    SecretSeed::from_bytes(seed)
}

fn rand_instance() -> [u8; 16] {
    use std::io::Read;
    let mut bytes = [0; 16];
    let mut source = std::fs::File::open("/dev/urandom").expect("randomness");
    source.read_exact(&mut bytes).expect("randomness");
    bytes
}
