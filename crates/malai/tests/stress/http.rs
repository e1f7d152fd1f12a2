//! A large body to and from an HTTP service, in bounded memory.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::thread;

use crate::harness::{Cluster, Home, TEST_TIMEOUT};
use crate::measure::{highest, memory, reset_highest};

/// The length of the body.
const BODY: u64 = 256 << 20;

/// How much larger either daemon may become.
const MOST: u64 = 48 << 20;

#[test]
fn a_large_body_takes_no_memory() {
    let cluster = Cluster::running(&["web01"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    cluster.edit(|text| {
        format!("{text}\n[service.web]\nmachine = \"web01\"\nhttp = \"127.0.0.1:{port}\"\nallow_from = \"*\"\n")
    });
    cluster.rescan_everywhere();
    // Sends back what it gets, chunk by chunk.
    thread::spawn(move || {
        let (mut from, _) = listener.accept().unwrap();
        let mut to = from.try_clone().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            from.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        to.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .unwrap();
        std::io::copy(&mut from, &mut to).unwrap();
    });
    let (mut forward, place) = forward(&cluster.manager);
    let daemons = [cluster.manager.pid(), cluster.machine("web01").pid()];
    let before = daemons.map(|pid| memory(pid, "VmRSS"));
    daemons.iter().for_each(|pid| reset_highest(*pid));

    let mut stream = TcpStream::connect(place).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let mut to = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..BODY >> 20 {
            to.write_all(b"100000\r\n").unwrap();
            to.write_all(&chunk).unwrap();
            to.write_all(b"\r\n").unwrap();
        }
        to.write_all(b"0\r\n\r\n").unwrap();
    });
    let mut heard = 0;
    let mut buffer = vec![0; 1 << 20];
    let mut end = Vec::new();
    while !end.ends_with(b"\r\n0\r\n\r\n") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the end after {heard} bytes");
        heard += buffer[..count].iter().filter(|byte| **byte == b'x').count() as u64;
        end.extend_from_slice(&buffer[count.saturating_sub(7)..count]);
        let surplus = end.len().saturating_sub(7);
        end.drain(..surplus);
    }
    writing.join().unwrap();
    assert_eq!(heard, BODY);
    stream.shutdown(Shutdown::Both).unwrap();
    for (pid, before) in daemons.into_iter().zip(before) {
        let grown = (highest(pid) as u64).saturating_sub(before);
        assert!(grown < MOST, "{grown} bytes more in {pid}");
    }
    forward.kill().unwrap();
    forward.wait().unwrap();
}

/// A running `malai forward` to the service, and where it listens.
fn forward(home: &Home) -> (Child, String) {
    use std::io::BufRead;
    let mut child = home.spawn(&["forward", "0", "web.company"]);
    let mut line = String::new();
    let said = child.stderr.take().unwrap();
    std::io::BufReader::new(said).read_line(&mut line).unwrap();
    let place = line.strip_prefix("malai: forwarding ");
    let place = place.and_then(|rest| rest.split_once(" to ")).expect(&line);
    (child, place.0.to_owned())
}
