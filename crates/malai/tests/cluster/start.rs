//! What a daemon serves if it is started with errors in its files, and when it does not start.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Cluster, Home, Output};

/// A second cluster on this manager, and its file.
fn other(manager: &Home) -> (PathBuf, String) {
    manager.succeed(&["cluster", "init", "other"]);
    let path = manager.path.join("clusters/other/cluster.toml");
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

#[track_caller]
fn assert_says(output: &Output, words: &[&str]) {
    for words in words {
        assert!(
            output.stderr.contains(words),
            "no {words:?} in {}",
            output.shown()
        );
    }
}

#[test]
fn where_nothing_can_be_served_every_problem_of_every_file_is_listed() {
    let cluster = Cluster::new(&["web01"]);
    let manager = &cluster.manager;
    let (other, other_text) = other(manager);
    let good = manager.read("cluster.toml");
    let text = good.replace("allow_from = \"*\"", "allow_form = \"*\"");
    manager.write(
        "cluster.toml",
        &format!("{text}\n[machine.Bad_Name]\nid52 = \"x\"\n"),
    );
    fs::write(
        &other,
        format!("{other_text}\n[group.g]\nmembers = \"nobody\"\n"),
    )
    .unwrap();
    let settings = manager.path.join("malai.toml");
    fs::write(&settings, "[network]\nreech = \"lan\"\n").unwrap();
    let of_clusters = [
        "allow_form",
        "Bad_Name",
        "nobody",
        "company/cluster.toml:",
        "other/cluster.toml:",
        "malai rescan --check",
    ];
    for args in [&["daemon"][..], &["daemon", "--foreground"]] {
        let output = manager.run(args);
        assert_eq!((output.code, output.out()), (1, ""), "{}", output.shown());
        assert_says(&output, &of_clusters);
        // malai.toml is broken, so it is not known what this computer accepts.
        assert_says(&output, &["malai.toml:", "reech"]);
        assert!(
            output.stderr.matches("allow_form").count() >= 2,
            "each of them: {}",
            output.shown()
        );
    }
    assert!(!manager.is_held());
    assert_eq!(manager.run(&["status"]).code, 1);
    fs::remove_file(&settings).unwrap();
    let output = manager.run(&["daemon"]);
    assert_eq!(output.code, 1, "{}", output.shown());
    assert_says(&output, &of_clusters);
    assert_says(&output, &["no cluster can be served"]);
    // One valid cluster is enough to start, except with `--strict`.
    manager.write("cluster.toml", &good);
    let output = manager.run(&["daemon", "--strict"]);
    assert_eq!(output.code, 1, "{}", output.shown());
    assert_says(&output, &["nobody", "--strict"]);
    let pid = manager.start();
    let status = manager.run(&["status"]);
    assert_eq!(status.code, 1, "{}", status.shown());
    assert!(
        status.out().contains("does not serve it"),
        "{}",
        status.shown()
    );
    // Once fixed, a cluster is served without a restart.
    fs::write(&other, &other_text).unwrap();
    manager.succeed(&["rescan", "other"]);
    assert_eq!(manager.run(&["status"]).code, 0);
    assert_eq!(manager.pid(), pid);
    manager.stop();
    let output = manager.run(&["daemon", "--strict"]);
    assert_eq!(output.code, 0, "{}", output.shown());
    manager.succeed(&["stop"]);
}

/// A typing error that was harmless while the daemon ran must not stop anything after a reboot.
#[test]
fn a_cluster_is_served_by_what_it_published_last() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    other(manager);
    manager.succeed(&["rescan", "other"]);
    let revision = manager.revision();
    manager.stop();
    let good = manager.read("cluster.toml");
    for (text, words) in [
        (
            Some(good.replace("allow_from", "allow_form")),
            &["allow_form", "did you mean `allow_from`?"][..],
        ),
        (Some("[broken".to_owned()), &["cluster.toml:1"]),
        (None, &["is missing"]),
    ] {
        match text {
            Some(text) => manager.write("cluster.toml", &text),
            None => fs::remove_file(manager.file("cluster.toml")).unwrap(),
        }
        let output = manager.run(&["daemon"]);
        assert_eq!(output.code, 0, "{}", output.shown());
        let kept = format!("revision {revision} stays in force");
        assert_says(&output, words);
        assert_says(&output, &[&kept]);
        manager.own(
            output
                .out()
                .split_once("(pid ")
                .unwrap()
                .1
                .split_once(')')
                .unwrap()
                .0
                .parse()
                .unwrap(),
        );
        // The cluster is still served.
        assert_eq!(manager.revision(), revision);
        assert_eq!(
            manager.run(&["web01.company", "echo", "on"]).clean(),
            "on\n"
        );
        // The status reports the error.
        let status = manager.run(&["status"]);
        assert_eq!(status.code, 1, "{}", status.shown());
        assert!(status.out().contains("RUNNING ✅"), "{}", status.shown());
        assert!(
            status.out().contains("malai rescan --check company"),
            "{}",
            status.shown()
        );
        // One fault is told once, and what is in force is what is shown.
        let of_it = |shown: &str| shown.matches("rescan --check company").count();
        assert_eq!(of_it(status.out()), 1, "{}", status.shown());
        assert!(
            status.out().contains("📊 Machines: 2\n"),
            "{}",
            status.shown()
        );
        let list = manager.run(&["list"]);
        assert_eq!(list.code, 0, "{}", list.shown());
        assert!(list.out().contains("web01    online"), "{}", list.shown());
        let doctor = manager.run(&["doctor"]);
        assert_eq!(doctor.code, 1, "{}", doctor.shown());
        assert!(
            !doctor.out().contains("its files have errors"),
            "{}",
            doctor.shown()
        );
        assert!(doctor.out().contains(words[0]), "{}", doctor.shown());
        assert!(
            doctor.out().contains("stays in force"),
            "{}",
            doctor.shown()
        );
        let log = manager.log();
        let line = log.lines().rfind(|line| line.contains(words[0]));
        let line = line.unwrap_or_else(|| panic!("no {words:?} in {log}"));
        assert!(line.contains("ERROR") && !line.contains("\\u{a}"), "{line}");
        assert!(log.contains(&kept), "{log}");
        let rescan = manager.run(&["rescan"]);
        assert_eq!(rescan.code, 1, "{}", rescan.shown());
        manager.stop();
    }
    manager.write("cluster.toml", &good);
    manager.start();
    assert_eq!(manager.revision(), revision);
    assert_eq!(manager.run(&["status"]).code, 0);
}

#[test]
fn folders_that_cannot_be_clusters_are_warnings() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    manager.stop();
    let clusters = manager.path.join("clusters");
    for name in ["lost+found", "company.bak", "empty"] {
        fs::create_dir(clusters.join(name)).unwrap();
    }
    fs::write(clusters.join("company.bak/cluster.toml"), "").unwrap();
    for args in [&["daemon"][..], &["daemon", "--strict"]] {
        let output = manager.run(args);
        assert_eq!(output.code, 0, "{}", output.shown());
        assert_says(
            &output,
            &["lost+found", "company.bak", "empty", "warning: "],
        );
        assert!(!output.stderr.contains("error"), "{}", output.shown());
        manager.own(
            output
                .out()
                .split_once("(pid ")
                .unwrap()
                .1
                .split_once(')')
                .unwrap()
                .0
                .parse()
                .unwrap(),
        );
        for args in [&["status"][..], &["rescan", "--check"], &["rescan"]] {
            let output = manager.run(args);
            assert_eq!(output.code, 0, "{args:?}: {}", output.shown());
            assert!(output.out().contains("lost+found"), "{}", output.shown());
        }
        let doctor = manager.run(&["doctor"]);
        assert_eq!(doctor.code, 0, "{}", doctor.shown());
        let away = format!("mv {}/empty", clusters.display());
        assert!(doctor.out().contains(&away), "{}", doctor.shown());
        let list = manager.run(&["list"]);
        assert!(list.out().contains("web01    online"), "{}", list.shown());
        assert!(!list.out().contains("lost+found"), "{}", list.shown());
        let rescan = manager.run(&["rescan"]);
        assert!(
            rescan.out().contains("⚠️  lost+found: "),
            "{}",
            rescan.shown()
        );
        assert_eq!(
            manager.run(&["why", "web01", "web01.company", "ls"]).code,
            0
        );
        assert_eq!(
            manager.run(&["rescan", "empty"]).code,
            1,
            "it was asked for"
        );
        manager.stop();
    }
}

/// Administrators copy a folder next to the original before they edit it.
#[test]
fn of_a_copied_folder_one_is_served() {
    let cluster = Cluster::running(&["web01"]);
    let manager = &cluster.manager;
    let copy = manager.path.join("clusters/a-copy");
    fs::create_dir(&copy).unwrap();
    for file in ["cluster.toml", "cluster.private-key", "published"] {
        fs::copy(manager.file(file), copy.join(file)).unwrap();
    }
    // The served one stays, although the other comes first.
    let output = manager.run(&["rescan"]);
    assert_eq!(output.code, 1, "{}", output.shown());
    assert!(
        output
            .out()
            .contains("a-copy and company are the same cluster"),
        "{}",
        output.shown()
    );
    // The other one hides nothing of it.
    let list = manager.run(&["list"]);
    assert_eq!(list.code, 0, "{}", list.shown());
    assert!(
        list.out().contains("the daemon does not serve it"),
        "{}",
        list.shown()
    );
    assert!(list.out().contains("web01    online"), "{}", list.shown());
    cluster.edit(|text| format!("{text}\n[group.g]\nmembers = \"boss\"\n"));
    assert_eq!(manager.run(&["rescan", "company"]).code, 0);
    let revision = manager.revision();
    manager.stop();
    // After a restart, the newest one is served.
    let output = manager.run(&["daemon"]);
    assert_eq!(output.code, 0, "{}", output.shown());
    assert_says(&output, &["a-copy and company are the same cluster"]);
    assert_eq!(manager.revision(), revision);
    assert_eq!(
        manager.run(&["web01.company", "echo", "on"]).clean(),
        "on\n"
    );
    manager.succeed(&["stop"]);
}

/// Orphans become children of a container's first process, and stay zombies until it waits for them.
#[test]
fn the_first_process_of_a_container_reaps_orphans() {
    let contained = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let can = std::process::Command::new("unshare")
        .args(contained)
        .arg("true")
        .output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("this computer gives the test no process namespace");
        return;
    }
    let cluster = Cluster::new(&[]);
    let manager = &cluster.manager;
    let program = env!("CARGO_BIN_EXE_malai");
    let mut command = manager.command(&["daemon", "--foreground"]);
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
        .collect();
    command = std::process::Command::new("unshare");
    let mut container = command
        .args(contained)
        .args([program, "daemon", "--foreground"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(environment)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::harness::until("the daemon in the container", || {
        manager.run(&["status"]).code == 0
    });
    for code in ["0", "7", "7", "7"] {
        let orphan = "(sleep 0.05 &)";
        let output = manager.run(&[
            "boss.company",
            "sh",
            "-c",
            &format!("{orphan}; exit {code}"),
        ]);
        assert_eq!(output.code.to_string(), code, "{}", output.shown());
    }
    // Only the init process, its daemon and the reaper are left, and no zombies.
    let first = children(container.id());
    assert_eq!(first.len(), 1);
    crate::harness::until("the orphans to be reaped", || {
        descendants(first[0].0)
            .iter()
            .all(|(_, state)| state != "Z")
            && descendants(first[0].0).len() <= 2
    });
    // SIGTERM reaches the daemon, which ends as usual.
    crate::harness::signal(first[0].0, rustix::process::Signal::TERM);
    let status = container.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!manager.is_held());
}

/// The process ids and states of a process's children.
fn children(of: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let found = entries.filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.to_owned();
        (fields.next()?.parse() == Ok(of)).then_some((id, state))
    });
    found.collect()
}

fn descendants(of: u32) -> Vec<(u32, String)> {
    let mut all = children(of);
    let mut next = 0;
    while let Some((id, _)) = all.get(next) {
        all.extend(children(*id));
        next += 1;
    }
    all
}
