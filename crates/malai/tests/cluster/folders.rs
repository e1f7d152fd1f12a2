//! Folders by name, by real daemons: reached by `malai cp` and sftp, by nobody else, and never left.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Cluster, Output};

/// A cluster in which the manager may do nothing on web01 but use two folders of it, and their parent there.
fn with_folders() -> (Cluster, PathBuf) {
    let cluster = Cluster::running(&["web01"]);
    let top = cluster.folder().join("served");
    for folder in ["logs/sub", "drop", "outside"] {
        fs::create_dir_all(top.join(folder)).unwrap();
    }
    fs::write(top.join("logs/access.log"), "seen\n").unwrap();
    fs::write(top.join("logs/sub/deep"), "deep\n").unwrap();
    fs::write(top.join("outside/secret"), "secret\n").unwrap();
    for folder in ["logs", "drop"] {
        symlink("../outside", top.join(folder).join("out")).unwrap();
        symlink("../outside/secret", top.join(folder).join("up")).unwrap();
    }
    let shown = top.display().to_string();
    cluster.edit(|text| {
        let (before, section) = text.rsplit_once("[machine.web01]").expect("the section");
        let section = section.replacen("allow_from = \"*\"\n", "allow_from = []\n", 1);
        format!(
            "{before}[machine.web01]{section}\n\
             [folder.logs]\nmachine = \"web01\"\npath = \"{shown}/logs\"\nallow_from = \"*\"\n\
             [folder.drop]\nmachine = \"web01\"\npath = \"{shown}/drop\"\nwrite = true\nallow_from = \"*\"\n"
        )
    });
    cluster.rescan_everywhere();
    (cluster, top)
}

fn cp(cluster: &Cluster, words: &[&str]) -> Output {
    cluster.manager.run(&[&["cp"], words].concat())
}

#[test]
fn a_folder_is_a_target_and_all_that_its_members_get() {
    let (cluster, top) = with_folders();
    let here = cluster.folder().join("here");
    fs::create_dir(&here).unwrap();
    let here_text = here.to_str().unwrap();
    assert_eq!(
        cp(&cluster, &["logs.company:access.log", "-"]).clean(),
        "seen\n"
    );
    assert_eq!(
        cp(&cluster, &["logs.company:/sub/deep", "-"]).clean(),
        "deep\n"
    );
    // The folder as a whole, with its links as links.
    assert_eq!(
        cp(&cluster, &["-r", "logs.company:", here_text]).clean(),
        ""
    );
    assert_eq!(fs::read(here.join("sub/deep")).unwrap(), b"deep\n");
    assert_eq!(
        fs::read_link(here.join("up")).unwrap().to_str(),
        Some("../outside/secret")
    );
    for path in [
        "up",
        "out/secret",
        "../outside/secret",
        "/../outside/secret",
    ] {
        let said = cp(&cluster, &[&format!("logs.company:{path}"), here_text]);
        let expected = format!("malai: logs.company:{path}: its path leads out of the folder\n");
        assert_eq!((said.code, &said.stderr), (1, &expected), "{path}");
        assert!(!here.join("secret").exists(), "{path}");
    }
    let file = here.join("access.log");
    let file = file.to_str().unwrap();
    let said = cp(&cluster, &[file, "logs.company:new"]);
    assert_eq!(said.code, 1, "{}", said.shown());
    assert!(
        said.stderr.contains("this folder is read-only"),
        "{}",
        said.shown()
    );
    assert_eq!(
        cp(&cluster, &["-r", here_text, "drop.company:in"]).clean(),
        ""
    );
    assert_eq!(fs::read(top.join("drop/in/sub/deep")).unwrap(), b"deep\n");
    for path in ["up", "out/x", "../outside/x"] {
        let said = cp(&cluster, &[file, &format!("drop.company:{path}")]);
        let expected = "its path leads out of the folder\n";
        assert!(said.stderr.ends_with(expected), "{path}: {}", said.shown());
    }
    assert_eq!(fs::read_dir(top.join("outside")).unwrap().count(), 1);
    assert_eq!(fs::read(top.join("outside/secret")).unwrap(), b"secret\n");
    // Nothing else there.
    let manager = &cluster.manager;
    let path = format!("web01.company:{}/logs/access.log", top.display());
    cp(&cluster, &[&path, "-"])
        .refused("machine.web01.allow_from does not allow you to copy files");
    manager.run(&["logs.company", "cat", "access.log"]).refused(
        "`logs.company` is a folder, on which no commands run: copy its files with `malai cp",
    );
    manager
        .run(&["ssh", "-s", "logs.company", "netconf"])
        .refused("there is no subsystem");
    let why = manager.succeed(&["why", "web01", "logs.company"]);
    for line in [
        "web01 may copy files of logs.company",
        "folder.logs.allow_from: *",
        "reading only",
    ] {
        assert!(why.contains(line), "{line}: {why}");
    }
    let record = cluster.machine("web01").succeed(&["audit"]);
    for line in [
        "subsystem malai-cp of folder logs",
        "folder.drop.allow_from",
    ] {
        assert!(record.contains(line), "{line}: {record}");
    }
    // The write to the folder that is read-only.
    let refused = cluster.machine("web01").succeed(&["audit", "--refused"]);
    assert!(
        refused.contains("refused") && refused.contains("new"),
        "{refused}"
    );
}

/// What is in the folder; its length differs from that of the secret.
const WITHIN: &str = "within the folder\n";

/// Names change between folders, files and links that lead out, as fast as they can, while both servers read and write
/// through them.
#[test]
fn no_name_that_is_swapped_leads_out_of_a_folder() {
    let (cluster, top) = with_folders();
    let drop = top.join("drop");
    fs::create_dir(drop.join("real")).unwrap();
    fs::write(drop.join("real/secret"), WITHIN).unwrap();
    let here = cluster.folder().join("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("new"), "new\n").unwrap();
    let (stop, swaps) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    let until = Instant::now() + duration();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, out, name) = (drop.join("real"), drop.join("out"), drop.join("name"));
            while !stop.load(Ordering::Relaxed) {
                for other in [&real, &out] {
                    // A copy may have put a file there while neither had the name.
                    if fs::rename(other, &name).is_err() {
                        let _ = fs::remove_file(&name);
                    }
                    let _ = fs::rename(&name, other);
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
                if !out.is_symlink() {
                    let _ = fs::remove_file(&out);
                    symlink("../outside", &out).unwrap();
                }
            }
        });
        // A failure too ends the thread above, which the scope waits for.
        let _stop = StopOnDrop(&stop);
        let mut copies = 0;
        while Instant::now() < until {
            let said = cp(&cluster, &["drop.company:name/secret", "-"]);
            assert!(["", WITHIN].contains(&said.out()), "{}", said.shown());
            let said = cp(
                &cluster,
                &[
                    "-r",
                    "drop.company:name",
                    here.join("got").to_str().unwrap(),
                ],
            );
            assert!(said.code <= 1, "{}", said.shown());
            if let Ok(text) = fs::read(here.join("got/secret")) {
                assert_eq!(text, WITHIN.as_bytes());
            }
            let said = cluster
                .manager
                .run_with(&["ssh", "-s", "drop.company", "sftp"], &requests());
            assert_eq!(said.code, 0, "{}", said.shown());
            for length in lengths(&said.stdout) {
                assert_eq!(length, WITHIN.len() as u64);
            }
            for target in ["drop.company:name/new", "drop.company:name"] {
                let said = cp(&cluster, &[here.join("new").to_str().unwrap(), target]);
                assert!(said.code <= 1, "{}", said.shown());
            }
            copies += 4;
        }
        assert!(copies > 0);
        eprintln!("{copies} copies, {} swaps", swaps.load(Ordering::Relaxed));
    });
    let outside: Vec<_> = fs::read_dir(top.join("outside")).unwrap().collect();
    assert_eq!(outside.len(), 1, "{outside:?}");
    assert_eq!(fs::read(top.join("outside/secret")).unwrap(), b"secret\n");
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// For the sftp server: thousands of questions about a file behind the name, and of folders and links to make there.
fn requests() -> Vec<u8> {
    let mut all = vec![0, 0, 0, 5, 1, 0, 0, 0, 3];
    for id in 0u32..3000 {
        let (kind, strings): (u8, &[&[u8]]) = match id % 3 {
            0 => (17, &[b"name/secret"]),
            1 => (14, &[b"name/made"]),
            _ => (20, &[b"/etc/hosts", b"name/link"]),
        };
        let mut packet = vec![kind];
        packet.extend(id.to_be_bytes());
        for string in strings {
            packet.extend((string.len() as u32).to_be_bytes());
            packet.extend(*string);
        }
        packet.extend(0u32.to_be_bytes());
        all.extend((packet.len() as u32).to_be_bytes());
        all.extend(packet);
    }
    all
}

/// The lengths in all answers that are attributes of a file.
fn lengths(mut answers: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some((length, rest)) = answers.split_first_chunk::<4>() {
        let (packet, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        if packet[0] == 105 {
            found.push(u64::from_be_bytes(packet[9..17].try_into().unwrap()));
        }
        answers = rest;
    }
    found
}

/// How long names are swapped: a few seconds, or `MALAI_SWAP_SECONDS`.
fn duration() -> Duration {
    let seconds = std::env::var("MALAI_SWAP_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}
