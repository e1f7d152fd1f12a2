//! `malai logs`: through all its files, since when, following, and where to look if there is none.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use expect_test::expect;

use crate::world::World;

#[test]
fn without_a_log_it_says_where_a_daemon_in_the_foreground_logs() {
    let world = World::new();
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: there is no log file [HOME]/malai.log: only a daemon in the background writes one; one in the foreground logs to its standard error (under systemd: journalctl -u malai)
    "#]]
    .assert_eq(&world.picture(&["logs"]));
}

#[test]
fn all_files_in_order_escaped_and_only_what_is_wanted() {
    let world = World::new();
    fs::create_dir(world.home()).unwrap();
    let line = |hour: u32| format!("2026-11-23T0{hour}:00:00.000Z  INFO hour {hour}\n");
    for (name, text) in [
        ("malai.log.2", line(1)),
        ("malai.log.1", line(2) + "thread 'main' panicked\x1b[2J\n"),
        (
            "malai.log",
            line(3) + "{\"time\":\"2026-11-23T04:00:00.000Z\",\"message\":\"json\"}\n",
        ),
    ] {
        fs::write(world.home().join(name), text).unwrap();
    }
    expect![[r#"
        2026-11-23T01:00:00.000Z  INFO hour 1
        2026-11-23T02:00:00.000Z  INFO hour 2
        thread 'main' panicked\x1b[2J
        2026-11-23T03:00:00.000Z  INFO hour 3
        {"time":"2026-11-23T04:00:00.000Z","message":"json"}
    "#]]
    .assert_eq(&world.succeed(&["logs"]));
    expect![[r#"
        2026-11-23T03:00:00.000Z  INFO hour 3
        {"time":"2026-11-23T04:00:00.000Z","message":"json"}
    "#]]
    .assert_eq(&world.succeed(&["logs", "-n", "2"]));
    expect![[r#"
        2026-11-23T02:00:00.000Z  INFO hour 2
        thread 'main' panicked\x1b[2J
        2026-11-23T03:00:00.000Z  INFO hour 3
        {"time":"2026-11-23T04:00:00.000Z","message":"json"}
    "#]]
    .assert_eq(&world.succeed(&["logs", "--since", "2026-11-23T01:30:00Z"]));
    assert_eq!(
        world
            .output(&["logs", "--since", "yesterday"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn following_continues_when_the_file_is_rotated() {
    let world = World::new();
    fs::create_dir(world.home()).unwrap();
    let log = world.home().join("malai.log");
    let mut file = File::create(&log).unwrap();
    writeln!(file, "one").unwrap();
    let mut child = world
        .command(&["logs", "-f", "-n", "5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || shown.next().unwrap().unwrap();
    assert_eq!(next(), "one");
    writeln!(file, "two").unwrap();
    assert_eq!(next(), "two");
    fs::rename(&log, world.home().join("malai.log.1")).unwrap();
    writeln!(file, "the last of the old").unwrap();
    fs::write(&log, "the first of the new\n").unwrap();
    assert_eq!(next(), "the last of the old");
    assert_eq!(next(), "the first of the new");
    child.kill().unwrap();
    child.wait().unwrap();
}
