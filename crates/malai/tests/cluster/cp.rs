//! `malai cp` with real daemons: files, trees and streams in both directions, refusals, and interrupted copies.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::Cluster;

/// A path on web01, which runs on this computer.
fn on_web01(path: &Path) -> String {
    format!("web01.company:{}", path.display())
}

#[test]
fn files_trees_and_streams_go_both_ways_on_both_routes() {
    let cluster = Cluster::with_routes();
    for (number, route) in cluster.routes().iter().enumerate() {
        let top = cluster.folder().join(format!("cp{number}"));
        let (from, there, here) = (top.join("from"), top.join("there"), top.join("here"));
        for folder in [&from.join("sub"), &there, &here] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(from.join("a"), "hello\n").unwrap();
        fs::write(from.join("sub/big"), vec![3; 2_000_000]).unwrap();
        symlink("a", from.join("sub/link")).unwrap();
        let cp = |words: &[&str]| route.home.run(&[&["cp"], words].concat());
        let from_text = from.to_str().unwrap();
        let target = |path: &Path| format!("{}:{}", route.target, path.display());
        assert_eq!(cp(&["-r", from_text, &target(&there)]).clean(), "");
        let copied = there.join("from");
        assert_eq!(
            cp(&["-a", &target(&copied), here.to_str().unwrap()]).clean(),
            ""
        );
        let same = Command::new("diff")
            .args(["-r", "--no-dereference"])
            .args([&from, &here.join("from")])
            .status()
            .unwrap();
        assert!(same.success(), "{}", route.name);
        let words = ["cp", "-", &target(&there.join("stream"))];
        assert_eq!(route.home.run_with(&words, b"some bytes").clean(), "");
        assert_eq!(
            cp(&[&target(&there.join("stream")), "-"]).clean(),
            "some bytes"
        );
        let said = cp(&[
            &target(&there.join("none")),
            &target(&there.join("a\u{7}")),
            here.to_str().unwrap(),
        ]);
        assert_eq!(said.code, 1, "{}", said.shown());
        assert!(
            said.stderr.contains("none: no such file or directory"),
            "{}",
            said.shown()
        );
        assert!(!said.stderr.contains('\u{7}'), "{}", said.shown());
    }
}

#[test]
fn the_machine_decides_who_may_copy() {
    let cluster = Cluster::running(&["web01"]);
    cluster.edit(|text| {
        let (before, section) = text.rsplit_once("[machine.web01]").expect("the section");
        format!("{before}[machine.web01]\nallow_files = []{section}")
    });
    cluster.rescan_everywhere();
    let file = cluster.folder().join("file");
    fs::write(&file, "x").unwrap();
    let destination = cluster.folder().join("destination");
    let said = cluster
        .manager
        .run(&["cp", file.to_str().unwrap(), &on_web01(&destination)]);
    said.refused("machine.web01.allow_files does not allow you to copy files");
    assert!(!destination.exists());
    let said = cluster.manager.run(&["cp", "a", "b"]);
    said.refused("none of these paths is on a machine");
}

#[test]
fn a_copy_that_was_killed_goes_on() {
    let cluster = Cluster::running(&["web01"]);
    let top = cluster.folder().join("killed");
    fs::create_dir(&top).unwrap();
    let (from, to) = (top.join("from"), top.join("to"));
    let bytes: Vec<u8> = (0..20_000_000u32).map(|n| (n / 1000) as u8).collect();
    fs::write(&from, &bytes).unwrap();
    let part = top.join("to.malai-part");
    // Once all bytes have arrived, a stream that stays open is in the middle of a copy.
    let mut command = cluster.manager.command(&["cp", "-", &on_web01(&to)]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&bytes[..10_000_000]).unwrap();
    crate::harness::until("the beginning", || {
        fs::metadata(&part).is_ok_and(|part| part.len() > 9_000_000)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    assert!(!to.exists());
    let said = cluster
        .manager
        .run(&["cp", from.to_str().unwrap(), &on_web01(&to)]);
    assert_eq!(said.clean(), "");
    let mut arrived = Vec::new();
    fs::File::open(&to)
        .unwrap()
        .read_to_end(&mut arrived)
        .unwrap();
    assert!(arrived == bytes);
    assert!(!part.exists());
}

#[test]
fn several_machines_and_from_one_to_another() {
    let cluster = Cluster::running(&["web01", "db01"]);
    let top = cluster.folder().join("several");
    let (from, here, there) = (top.join("from"), top.join("here"), top.join("there"));
    for folder in [&from.join("sub"), &here, &there] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(from.join("motd"), "hello\n").unwrap();
    fs::write(from.join("sub/big"), vec![5; 1_000_000]).unwrap();
    let cp = |words: &[&str]| cluster.manager.run(&[&["cp"], words].concat());
    let motd = format!("web01.company,db01.company:{}", from.join("motd").display());
    assert_eq!(cp(&[&motd, here.to_str().unwrap()]).clean(), "");
    for name in ["motd.web01", "motd.db01"] {
        assert_eq!(fs::read(here.join(name)).unwrap(), b"hello\n", "{name}");
    }
    let said = cp(&[&motd, here.join("none").to_str().unwrap()]);
    assert_eq!(said.code, 1, "{}", said.shown());
    let both = format!("web01.company,db01.company:{}/", there.display());
    assert_eq!(
        cp(&[here.join("motd.web01").to_str().unwrap(), &both]).clean(),
        ""
    );
    assert_eq!(fs::read(there.join("motd.web01")).unwrap(), b"hello\n");
    let words = [
        "-r",
        &on_web01(&from),
        &format!("db01.company:{}", there.display()),
    ];
    assert_eq!(cp(&words).clean(), "");
    assert_eq!(
        fs::read(there.join("from/sub/big")).unwrap(),
        vec![5; 1_000_000]
    );
    // Copying again, with JSON output: nothing has to be sent.
    let said = cp(&[&["--json"], &words[..]].concat());
    let last = said.clean().lines().last().unwrap().to_owned();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (&last["bytes"], &last["failed"]),
        (&0.into(), &0.into()),
        "{last}"
    );
    assert_eq!(last["unchanged"], 2, "{last}");
    let said = cp(&[
        &on_web01(&top.join("none")),
        &format!("db01.company:{}", there.display()),
    ]);
    assert_eq!(said.code, 1, "{}", said.shown());
    // File operations are in the record of the machine that carries them out.
    let record = cluster.machine("db01").succeed(&["audit"]);
    let written = format!("{} · 1000000 bytes", there.join("from/sub/big").display());
    assert!(record.contains(&written), "{record}");
}

#[test]
fn what_cannot_be_written_is_named_where_it_cannot() {
    let cluster = Cluster::running(&["web01", "db01"]);
    let top = cluster.folder().join("unwritten");
    let (from, here, there) = (top.join("from"), top.join("here"), top.join("there"));
    for folder in [&from.join("sub"), &here, &there.join("from/a")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(from.join("a"), "hello\n").unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n / 1000) as u8).collect();
    fs::write(from.join("sub/big"), &bytes).unwrap();
    let db01 = format!("db01.company:{}", there.display());
    let expected = format!("malai: {db01}/from/a: a folder is there\n");
    for source in [from.to_str().unwrap(), &on_web01(&from)] {
        let said = cluster.manager.run(&["cp", "-r", source, &db01]);
        assert_eq!(
            (said.code, &said.stderr),
            (1, &expected),
            "{}",
            said.shown()
        );
    }
    // A local disk with no more room: a limit on the sizes of files acts alike.
    let words = ["cp", "-r", &on_web01(&from), here.to_str().unwrap()];
    let command = cluster.manager.command(&words);
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "-"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    let said = limited.output().unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    let big = here.join("from/sub/big");
    let expected = format!(
        "malai: {}: cannot write it: file too large; what arrived is kept in big.malai-part, and the same command continues from there\n",
        big.display()
    );
    assert_eq!((said.status.code(), text), (Some(1), expected));
    assert!(!big.exists());
    let part = fs::metadata(here.join("from/sub/big.malai-part")).unwrap();
    assert_eq!(part.len(), 1_024_000);
    let said = cluster
        .manager
        .run(&[&words[..1], &["--json"], &words[1..]].concat());
    let last = said.clean().lines().last().unwrap().to_owned();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["bytes"], 3_000_000 - 1_024_000, "{last}");
    assert_eq!(fs::read(&big).unwrap(), bytes);
}

#[test]
fn a_path_that_is_empty_is_the_home_and_wildcards_are_not_expanded() {
    let cluster = Cluster::running(&["web01"]);
    let top = cluster.folder().join("wild");
    fs::create_dir(&top).unwrap();
    fs::write(top.join("a.txt"), "a").unwrap();
    let top = top.to_str().unwrap();
    for path in ["", ".", "~"] {
        let said = cluster
            .manager
            .run(&["cp", &format!("web01.company:{path}"), top]);
        let expected = "it is a folder; -r copies folders\n";
        assert!(said.stderr.ends_with(expected), "{path}: {}", said.shown());
    }
    let wild = format!("web01.company:{top}/*.txt");
    let said = cluster.manager.run(&["cp", &wild, top]);
    let expected = format!(
        "malai: {wild}: no such file or directory; malai cp expands no wildcards: name each file, or copy the folder with -r\n"
    );
    assert_eq!((said.code, &said.stderr), (1, &expected));
    // A name with such a character is a name.
    fs::write(cluster.folder().join("wild/*.txt"), "star").unwrap();
    assert_eq!(cluster.manager.run(&["cp", &wild, "-"]).clean(), "star");
}
