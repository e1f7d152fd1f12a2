//! Connections to services, asked for as a peer sends them: who gets one, how many, and that none holds up another.

use std::io::Read;
use std::net::TcpListener;

use iroh::endpoint::{RecvStream, SendStream};
use malai_node::framing;
use malai_testing::cluster::Plan;
use malai_testing::peer::{Peer, stranger};
use malai_testing::{TEST_TIMEOUT, run, until_async};
use malai_wire::RefusalCode;
use malai_wire::frame::{self, Tagged};
use malai_wire::peer::RequestKind;
use malai_wire::peer::connect::{Destination, FromClient, FromServer};

use crate::limits::member;

/// Asks for a service; the streams, and the answer.
async fn connect(peer: &Peer, service: &str) -> ((SendStream, RecvStream), FromServer) {
    let open = FromClient::Open(Destination::Service(service.to_owned())).to_frame();
    let request = [vec![RequestKind::Connect as u8], open].concat();
    let (send, mut recv) = peer.ask(&request).await.unwrap();
    let answer = framing::expect(&mut recv, frame::SMALL, TEST_TIMEOUT).await;
    ((send, recv), answer.unwrap())
}

fn refusal(answer: FromServer) -> (Option<RefusalCode>, String) {
    match answer {
        FromServer::Accepted => panic!("it was accepted"),
        FromServer::Refused(refusal) => (refusal.known_code(), refusal.message),
    }
}

/// A cluster in which `web01` has services at this port: `open` to every member, `closed` to none.
fn plan(port: u16) -> Plan {
    let sections = ["open", "closed"].map(|name| {
        let who = if name == "open" { "*" } else { "web01" };
        format!(
            "\n[service.{name}]\nmachine = \"web01\"\ntcp = \"127.0.0.1:{port}\"\nallow_from = \"{who}\"\n"
        )
    });
    Plan::new(&["web01", "rogue"])
        .idle("rogue")
        .config(|text| text + &sections.concat())
}

#[test]
fn each_is_decided_by_the_key_that_asks() {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    run(async {
        let cluster = plan(service.local_addr().unwrap().port()).start().await;
        let target = cluster.machine("web01").id();
        let peer = member(&cluster.machine("rogue").seed(), &target).await;
        for (service, code, why) in [
            (
                "closed",
                RefusalCode::NotAllowed,
                "service.closed.allow_from does not allow you",
            ),
            (
                "other",
                RefusalCode::NotAllowed,
                "there is no service `other` on this machine",
            ),
            (
                "",
                RefusalCode::NotAllowed,
                "there is no service `` on this machine",
            ),
        ] {
            let (_, answer) = connect(&peer, service).await;
            let (found, message) = refusal(answer);
            assert_eq!(found, Some(code), "{service}: {message}");
            assert!(message.contains(why), "{service}: {message}");
        }
        // What is no open is answered, and does no harm.
        let garbage = peer
            .request(RequestKind::Connect, vec![0, 0, 0, 2, 9, 9])
            .await;
        assert!(!garbage.is_empty());
        let (_held, answer) = connect(&peer, "open").await;
        assert_eq!(answer, FromServer::Accepted);
        peer.close().await;

        // A key that is no member's gets no answer at all, and nothing is connected for it.
        service.accept().unwrap();
        let open = FromClient::Open(Destination::Service("open".to_owned())).to_frame();
        let peer = Peer::connect(&stranger(), &target).await;
        peer.greet(None).await;
        assert_eq!(peer.request(RequestKind::Connect, open).await, b"");
        service.set_nonblocking(true).unwrap();
        assert!(service.accept().is_err());
        peer.close().await;
    });
}

#[test]
fn connections_of_one_member() {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    run(async {
        let limits = "[limits]\nforwards_per_peer = 2\nrequests_per_peer = 8\n";
        let cluster = plan(port).settings("web01", limits).start().await;
        let target = cluster.machine("web01").id();
        let peer = member(&cluster.machine("rogue").seed(), &target).await;
        let (one, answer) = connect(&peer, "open").await;
        assert_eq!(answer, FromServer::Accepted);
        let (_two, answer) = connect(&peer, "open").await;
        assert_eq!(answer, FromServer::Accepted);
        let (code, message) = refusal(connect(&peer, "open").await.1);
        assert_eq!(code, Some(RefusalCode::Busy));
        assert!(message.contains("forwards_per_peer = 2"), "{message}");
        // Dropping the streams ends the connection, and makes room for another.
        drop(one);
        service.accept().unwrap();
        service.accept().unwrap();
        until_async("a free place", async || {
            connect(&peer, "open").await.1 == FromServer::Accepted
        })
        .await;
        peer.close().await;
    });
}

/// A service that reads nothing keeps only its own connection waiting.
#[test]
fn one_that_is_not_read_does_not_hold_up_the_others() {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    run(async {
        let cluster = plan(port).start().await;
        let target = cluster.machine("web01").id();
        let peer = member(&cluster.machine("rogue").seed(), &target).await;
        let ((mut stuck, _answers), answer) = connect(&peer, "open").await;
        assert_eq!(answer, FromServer::Accepted);
        let (_unread, _) = service.accept().unwrap();
        let ((mut send, _other), answer) = connect(&peer, "open").await;
        assert_eq!(answer, FromServer::Accepted);
        let (mut read, _) = service.accept().unwrap();
        read.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        // Until nothing more is taken.
        let filled = async { while stuck.write_all(&[0; 65_536]).await.is_ok() {} };
        assert!(
            tokio::time::timeout(std::time::Duration::from_secs(1), filled)
                .await
                .is_err()
        );
        send.write_all(b"hello").await.unwrap();
        let heard = tokio::task::spawn_blocking(move || {
            let mut heard = [0; 5];
            read.read_exact(&mut heard).unwrap();
            heard
        });
        assert_eq!(&heard.await.unwrap(), b"hello");
        peer.close().await;
    });
}
