//! The audit record: commands on every route, what people see of it, and what happens when it cannot be written.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use malai_wire::action::RecordedAction;
use malai_wire::argument::Argument;
use malai_wire::audit::{Decision, End, Event, Record, Request};

use crate::harness::{Cluster, Home, finish, until};

fn path(home: &Home) -> PathBuf {
    home.path.join("audit.jsonl")
}

/// All records of a home; every line must be complete.
#[track_caller]
fn records(home: &Home) -> Vec<Record> {
    let text = std::fs::read_to_string(path(home)).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let read = |line: &str| Record::from_line(line.as_bytes());
    text.lines()
        .map(|line| read(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

/// The decision, start and end of the last command.
#[track_caller]
fn last_command(home: &Home) -> (Decision, Request, End) {
    let all = records(home);
    let [decision, start, end] = &all[all.len().saturating_sub(3)..] else {
        panic!("{all:?}");
    };
    match (&decision.event, &start.event, &end.event) {
        (Event::Decision(decision), Event::Start(start), Event::End(end)) => {
            assert_eq!(decision.session, Some(start.session));
            assert_eq!((start.session, &start.user), (end.session, &end.user));
            assert_eq!(start.request, end.request);
            assert_eq!(start.request, decision.request);
            (decision.clone(), start.request.clone(), end.clone())
        }
        other => panic!("{other:?}"),
    }
}

fn text(argument: &str) -> Argument {
    Argument::Text(argument.to_owned())
}

#[test]
fn what_a_stopping_daemon_ends_is_recorded() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let child = cluster.manager.spawn(&["web01.company", "sleep", "600"]);
    until("the session", || {
        let last = records(web01).pop();
        matches!(last.map(|last| last.event), Some(Event::Start(_)))
    });
    web01.stop();
    finish(child, Vec::new());
    assert!(matches!(records(web01).pop().unwrap().event, Event::End(_)));
}

#[test]
fn what_people_see_of_it() {
    let cluster = Cluster::running(&["web01"]);
    let (web01, manager) = (cluster.machine("web01"), &cluster.manager);
    let nothing = Home::at(cluster.folder().join("nothing"));
    let empty = nothing.run(&["audit"]);
    assert_eq!((empty.code, empty.out()), (0, ""), "{}", empty.shown());
    assert!(
        empty.stderr.contains("no audit record yet"),
        "{}",
        empty.stderr
    );

    manager.succeed(&["web01.company", "echo", "from boss", "\x1b[2J"]);
    web01.succeed(&["web01.company", "true"]);
    web01.run(&["boss.company", "false"]);
    until("six lines", || records(web01).len() == 6);
    let show = |args: &[&str]| {
        let output = web01.run(&[&["audit"], args].concat());
        assert_eq!((output.code, output.stderr.as_str()), (0, ""));
        output.out().to_owned()
    };
    let all = show(&[]);
    assert_eq!(all.lines().count(), 6, "{all}");
    assert!(all.contains(" company boss allowed "), "{all}");
    assert!(all.contains(r"echo 'from boss' $'\x1b[2J' · as "), "{all}");
    assert!(
        all.contains(" · exit code 0 · the command ended · "),
        "{all}"
    );
    for (args, lines) in [
        (&["-n", "2"][..], 2),
        (&["--from", "boss"], 3),
        (&["--machine", &cluster.id], 3),
        (&["--cluster", "company"], 6),
        (&["--cluster", &cluster.id, "--from", "web01"], 3),
        (&["--refused"], 0),
        (&["--since", "1h"], 6),
        (&["--since", "2100-01-01"], 0),
    ] {
        assert_eq!(show(args).lines().count(), lines, "{args:?}");
    }
    for args in [["--from", "web02"], ["--cluster", "other"]] {
        let output = web01.run(&[&["audit"][..], &args].concat());
        assert_eq!((output.code, output.out()), (0, ""), "{args:?}");
        assert!(
            output.stderr.contains("no record matches"),
            "{}",
            output.stderr
        );
    }
    let json = show(&["--json"]);
    assert_eq!(json, std::fs::read_to_string(path(web01)).unwrap());
    let wrong = web01.run(&["audit", "--since", "yesterday"]);
    assert_eq!(wrong.code, 2, "{}", wrong.shown());

    // `--follow` shows new records, and ends when nobody reads them any more.
    let mut child = web01.spawn(&["audit", "--follow", "-n", "1"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().contains(" ended "));
    manager.succeed(&["web01.company", "echo", "followed"]);
    for what in ["allowed", "started", "ended"] {
        let line = next();
        assert!(
            line.contains(what) && line.contains("echo followed"),
            "{line}"
        );
    }
    std::fs::rename(path(web01), web01.path.join("audit.jsonl.1")).unwrap();
    manager.succeed(&["web01.company", "echo", "in the next file"]);
    assert!(next().contains("echo 'in the next file'"));
    drop(lines);
    let output = finish(child, Vec::new());
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert_eq!(show(&[]).lines().count(), 12, "through both files");
}

#[test]
fn a_killed_daemon_leaves_a_record_that_reads() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    let child = cluster.manager.spawn(&["web01.company", "sleep", "600"]);
    until("the session", || {
        matches!(
            records(web01).last().map(|last| &last.event),
            Some(Event::Start(_))
        )
    });
    web01.kill();
    let whole = records(web01).len();
    // A crash of the computer or a full disk may leave a partial line.
    let torn = &std::fs::read(path(web01)).unwrap()[..100];
    let text = [&std::fs::read(path(web01)).unwrap()[..], torn].concat();
    std::fs::write(path(web01), text).unwrap();
    web01.start();
    let ended = || {
        let output = web01.run(&["audit"]);
        let text = output.out();
        let is_end = |line: &&str| line.contains("malai ended before it could record the end");
        text.lines()
            .filter(is_end)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let once = ended();
    assert_eq!(once.len(), 1, "{once:?}");
    assert!(once[0].contains("sleep 600"), "{once:?}");
    // The next start does not report it again.
    web01.stop();
    web01.start();
    assert_eq!(ended(), once);
    assert_eq!(finish(child, Vec::new()).code, 255);
    until("a command", || {
        cluster
            .manager
            .run(&["web01.company", "echo", "again"])
            .code
            == 0
    });
    let output = web01.run(&["audit"]);
    assert_eq!(output.code, 0);
    assert!(
        output.out().lines().count() >= whole + 3,
        "{}",
        output.out()
    );
    assert!(
        output.stderr.contains("skipped 1 damaged line ("),
        "{}",
        output.stderr
    );
    assert!(output.out().lines().last().unwrap().contains("echo again"));
}

#[test]
fn arguments_can_be_kept_out() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    std::fs::write(web01.path.join("malai.toml"), "audit_arguments = false\n").unwrap();
    web01.succeed(&["rescan"]);
    let output = cluster
        .manager
        .run(&["web01.company", "echo", "-psecret", "geheim"]);
    assert_eq!(output.clean(), "-psecret geheim\n");
    let (_, request, _) = last_command(web01);
    assert_eq!(
        request.action,
        RecordedAction::Exec {
            argv: vec![text("echo")],
            argv_left_out: 2
        }
    );
    let log = web01.log();
    assert!(
        !log.contains("secret") && log.contains("allowed: echo"),
        "{log}"
    );
    let shown = web01.succeed(&["audit", "-n", "1"]);
    assert!(shown.contains(" echo …(+2 arguments) "), "{shown}");
}

#[test]
fn a_removed_record_is_reported_and_started_again() {
    let cluster = Cluster::running(&["web01"]);
    let web01 = cluster.machine("web01");
    cluster.manager.succeed(&["web01.company", "true"]);
    std::fs::remove_file(path(web01)).unwrap();
    cluster.manager.succeed(&["web01.company", "echo", "after"]);
    until("its records", || records(web01).len() == 3);
    let status = web01.status();
    assert!(
        status.contains("was deleted while malai was running"),
        "{status}"
    );
    assert!(web01.log().contains("was deleted while malai was running"));
}

/// A file system for this test, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// Mounts it if permitted; otherwise says that the test is skipped.
    fn new(arguments: &[&str], at: &Path) -> Option<Mount> {
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(at).stderr(Stdio::piped());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Mount(at.to_owned())),
            other => {
                eprintln!("left out, since nothing can be mounted here: {other:?}");
                None
            }
        }
    }

    /// Makes this path read-only.
    fn read_only(at: &Path) -> Option<Mount> {
        let shown = at.to_str().unwrap();
        let mount = Mount::new(&["--bind", shown], at)?;
        // This is the same mount, so it is forgotten rather than unmounted twice.
        let remounted = Mount::new(&["-o", "remount,bind,ro"], at)?;
        std::mem::forget(remounted);
        Some(mount)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk() {
    let mut cluster = Cluster::running(&[]);
    let folder = cluster.folder().join("db");
    std::fs::create_dir(&folder).unwrap();
    let Some(_mount) = Mount::new(
        &["-t", "tmpfs", "-o", "size=512k,mode=700", "none"],
        &folder,
    ) else {
        return;
    };
    let section = cluster.join("db");
    cluster.edit(|text| format!("{text}\n{section}"));
    let db = cluster.machine("db");
    // The settings are elsewhere, since they are written while the disk is full.
    let settings = cluster.folder().join("db.toml");
    std::fs::write(&settings, "").unwrap();
    std::os::unix::fs::symlink(&settings, folder.join("malai.toml")).unwrap();
    db.start();
    cluster.rescan_everywhere();
    let run = || cluster.manager.run(&["db.company", "echo", "on"]);
    run().clean();

    let filler = folder.join("filler");
    let fill = || {
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write(&mut file, &[0; 4096]).is_ok_and(|written| written > 0) {}
    };
    fill();
    // Pages in use still have room; then there is none.
    until("the notice", || {
        run().clean();
        db.status().contains("cannot be written")
    });
    let status = db.status();
    assert!(status.to_lowercase().contains("no space left"), "{status}");
    assert!(status.contains("commands run anyway"), "{status}");

    std::fs::write(&settings, "audit = \"required\"\n").unwrap();
    db.succeed(&["rescan"]);
    fill();
    let marker = cluster.folder().join("marker");
    let touch = || {
        cluster
            .manager
            .run(&["db.company", "touch", marker.to_str().unwrap()])
    };
    let refused = touch();
    refused.refused("the audit record of this machine cannot be written");
    refused.refused("audit = \"required\"");
    refused.refused("nothing was run");
    assert!(!marker.exists());
    assert!(db.status().contains("what cannot be recorded is refused"));

    std::fs::remove_file(&filler).unwrap();
    let again = touch();
    assert_eq!(again.clean(), "");
    assert!(marker.exists());
    let status = db.status();
    assert!(!status.contains("cannot be written"), "{status}");
    let output = db.run(&["audit"]);
    assert!(output.out().contains(" missing "), "{}", output.shown());
    assert!(output.out().lines().last().unwrap().contains("touch"));
}

#[test]
fn a_read_only_record_and_a_read_only_home() {
    let cluster = Cluster::running(&["web01", "laptop"]);
    let (web01, laptop) = (cluster.machine("web01"), cluster.machine("laptop"));
    web01.stop();
    laptop.stop();
    let Some(_file) = Mount::read_only(&path(web01)) else {
        return;
    };
    web01.start();
    let status = web01.status();
    assert!(
        status.contains("cannot be written"),
        "known from the start: {status}"
    );
    let run = || cluster.manager.run(&["web01.company", "echo", "on"]);
    assert_eq!(run().clean(), "on\n");
    assert!(web01.log().contains("cannot be written"));
    std::fs::write(web01.path.join("malai.toml"), "audit = \"required\"\n").unwrap();
    web01.succeed(&["rescan"]);
    run().refused("cannot be written");

    // Without a daemon, the command line reports it.
    let settings = laptop.path.join("malai.toml");
    for (text, required) in [("", false), ("audit = \"required\"\n", true)] {
        std::fs::write(&settings, text).unwrap();
        let Some(_home) = Mount::read_only(&laptop.path) else {
            return;
        };
        let output = laptop.run(&["laptop.company", "echo", "on"]);
        assert!(output.stderr.starts_with("malai: "), "{}", output.shown());
        assert!(
            output.stderr.contains("cannot be written"),
            "{}",
            output.shown()
        );
        match required {
            true => output.refused("nothing was run"),
            false => assert_eq!(
                (output.code, output.out()),
                (0, "on\n"),
                "{}",
                output.shown()
            ),
        }
        // A command that runs elsewhere is recorded elsewhere.
        let elsewhere = laptop.run(&["boss.company", "echo", "on"]);
        assert_eq!(elsewhere.clean(), "on\n");
    }
}
