//! The scenes of the demo, in order, with their checks.

use std::fs;
use std::io::Write;
use std::process::Command;

use anyhow::Context;

use crate::demo::sandbox::{COMPUTERS, Stage, at};
use crate::demo::timing::{self, RUNS, median};

/// The members that may run commands on web01, before the edit and after it.
const OPEN: &str = "allow_from = \"laptop,db01\"";
const NARROW: &str = "allow_from = \"laptop\"";

/// A scene.
type Scene = fn(&Stage<'_>) -> anyhow::Result<()>;

/// The scenes by their titles.
const SCENES: [(&str, Scene); 9] = [
    ("A cluster, managed on the laptop", found),
    ("Two machines join; each creates its own key", join),
    (
        "The manager adds them and sends out the signed configuration",
        publish,
    ),
    (
        "Commands: words, streams and exit codes come through as they are",
        command,
    ),
    ("Between two machines, with no manager in between", between),
    ("One command for every member, the rest for a few", entry),
    ("An edit takes effect at once", edit),
    ("The manager may be offline", without_manager),
    ("What it costs", cost),
];

/// Plays all scenes. An error names the step that failed.
pub fn play(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.remark(&format!(
        "Three computers in one: {} are homes in {}, each with its own daemon,",
        COMPUTERS.join(", "),
        stage.folder().display()
    ));
    stage.remark("connected by QUIC on loopback only (MALAI_NETWORK=loopback). All of it is removed at the end.");
    for (number, (title, scene)) in SCENES.iter().enumerate() {
        stage.scene(&format!("{}. {title}", number + 1));
        scene(stage)
            .with_context(|| format!("step {} of the demo failed ({title})", number + 1))?;
    }
    Ok(())
}

fn found(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage
        .run(&at("laptop", &["cluster", "init", "demo"]).shown(3))?
        .exits(0)?;
    stage.run(&at("laptop", &["daemon"]))?.exits(0)?;
    Ok(())
}

fn join(stage: &Stage<'_>) -> anyhow::Result<()> {
    let manager = shown_id(stage, "laptop", "Manager")?;
    for (on, shown) in [("web01", 9), ("db01", 1)] {
        stage
            .run(&at(on, &["machine", "init", &manager, "demo"]).shown(shown))?
            .exits(0)?;
        stage.run(&at(on, &["daemon"]))?.exits(0)?;
    }
    Ok(())
}

/// An id52 as shown by `malai status` at a computer, copied as a person would.
fn shown_id(stage: &Stage<'_>, on: &'static str, whose: &str) -> anyhow::Result<String> {
    let status = stage.quietly(&at(on, &["status"]))?.exits(0)?;
    let after = format!("{whose}: ");
    let id = status
        .output
        .lines()
        .find_map(|line| line.split_once(&after))
        .with_context(|| format!("nothing after {after:?} in:\n{}", status.output))?;
    Ok(id.1.trim().to_owned())
}

fn publish(stage: &Stage<'_>) -> anyhow::Result<()> {
    let added = format!(
        r#"
[machine.laptop]
id52 = "{}"

[machine.web01]
id52 = "{}"
{OPEN}

[machine.db01]
id52 = "{}"
allow_from = "laptop"

[machine.db01.command.disk-space]
command = "df -h /"
allow_from = "*"
"#,
        shown_id(stage, "laptop", "Manager")?,
        shown_id(stage, "web01", "This machine")?,
        shown_id(stage, "db01", "This machine")?
    );
    let file = stage.cluster_toml();
    stage.prompt("laptop", &format!("cat >> {}", file.display()));
    stage.remark(added.trim_start());
    fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .and_then(|mut file| file.write_all(added.as_bytes()))
        .with_context(|| format!("cannot add to {}", file.display()))?;
    rescan(stage)?;
    stage
        .run(&at("laptop", &["status"]))?
        .exits(0)?
        .says("RUNNING ✅")?
        .says("✅ RESPONSIVE")?;
    Ok(())
}

/// Publishes the current file; both machines have it when this returns.
fn rescan(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage
        .run(&at("laptop", &["rescan", "demo"]))?
        .exits(0)?
        .says("published revision")?
        .says("web01: updated")?
        .says("db01: updated")?;
    Ok(())
}

fn command(stage: &Stage<'_>) -> anyhow::Result<()> {
    // All three are this computer, so the answer is known.
    for words in [&["whoami"][..], &["uname", "-sm"]] {
        let known = Command::new(words[0])
            .args(&words[1..])
            .output()
            .with_context(|| format!("cannot run {} here", words[0]))?;
        let line = [&["web01.demo"], words].concat();
        stage
            .run(&at("laptop", &line))?
            .exits(known.status.code().unwrap_or(255))?
            .says(&String::from_utf8_lossy(&known.stdout))?;
    }
    stage
        .run(
            &at("laptop", &["web01.demo", "tr", "a-z", "A-Z"])
                .fed("from the laptop to web01 and back"),
        )?
        .exits(0)?
        .says_only("FROM THE LAPTOP TO WEB01 AND BACK\n")?;
    stage
        .run(&at(
            "laptop",
            &["web01.demo", "sh", "-c", "echo out; echo err >&2; exit 7"],
        ))?
        .exits(7)?
        .says("out\n")?
        .says("err\n")?;
    Ok(())
}

/// Prints what a machine tells a command about its caller.
const WHO: &str = "echo \"$MALAI_CLIENT_MACHINE asks, in $MALAI_CLUSTER\"";

fn between(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage
        .run(&at("db01", &["web01.demo", "sh", "-c", WHO]))?
        .exits(0)?
        .says_only("db01 asks, in demo\n")?;
    Ok(())
}

fn entry(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage
        .run(&at("web01", &["db01.demo", "disk-space"]))?
        .exits(0)?
        .says("Filesystem")?;
    refused(stage, "web01", "db01.demo", "machine.db01.allow_from")
}

/// A command that must be refused, by this rule.
fn refused(stage: &Stage<'_>, on: &'static str, target: &str, rule: &str) -> anyhow::Result<()> {
    stage
        .run(&at(on, &[target, "whoami"]))?
        .exits(255)?
        .says("refused")?
        .says(rule)?;
    Ok(())
}

fn edit(stage: &Stage<'_>) -> anyhow::Result<()> {
    change(stage, OPEN, NARROW)?;
    rescan(stage)?;
    refused(stage, "db01", "web01.demo", "machine.web01.allow_from")?;
    change(stage, NARROW, OPEN)?;
    rescan(stage)?;
    between(stage)
}

/// Changes who may run commands on web01.
fn change(stage: &Stage<'_>, from: &str, to: &str) -> anyhow::Result<()> {
    let file = stage.cluster_toml();
    let failed = || format!("cannot edit {}", file.display());
    stage.prompt("laptop", &format!("$EDITOR {}", file.display()));
    stage.remark(&format!("  [machine.web01]\n- {from}\n+ {to}"));
    let text = fs::read_to_string(&file).with_context(failed)?;
    let (before, section) = text.split_once("[machine.web01]").with_context(failed)?;
    anyhow::ensure!(section.contains(from), "{}: {from} is not in it", failed());
    let edited = format!("{before}[machine.web01]{}", section.replacen(from, to, 1));
    fs::write(&file, edited).with_context(failed)
}

fn without_manager(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.run(&at("laptop", &["stop"]))?.exits(0)?;
    between(stage)?;
    stage.remark("… and the laptop needs no daemon to run a command; it connects by itself:");
    stage
        .run(&at("laptop", &["web01.demo", "sh", "-c", WHO]))?
        .exits(0)?
        .says_only("laptop asks, in demo\n")?;
    Ok(())
}

fn cost(stage: &Stage<'_>) -> anyhow::Result<()> {
    let here = median(|| Command::new("true"))?;
    let daemon = median(|| stage.command("db01", &["web01.demo", "true"]))?;
    let direct = median(|| stage.command("laptop", &["web01.demo", "true"]))?;
    stage.remark(&format!(
        "the median of {RUNS} runs of `true`, start to exit, each measured:"
    ));
    for (what, time) in [
        ("through the daemon, db01 → web01", daemon),
        (
            "without a daemon, laptop → web01 (new connection each time)",
            direct,
        ),
        ("for comparison: `true` by itself, here", here),
    ] {
        stage.remark(&format!("{:>9}  {what}", timing::shown(time)));
    }
    Ok(())
}

/// Starts the manager's daemon again, for users who continue by hand.
pub fn wake_manager(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.run(&at("laptop", &["daemon"]))?.exits(0)?;
    Ok(())
}
