//! `malai why`: the answer, its rule and its place, from what a home has and without a daemon.

use std::fs;

use expect_test::{Expect, expect};
use malai_cluster::{SecretSeed, Snapshot, check};

use crate::world::World;

const WEB01: &str = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";
const LAPTOP: &str = "mlk9ubnvu8r1sk06j4tjb98njra0od5d2dglpm8gubbvg4glthng";
const DESK: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";

/// A manager, listed as `boss`, with this cluster.toml.
fn managed() -> World {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    let path = world.cluster_file("company/cluster.toml");
    let text = fs::read_to_string(&path).unwrap();
    let manager = key(&world, "company/cluster.private-key").id();
    let head = &text[..text.find("\n# For each machine").unwrap()];
    let sections = format!(
        r#"
[machine.boss]
id52 = "{manager}"
allow_from = "admins"
[machine.web01]
id52 = "{WEB01}"
allow_from = "admins,desk"
allow_shell = "laptop"
username = "web"
[machine.web01.command.restart]
command = "sudo systemctl restart nginx"
allow_from = "laptop"
username = "nginx"
[machine.laptop]
id52 = "{LAPTOP}"
[machine.desk]
id52 = "{DESK}"
[group.admins]
members = "on-call"
[group.on-call]
members = "laptop,{manager}"
[group.empty]
members = ""
[service.db]
machine = "web01"
tcp = "127.0.0.1:5432"
allow_from = "admins"
"#
    );
    fs::write(path, format!("{head}{sections}")).unwrap();
    world
}

fn key(world: &World, file: &str) -> SecretSeed {
    let text = fs::read_to_string(world.cluster_file(file)).unwrap();
    SecretSeed::parse_file(&text).unwrap()
}

/// What the manager would publish; `published` where it did.
fn snapshot(world: &World) -> Snapshot {
    let text = fs::read_to_string(world.cluster_file("company/cluster.toml")).unwrap();
    let cluster = check("cluster.toml", &text).cluster.unwrap();
    Snapshot::seal(&key(world, "company/cluster.private-key"), 7, &cluster)
}

fn publish(world: &World) {
    fs::write(
        world.cluster_file("company/published"),
        snapshot(world).to_file(),
    )
    .unwrap();
}

fn own_user() -> String {
    let said = std::process::Command::new("id").arg("-un").output();
    let name = String::from_utf8(said.expect("id runs").stdout).unwrap();
    name.trim().to_owned()
}

fn asked(world: &World, words: &[&str], expected: Expect) {
    let args = [&["why"], words].concat();
    let own = format!("user {}, the daemon's own", own_user());
    let picture = world.picture(&args);
    expected.assert_eq(&picture.replace(&own, "user [OWN], the daemon's own"));
}

#[test]
fn on_the_manager_by_its_file() {
    let world = managed();
    publish(&world);
    asked(
        &world,
        &["laptop", "web01.company", "ps", "aux", "--help"],
        expect![[r#"
            exit code: 0
            ----- stdout -----
            ✅ allowed: laptop may run `ps aux --help` on web01.company
               rule     machine.web01.allow_from: admins
               at       [HOME]/clusters/company/cluster.toml:13
               through  admins (line 25) → on-call (line 27)
               as       user web
               accepted not known here: [accept] in that computer's own malai.toml may refuse it
        "#]],
    );
    asked(
        &world,
        &["laptop", "web01.company", "restart"],
        expect![[r#"
            exit code: 0
            ----- stdout -----
            ✅ allowed: laptop may run `restart` on web01.company
               rule     machine.web01.command.restart.allow_from: laptop
               at       [HOME]/clusters/company/cluster.toml:18
               runs     sudo systemctl restart nginx
               as       user nginx
               accepted not known here: [accept] in that computer's own malai.toml may refuse it
        "#]],
    );
    asked(
        &world,
        &["desk", "web01.company", "restart"],
        expect![[r#"
            exit code: 1
            ----- stdout -----
            ❌ refused: desk may not run `restart` on web01.company
               because  not in machine.web01.command.restart.allow_from
               at       [HOME]/clusters/company/cluster.toml:18
        "#]],
    );
    asked(
        &world,
        &["laptop", "web01.company", "restart", "now"],
        expect![[r#"
            exit code: 1
            ----- stdout -----
            ❌ refused: laptop may not run `restart now` on web01.company
               because  machine.web01.command.restart.args does not allow arguments
               at       [HOME]/clusters/company/cluster.toml:16
        "#]],
    );
    asked(
        &world,
        &["boss", "web01.company"],
        expect![[r#"
        exit code: 1
        ----- stdout -----
        ❌ refused: boss may not open a shell on web01.company
           because  not in machine.web01.allow_shell
           at       [HOME]/clusters/company/cluster.toml:14
    "#]],
    );
    asked(
        &world,
        &["laptop", "web01.company"],
        expect![[r#"
            exit code: 0
            ----- stdout -----
            ✅ allowed: laptop may open a shell on web01.company
               rule     machine.web01.allow_shell: laptop
               at       [HOME]/clusters/company/cluster.toml:14
               as       user web
               accepted not known here: [accept] in that computer's own malai.toml may refuse it
        "#]],
    );
    asked(
        &world,
        &["desk", "laptop.company", "ls -l"],
        expect![[r#"
            exit code: 1
            ----- stdout -----
            ❌ refused: desk may not run `ls -l` on laptop.company
               because  machine.laptop.allow_from is not set, so no one may do this
               at       [HOME]/clusters/company/cluster.toml:20
        "#]],
    );
    asked(
        &world,
        &["on-call", "db.company"],
        expect![[r#"
        exit code: 0
        ----- stdout -----
        ✅ allowed: boss, laptop may connect to db.company
           rule     service.db.allow_from: admins
           at       [HOME]/clusters/company/cluster.toml:33
           through  admins (line 25) → on-call (line 27)
           to       127.0.0.1:5432 on web01
           accepted not known here: [accept] in that computer's own malai.toml may refuse it
    "#]],
    );
    asked(
        &world,
        &["desk", "db.company"],
        expect![[r#"
        exit code: 1
        ----- stdout -----
        ❌ refused: desk may not connect to db.company
           because  not in service.db.allow_from
           at       [HOME]/clusters/company/cluster.toml:33
    "#]],
    );
    asked(
        &world,
        &["desk", "db.company", "ls"],
        expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: `db` is a service, on which no commands run: `malai why desk db.company`
    "#]],
    );
    // A key that is nobody's here.
    let stranger = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0";
    asked(
        &world,
        &[stranger, "web01.company", "ls"],
        expect![[r#"
        exit code: 1
        ----- stdout -----
        ❌ refused: [ID52] may not run `ls` on web01.company
           because  this key is not a member of the cluster
    "#]],
    );
}

#[test]
fn a_group_has_an_answer_for_each_kind_of_member() {
    let world = managed();
    publish(&world);
    asked(
        &world,
        &["admins", "web01.company", "ls"],
        expect![[r#"
            exit code: 0
            ----- stdout -----
            ✅ allowed: boss, laptop may run `ls` on web01.company
               rule     machine.web01.allow_from: admins
               at       [HOME]/clusters/company/cluster.toml:13
               through  admins (line 25) → on-call (line 27)
               as       user web
               accepted not known here: [accept] in that computer's own malai.toml may refuse it
        "#]],
    );
    asked(
        &world,
        &["@admins", "web01.company"],
        expect![[r#"
            exit code: 1
            ----- stdout -----
            ❌ refused: boss may not open a shell on web01.company
               because  not in machine.web01.allow_shell
               at       [HOME]/clusters/company/cluster.toml:14
            ✅ allowed: laptop may open a shell on web01.company
               rule     machine.web01.allow_shell: laptop
               at       [HOME]/clusters/company/cluster.toml:14
               as       user web
               accepted not known here: [accept] in that computer's own malai.toml may refuse it
        "#]],
    );
    asked(
        &world,
        &["@empty", "web01.company"],
        expect![[r#"
            exit code: 1
            ----- stdout -----
            ❌ refused: @empty has no members
        "#]],
    );
}

#[test]
fn what_is_not_published_yet_is_said() {
    let world = managed();
    asked(
        &world,
        &["desk", "web01.company", "ls"],
        expect![[r#"
            exit code: 0
            ----- stdout -----
            ✅ allowed: desk may run `ls` on web01.company
               rule     machine.web01.allow_from: desk
               at       [HOME]/clusters/company/cluster.toml:13
               as       user web
               accepted not known here: [accept] in that computer's own malai.toml may refuse it
            ℹ️  nothing has been published yet: publish cluster.toml with `malai rescan`
        "#]],
    );
    publish(&world);
    let path = world.cluster_file("company/cluster.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("admins,desk", "admins")).unwrap();
    asked(
        &world,
        &["desk", "web01.company", "ls"],
        expect![[r#"
            exit code: 1
            ----- stdout -----
            ❌ refused: desk may not run `ls` on web01.company
               because  not in machine.web01.allow_from
               at       [HOME]/clusters/company/cluster.toml:13
            ℹ️  cluster.toml differs from revision 7, which is in force: publish it with `malai rescan`
        "#]],
    );
}

#[test]
fn what_this_computer_accepts_is_part_of_it() {
    let world = managed();
    publish(&world);
    let settings = |text: &str| fs::write(world.home().join("malai.toml"), text).unwrap();
    settings("[aliases]\nb = \"boss.company\"\n[accept.company]\nfrom = \"on-call\"\n");
    asked(
        &world,
        &["laptop", "b", "ls"],
        expect![[r#"
            exit code: 0
            ----- stdout -----
            ✅ allowed: laptop may run `ls` on boss.company
               rule     machine.boss.allow_from: admins
               at       [HOME]/clusters/company/cluster.toml:10
               through  admins (line 25) → on-call (line 27)
               as       user [OWN], the daemon's own
               accepted malai.toml accept.company.from: on-call, [HOME]/malai.toml:4
        "#]],
    );
    settings("[accept.company]\nfrom = []\n");
    asked(
        &world,
        &["@admins", "boss.company", "ls"],
        expect![[r#"
            exit code: 1
            ----- stdout -----
            ❌ refused: boss, laptop may not run `ls` on boss.company
               rule     machine.boss.allow_from: admins
               at       [HOME]/clusters/company/cluster.toml:10
               through  admins (line 25) → on-call (line 27)
               as       user [OWN], the daemon's own
               because  not in malai.toml accept.company.from
               at       [HOME]/malai.toml:2
        "#]],
    );
    settings("[accept.company]\nusers = \"no-such-user\"\n");
    let refused = world.picture(&["why", "laptop", "boss.company", "ls"]);
    assert!(
        refused.contains("exit code: 1") && refused.contains("malai.toml:2\n"),
        "{refused}"
    );
}

#[test]
fn on_a_machine_by_what_it_has() {
    let manager = managed();
    let world = World::new();
    let id = key(&manager, "company/cluster.private-key")
        .id()
        .to_string();
    world.succeed(&["machine", "init", &id, "work"]);
    asked(
        &world,
        &["desk", "web01.work", "ls"],
        expect![[r#"
            exit code: 2
            ----- stderr -----
            malai: cluster `work` has not sent its configuration yet: everything is refused here
        "#]],
    );
    let own = key(&world, "work/machine.private-key").id().to_string();
    let path = manager.cluster_file("company/cluster.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace(WEB01, &own)
        .replace("\"web\"", "\"no-such-user\"");
    fs::write(path, text).unwrap();
    let received = snapshot(&manager).to_file();
    fs::write(world.cluster_file("work/machine.toml"), received).unwrap();
    asked(
        &world,
        &["desk", "laptop.work", "ls"],
        expect![[r#"
        exit code: 1
        ----- stdout -----
        ❌ refused: desk may not run `ls` on laptop.work
           because  machine.laptop.allow_from is not set, so no one may do this
           at       [HOME]/clusters/work/machine.toml:24
    "#]],
    );
    // It cannot run as its user here, so it is refused here.
    asked(
        &world,
        &["desk", "web01.work", "ls"],
        expect![[r#"
            exit code: 1
            ----- stdout -----
            ❌ refused: desk may not run `ls` on web01.work
               rule     machine.web01.allow_from: desk
               at       [HOME]/clusters/work/machine.toml:28
               as       user no-such-user
               because  there is no user `no-such-user` on this computer; it never runs as another user
        "#]],
    );
}

/// As it is typed to run the command.
#[test]
fn another_user_is_asked_for_before_the_target() {
    let world = managed();
    asked(
        &world,
        &["laptop", "nobody@web01.company", "ls"],
        expect![[r#"
            exit code: 1
            ----- stdout -----
            ❌ refused: laptop may not run `ls` on web01.company
               because  machine.web01.username does not allow you to run as user `nobody`; it names `web`
               at       [HOME]/clusters/company/cluster.toml:15
            ℹ️  nothing has been published yet: publish cluster.toml with `malai rescan`
        "#]],
    );
}

#[test]
fn questions_without_an_answer() {
    let world = managed();
    asked(
        &world,
        &["lap", "web01.company", "ls"],
        expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: there is no machine or group `lap`
    "#]],
    );
    asked(
        &world,
        &["@laptop", "web01.company"],
        expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: there is no group `laptop`
    "#]],
    );
    asked(
        &world,
        &["laptop", "web1.company"],
        expect![[r#"
        exit code: 2
        ----- stderr -----
        malai: cluster `company` has no machine `web1`; did you mean `web01`?
    "#]],
    );
    asked(
        &world,
        &["laptop", "web01.compani"],
        expect![[r#"
            exit code: 2
            ----- stderr -----
            malai: unknown cluster `compani`; this home ([HOME]) knows: company; did you mean `web01.company`?
        "#]],
    );
    asked(
        &world,
        &["laptop", "web01"],
        expect![[r#"
            exit code: 2
            ----- stderr -----
            malai: web01 lacks its cluster; did you mean web01.company?
        "#]],
    );
    asked(
        &world,
        &["laptop", "web01.company", "a | b"],
        expect![[r#"
            exit code: 2
            ----- stderr -----
            malai: `|` outside quotes is special to a shell, and no shell is involved
        "#]],
    );
    assert_eq!(world.output(&["why", "laptop"]).status.code(), Some(2));
    fs::write(world.cluster_file("company/cluster.toml"), "oops\n").unwrap();
    let broken = world.output(&["why", "laptop", "web01.company"]);
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
}

#[test]
fn as_json() {
    let world = managed();
    publish(&world);
    let said = world.succeed(&["why", "--json", "laptop", "web01.company", "ls", "-l"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["allowed"], true);
    assert_eq!(said["command"], serde_json::json!(["ls", "-l"]));
    let answer = &said["answers"][0];
    assert_eq!(answer["rule"]["name"], "machine.web01.allow_from");
    assert_eq!(answer["entry"], "admins");
    assert_eq!(answer["groups"][1]["name"], "on-call");
    assert_eq!(answer["user"], "web");
    let refused = world.output(&["why", "--json", "laptop", "desk.company"]);
    assert_eq!(refused.status.code(), Some(1));
    let refused: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    let because = &refused["answers"][0]["refusal"];
    assert_eq!(
        because,
        "machine.desk.allow_from is not set, so no one may do this"
    );
}
