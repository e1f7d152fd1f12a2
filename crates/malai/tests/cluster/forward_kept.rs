//! `[forward]` in malai.toml: what the daemon listens on by itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::forward::{add, answer, echo, error_of, service, tcp, through};
use crate::harness::{Cluster, Home, TEST_TIMEOUT, until};

fn write(home: &Home, lines: &str) {
    let text = format!("[forward]\n{lines}");
    std::fs::write(home.path.join("malai.toml"), text).unwrap();
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream
}

#[track_caller]
fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn they_start_with_the_daemon_and_follow_the_file() {
    let cluster = Cluster::running(&["web01"]);
    let (echoed, answered) = (service(echo), service(answer));
    let sections = tcp("echo", "web01", echoed) + &tcp("answer", "web01", answered);
    add(&cluster, &[], &sections);
    let boss = &cluster.manager;
    let [one, two] = [free_port(), free_port()];
    let socket = cluster.folder().join("kept.sock");
    // Left behind by somebody.
    drop(UnixListener::bind(&socket).unwrap());
    write(
        boss,
        &format!(
            "{one} = \"echo.company\"\n\"{}\" = \"answer.company\"\n",
            socket.display()
        ),
    );
    boss.stop();
    boss.start();
    let mut kept = connect(one);
    echoes(&mut kept);
    assert_eq!(through(&socket, b"by socket"), b"by socket");

    // Another line, one that is gone, and one that stays with its connection.
    let lines = format!("{one} = \"echo.company\"\n{two} = \"web01.company:localhost:{echoed}\"\n");
    write(boss, &lines);
    boss.succeed(&["rescan"]);
    echoes(&mut kept);
    echoes(&mut connect(two));
    assert!(!socket.exists());
    let status = boss.status();
    let shown = format!("   127.0.0.1:{one} → echo.company (1 open, 1 in all)\n");
    assert!(status.contains(&shown), "{status}");
    let facts = boss.succeed(&["status", "--json"]);
    let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["daemon"]["forwards"][0]["open"], 1);

    // The same place leads elsewhere.
    write(boss, &format!("{one} = \"answer.company\"\n"));
    boss.succeed(&["rescan"]);
    error_of(&mut kept);
    let mut stream = connect(one);
    stream.write_all(b"x").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "x");
    TcpStream::connect(("127.0.0.1", two)).unwrap_err();
}

#[test]
fn a_port_that_is_taken_is_a_warning_until_it_is_free() {
    let cluster = Cluster::running(&["web01"]);
    add(&cluster, &[], &tcp("echo", "web01", service(echo)));
    let boss = &cluster.manager;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    write(
        boss,
        &format!(
            "{port} = \"echo.company\"\n{} = \"gone.company\"\n",
            free_port()
        ),
    );
    let said = boss.succeed(&["rescan"]);
    let problem = format!("cannot listen on 127.0.0.1:{port}: another program already does");
    assert!(said.contains(&problem), "{said}");
    let status = boss.status();
    assert!(status.contains(&problem), "{status}");
    assert!(
        status.contains("cluster `company` has no service `gone`"),
        "{status}"
    );
    let doctor = boss.run(&["doctor"]);
    assert!(doctor.out().contains(&problem), "{}", doctor.shown());
    boss.stop();
    let started = boss.succeed(&["daemon"]);
    boss.started(&started);
    boss.run(&["boss.company", "true"]).clean();
    drop(taken);
    boss.succeed(&["rescan"]);
    until("the port", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    echoes(&mut connect(port));
    until("the status", || !boss.status().contains(&problem));

    let file = boss.path.join("malai.toml");
    std::fs::write(&file, "[forward]\n5432 = \"db\"\n").unwrap();
    let refused = boss.run(&["rescan"]);
    assert_ne!(refused.code, 0);
    assert!(
        refused.shown().contains("malai.toml:2:8"),
        "{}",
        refused.shown()
    );
    echoes(&mut connect(port));
}

#[test]
fn open_connections_do_not_hold_up_a_stop() {
    let cluster = Cluster::running(&["web01"]);
    add(&cluster, &[], &tcp("echo", "web01", service(echo)));
    let (boss, port) = (&cluster.manager, free_port());
    write(boss, &format!("{port} = \"echo.company\"\n"));
    boss.succeed(&["rescan"]);
    let forward = boss.spawn(&["forward", "0", "echo.company"]);
    let mut stream = connect(port);
    echoes(&mut stream);
    // On the side that serves, then on the side that asked.
    let begun = Instant::now();
    cluster.machine("web01").stop();
    assert!(begun.elapsed() < Duration::from_secs(3), "{begun:?}");
    error_of(&mut stream);
    cluster.machine("web01").start();
    let mut stream = connect(port);
    echoes(&mut stream);
    let begun = Instant::now();
    boss.stop();
    assert!(begun.elapsed() < Duration::from_secs(3), "{begun:?}");
    error_of(&mut stream);
    assert_eq!(crate::harness::finish(forward, Vec::new()).code, 255);
}
