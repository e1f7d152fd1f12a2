//! HTTP services: what is switched to a tunnel, what is passed on as it comes, and limits.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use malai_testing::TEST_TIMEOUT;

use crate::http::{Client, cluster, run, service, serving};
use crate::limits::member;

/// A connection that a test leads step by step.
fn led() -> (u16, Receiver<TcpStream>) {
    let (tell, opened) = channel();
    let tell: Sender<TcpStream> = tell;
    let port = serving(move |stream| {
        let _ = tell.send(stream);
    });
    (port, opened)
}

/// What a service has read up to the end of a header.
fn header(stream: &mut TcpStream) -> String {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        header.push(byte[0]);
    }
    String::from_utf8(header).unwrap()
}

#[test]
fn a_web_socket_is_a_tunnel_and_nothing_else_is_switched() {
    let (port, opened) = led();
    run(async {
        let cluster = cluster(port, "").await;
        let peer = member(
            &cluster.machine("rogue").seed(),
            &cluster.machine("web01").id(),
        )
        .await;
        let mut client = Client::connect(&peer).await;
        let ask = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nmalai_client_id52: forged\r\n";
        // What follows the request early is the tunnel's.
        client.say(&format!("{ask}\r\nearly")).await;
        let mut service = opened.recv_timeout(TEST_TIMEOUT).unwrap();
        let asked = header(&mut service);
        assert!(
            asked.contains("\r\nupgrade: websocket\r\n") && !asked.contains("forged"),
            "{asked}"
        );
        assert!(asked.contains("\r\nconnection: upgrade\r\n"), "{asked}");
        service
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\nfirst")
            .unwrap();
        let answer = client.until("first").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(
            answer.contains("\r\nsec-websocket-accept: a\r\n"),
            "{answer}"
        );
        let mut heard = [0; 5];
        service.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"early");
        client.say("malai-client-id52: as it is").await;
        let mut heard = [0; 27];
        service.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"malai-client-id52: as it is");
        // Half-closed both ways.
        client.send.finish().unwrap();
        assert_eq!(service.read(&mut [0]).unwrap(), 0);
        service.write_all(b"last").unwrap();
        drop(service);
        assert_eq!(client.rest().await, "last");

        // Another protocol is not asked for.
        let mut client = Client::connect(&peer).await;
        client
            .say("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tls/1.0\r\n\r\n")
            .await;
        let mut service = opened.recv_timeout(TEST_TIMEOUT).unwrap();
        let asked = header(&mut service);
        assert!(!asked.contains("pgrade"), "{asked}");
        // And nothing is switched that was not asked for.
        service
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .unwrap();
        let answer = client.until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");

        // HTTP/2 without TLS would be a tunnel for forged fields.
        for ask in [
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ] {
            let mut client = Client::connect(&peer).await;
            client.say(ask).await;
            let answer = client.until("not HTTP/2\n").await;
            assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
        }
        let mut client = Client::connect(&peer).await;
        client
            .say("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n")
            .await;
        let answer = client.until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
        assert!(opened.try_recv().is_err());
        peer.close().await;
    });
}

#[test]
fn events_arrive_as_they_are_sent() {
    let (port, opened) = led();
    run(async {
        let cluster = cluster(port, "").await;
        let peer = member(
            &cluster.machine("rogue").seed(),
            &cluster.machine("web01").id(),
        )
        .await;
        let mut client = Client::connect(&peer).await;
        client.say("GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut service = opened.recv_timeout(TEST_TIMEOUT).unwrap();
        header(&mut service);
        service
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            .unwrap();
        client.until("\r\n\r\n").await;
        for number in 0..3 {
            let event = format!("data: {number}\n\n");
            service.write_all(event.as_bytes()).unwrap();
            client.until(&event).await;
        }
        // The service learns that its client has gone.
        drop(client);
        assert!(matches!(service.read(&mut [0]), Ok(0) | Err(_)));
        peer.close().await;
    });
}

#[test]
fn a_body_is_sent_when_the_service_asks_for_it() {
    let (port, opened) = led();
    run(async {
        let cluster = cluster(port, "").await;
        let peer = member(
            &cluster.machine("rogue").seed(),
            &cluster.machine("web01").id(),
        )
        .await;
        let ask = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        let mut client = Client::connect(&peer).await;
        client.say(ask).await;
        let mut service = opened.recv_timeout(TEST_TIMEOUT).unwrap();
        let asked = header(&mut service);
        assert!(asked.contains("\r\nexpect: 100-continue\r\n"), "{asked}");
        service.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let answer = client.until("\r\n\r\n").await;
        assert_eq!(answer, "HTTP/1.1 100 Continue\r\n\r\n");
        client.say("body").await;
        let mut heard = [0; 4];
        service.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"body");
        service
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .unwrap();
        client.until("\r\n\r\n").await;

        // A service that does not want it says so at once, and the client is never asked for it.
        let mut client = Client::connect(&peer).await;
        client.say(ask).await;
        let mut service = opened.recv_timeout(TEST_TIMEOUT).unwrap();
        header(&mut service);
        service
            .write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 417 "), "{answer}");
        peer.close().await;
    });
}

#[test]
fn limits_of_a_header() {
    let (port, _seen) = service();
    run(async {
        let limits = "[limits]\nhttp_header_bytes = 8192\nhttp_header_seconds = 1\n";
        let cluster = cluster(port, limits).await;
        let peer = member(
            &cluster.machine("rogue").seed(),
            &cluster.machine("web01").id(),
        )
        .await;
        let mut client = Client::connect(&peer).await;
        let long = "x".repeat(10_000);
        let ask = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n");
        let _ = client.send.write_all(ask.as_bytes()).await;
        let answer = client.until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        // Neither silence nor half a header is waited for.
        for half in [
            "",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let mut client = Client::connect(&peer).await;
            client.say(half).await;
            client.rest().await;
        }
        peer.close().await;
    });
}

#[test]
fn a_service_that_is_down_or_gone() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    run(async {
        let cluster = cluster(port, "").await;
        let peer = member(
            &cluster.machine("rogue").seed(),
            &cluster.machine("web01").id(),
        )
        .await;
        let mut client = Client::connect(&peer).await;
        let ask = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        client.say(ask).await;
        let why = format!(
            "malai: cannot connect to 127.0.0.1:{port}: connection refused: nothing listens there\n"
        );
        let answer = client.until(&why).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        // The same connection serves when the service is there again, and again when it has closed its own.
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        for _ in 0..2 {
            client.say(ask).await;
            let (mut service, _) = listener.accept().unwrap();
            header(&mut service);
            service
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .unwrap();
            drop(service);
            client.until("ok").await;
        }
        // One that closes without a word.
        client.say(ask).await;
        let (mut service, _) = listener.accept().unwrap();
        header(&mut service);
        drop(service);
        let answer = client.until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        peer.close().await;
    });
}
