//! Hostile peers: a machine that lies to the callers of its commands, and expensive configurations of a manager.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use malai_cluster::{ClusterId, Header, SecretSeed, signed_bytes};
use malai_node::{Ports, Reach, endpoint, framing};
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::exec::{Exit, FromServer, Status};
use malai_wire::peer::hello::Greeting;
use malai_wire::peer::sync::{Compare, Content, Fetch};
use malai_wire::peer::{RequestKind, StreamKind, raw_head};
use malai_wire::version::PROBE_ALPN;
use malai_wire::{Refusal, RefusalCode};

use malai_testing::peer::Peer;

/// This text, signed as this revision.
pub fn signed(seed: &SecretSeed, revision: u64, content: String) -> Content {
    let (cluster, hash) = (
        ClusterId::new(seed.id()),
        *blake3::hash(content.as_bytes()).as_bytes(),
    );
    let header = Header {
        cluster,
        revision,
        hash,
        signature: seed.sign(&signed_bytes(&cluster, revision, &hash)),
    };
    Content { header, content }
}

/// Contents that once were expensive: cycles of groups, endless groups, keys with many dots.
pub fn contents(seed: &SecretSeed) -> Vec<String> {
    let begin = format!(
        "format = 1\n\n[cluster_manager]\nid52 = \"{}\"\n",
        seed.id()
    );
    let groups = |members: &dyn Fn(usize) -> String, count: usize| {
        let group = |n| format!("\n[group.g{n:06}]\nmembers = [{}]\n", members(n));
        begin.clone() + &(0..count).map(group).collect::<String>()
    };
    vec![
        groups(
            &|n| format!("\"g{:06}\", \"g000000\"", (n + 1) % 20_000),
            20_000,
        ),
        groups(&|n| format!("\"g{:06}\"", (n + 1) % 60_000), 60_000),
        groups(&|_| String::new(), 450_000),
        begin.clone() + &"a.b.c.d.e.f.g.h=1\n".repeat(900_000),
        begin.clone() + &"=\n".repeat(8_000_000),
    ]
}

/// How the machine responds to a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lie {
    /// Refuses with a long text of terminal control sequences.
    Refusal,
    /// Accepts, then refuses in the same way.
    LateRefusal,
    /// Closes the connection with such a text as its reason.
    Reason,
    /// Claims to have sent more than it did, and ends all streams.
    Less,
    /// Claims to have sent less than it did.
    More,
    /// Claims to have sent nothing, despite some output.
    Nothing,
    /// Sends endlessly after an exit that announces three bytes.
    Endless,
    /// Sends an exit without accepting first.
    EarlyExit,
    /// Accepts again instead of sending an exit.
    Twice,
    /// Ends without sending an exit.
    NoExit,
    /// Resets the output stream.
    Reset,
    /// Sends bytes that are not a frame.
    Garbage,
    /// Announces a frame of 4 GiB.
    Huge,
    /// Opens an output stream of a nonexistent session, and streams of nonexistent kinds.
    Strays,
}

/// Every lie.
pub const LIES: &[Lie] = &[
    Lie::Refusal,
    Lie::LateRefusal,
    Lie::Reason,
    Lie::Less,
    Lie::More,
    Lie::Nothing,
    Lie::Endless,
    Lie::EarlyExit,
    Lie::Twice,
    Lie::NoExit,
    Lie::Reset,
    Lie::Garbage,
    Lie::Huge,
    Lie::Strays,
];

/// Text that clears the screen, sets a title, forges a line and reverses the text after it, repeated many times.
fn nasty() -> String {
    "\u{1b}[2J\u{1b}]0;title\u{7}\r\nmalai: all is well\u{9b}31m\u{202e}\u{0}".repeat(300)
}

fn nasty_refusal() -> Refusal {
    Refusal::new(RefusalCode::NotAllowed, nasty())
}

fn exit(stdout: u64) -> FromServer {
    FromServer::Exit(Exit {
        status: Status::Code(0),
        stdout,
        stderr: 0,
    })
}

/// Serves as the machine with this key, in its own thread, until the test ends. It greets after this delay.
pub fn serve(seed: SecretSeed, header: Option<Header>, lie: Arc<Mutex<Lie>>, delay: Duration) {
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        malai_testing::run(async {
            let endpoint = endpoint::bind(&seed, Reach::Loopback, Ports::Derived);
            let endpoint = endpoint.await.expect("an endpoint");
            ready.send(()).unwrap();
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else {
                    continue;
                };
                tokio::spawn(converse(connection, header.clone(), lie.clone(), delay));
            }
        });
    });
    is_ready.recv().unwrap();
}

async fn converse(
    connection: Connection,
    header: Option<Header>,
    lie: Arc<Mutex<Lie>>,
    delay: Duration,
) {
    let Ok(mut send) = connection.open_uni().await else {
        return;
    };
    if connection.alpn() == PROBE_ALPN {
        let _ = send.write_all(&[7; 16]).await;
        let _ = send.finish();
        connection.closed().await;
        return;
    }
    tokio::time::sleep(delay).await;
    let mut hello = Peer::hello(header);
    hello.instance = [7; 16];
    let greeting = Greeting::Hello(hello).to_frame();
    let _ = send
        .write_all(&[&[StreamKind::Hello as u8][..], &greeting].concat())
        .await;
    let _ = send.finish();
    while let Ok((send, recv)) = connection.accept_bi().await {
        let lie = *lie.lock().unwrap();
        tokio::spawn(answer(connection.clone(), send, recv, lie));
    }
}

/// Sends output of a session.
async fn output(connection: &Connection, session: u64, bytes: &[u8]) -> Option<SendStream> {
    let mut stream = connection.open_uni().await.ok()?;
    let head = raw_head(StreamKind::Stdout, session);
    stream.write_all(&[&head[..], bytes].concat()).await.ok()?;
    Some(stream)
}

async fn answer(connection: Connection, mut send: SendStream, mut recv: RecvStream, lie: Lie) {
    let session = VarInt::from(send.id()).into_inner();
    let mut kind = [0; 1];
    if recv.read_exact(&mut kind).await.is_err() {
        return;
    }
    let say = async |send: &mut SendStream, message: FromServer| {
        let _ = framing::write(send, &message).await;
    };
    match RequestKind::from_byte(kind[0]) {
        Some(RequestKind::Ping) => {
            let mut question = [0; 1];
            let _ = recv.read_exact(&mut question).await;
            let _ = send.write_all(&question).await;
            let _ = send.finish();
            return;
        }
        Some(RequestKind::Compare) => {
            let _ =
                framing::expect::<Compare>(&mut recv, frame::SMALL, Duration::from_secs(9)).await;
            let _ = framing::write(&mut send, &Compare::Refused(nasty_refusal())).await;
            let _ = send.finish();
            return;
        }
        Some(RequestKind::Fetch) => {
            let _ = framing::expect::<Fetch>(&mut recv, frame::SMALL, Duration::from_secs(9)).await;
            let _ = send.write_all(&[0xff; 100]).await;
            return;
        }
        _ => {}
    }
    match lie {
        Lie::Refusal => say(&mut send, FromServer::Refused(nasty_refusal())).await,
        Lie::LateRefusal => {
            say(&mut send, FromServer::Accepted).await;
            say(&mut send, FromServer::Refused(nasty_refusal())).await;
        }
        Lie::Reason => connection.close(2u32.into(), &nasty().as_bytes()[..512]),
        Lie::Less => {
            say(&mut send, FromServer::Accepted).await;
            if let Some(mut stream) = output(&connection, session, b"abc").await {
                let _ = stream.finish();
            }
            say(&mut send, exit(u64::MAX)).await;
        }
        Lie::More | Lie::Nothing => {
            say(&mut send, FromServer::Accepted).await;
            let stream = output(&connection, session, b"abc").await;
            // The stream is kept, since dropping it would end it.
            tokio::time::sleep(Duration::from_millis(50)).await;
            say(&mut send, exit(if lie == Lie::More { 2 } else { 0 })).await;
            connection.closed().await;
            drop(stream);
        }
        Lie::Endless => {
            say(&mut send, FromServer::Accepted).await;
            say(&mut send, exit(3)).await;
            if let Some(mut stream) = output(&connection, session, b"").await {
                while stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
            }
        }
        Lie::EarlyExit => say(&mut send, exit(0)).await,
        Lie::Twice => {
            say(&mut send, FromServer::Accepted).await;
            say(&mut send, FromServer::Accepted).await;
        }
        Lie::NoExit => say(&mut send, FromServer::Accepted).await,
        Lie::Reset => {
            say(&mut send, FromServer::Accepted).await;
            if let Some(mut stream) = output(&connection, session, b"abc").await {
                let _ = stream.reset(3u32.into());
            }
            say(&mut send, exit(1000)).await;
        }
        Lie::Garbage => drop(send.write_all(&[0, 0, 0, 3, 3, 0xff, 0xff]).await),
        Lie::Huge => drop(send.write_all(&[0xff, 0xff, 0xff, 0xff, 1, 0]).await),
        Lie::Strays => {
            say(&mut send, FromServer::Accepted).await;
            for kind in [StreamKind::Stdout as u8, 0x55, 0xff] {
                if let Ok(mut stream) = connection.open_uni().await {
                    let _ = stream
                        .write_all(&[&[kind][..], &[9; 8], &[b'x'; 5000]].concat())
                        .await;
                    let _ = stream.finish();
                }
            }
            say(&mut send, exit(0)).await;
        }
    }
    let _ = send.finish();
    let _ = send.stopped().await;
}
