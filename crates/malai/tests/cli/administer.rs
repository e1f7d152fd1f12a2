//! What an administrator types, where no daemon runs: clusters shown, changed, renamed, edited and ended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use expect_test::expect;

use crate::world::World;

const ID: &str = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";
const OTHER: &str = "mlk9ubnvu8r1sk06j4tjb98njra0od5d2dglpm8gubbvg4glthng";

/// A home that manages `company` with two machines, and is a machine of `work`.
fn company() -> World {
    let world = World::new();
    world.succeed(&["cluster", "init", "company"]);
    world.succeed(&[
        "cluster",
        "add",
        "company",
        "web01",
        ID,
        "--allow-from",
        "*",
    ]);
    world.succeed(&["cluster", "add", "company", "db", OTHER, "--group", "data"]);
    world.succeed(&[
        "machine",
        "init",
        "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60",
        "work",
    ]);
    world
}

fn config(world: &World) -> String {
    fs::read_to_string(world.cluster_file("company/cluster.toml")).unwrap()
}

/// An editor that is a script: its text is what a person would do to the file `$1`.
fn editor(world: &World, script: &str) -> PathBuf {
    let path = world.home().parent().unwrap().join("editor");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn edit(world: &World, script: &str) -> std::process::Output {
    let mut command = world.command(&["cluster", "edit", "company"]);
    command
        .env("EDITOR", editor(world, script))
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.output().unwrap()
}

#[test]
fn clusters_are_listed_and_shown() {
    let world = company();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        ALIAS    ROLE     MACHINES  STATE                                MANAGER
        company  manager  2         ok                                   [ID52]
        work     machine  -         waiting for its first configuration  [ID52]
    "#]]
    .assert_eq(&world.picture(&["cluster", "list"]));
    expect![[r#"
        exit code: 0
        ----- stdout -----
        company: managed here
        🆔 Manager: [ID52]

        MACHINE  ID52       ALLOW_FROM  ALLOW_SHELL      USER
        db       mlk9ubnv…  (not set)   (as allow_from)  (the daemon's)
        web01    e87aeds2…  *           (as allow_from)  (the daemon's)

        GROUP  MEMBERS
        data   db
    "#]]
    .assert_eq(&world.picture(&["cluster", "show", "company"]));
    expect![[r#"
        exit code: 0
        ----- stdout -----
        machine db
           id52: [ID52]
           groups: data
           allow_from: (not set)
           allow_shell: (as allow_from)
    "#]]
    .assert_eq(&world.picture(&["cluster", "show", "company", "db"]));
    expect![[r#"
        exit code: 0
        ----- stdout -----
        group data
           members: db
           machines in it: db
    "#]]
    .assert_eq(&world.picture(&["cluster", "show", "company", "data"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: there is no machine or group `dba`; did you mean `db`?
    "#]]
    .assert_eq(&world.picture(&["cluster", "show", "company", "dba"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: work has not sent its configuration yet: its manager has to add this machine ([ID52])
    "#]]
    .assert_eq(&world.picture(&["cluster", "show", "work"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: there is no cluster `other` in [HOME]/clusters (found: company, work)
    "#]]
    .assert_eq(&world.picture(&["cluster", "show", "other"]));
    let json = world.succeed(&["cluster", "show", "company", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["machines"][0]["groups"][0], "data");
    let json = world.succeed(&["cluster", "list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["role"], "machine");
}

#[test]
fn a_home_without_clusters_names_itself() {
    let world = World::new();
    for args in [&["cluster", "list"][..], &["id"]] {
        let output = world.output(args);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        let home = world.home();
        assert!(said.contains(&*home.to_string_lossy()), "{args:?}: {said}");
    }
}

#[test]
fn a_machine_is_changed_and_the_comments_stay() {
    let world = company();
    let before = config(&world);
    expect![[r#"
        exit code: 0
        ----- stdout -----
        Changed machine web01 in [HOME]/clusters/company/cluster.toml
           + [group.web] members = ["web01"]
           + [machine.web01] allow_files = ["db"]
           - [machine.web01] allow_from = ["*"]
           + [machine.web01] allow_from = ["db", "data"]
           + [machine.web01] allow_shell = []
           + [machine.web01] username = "web"
        💤 No daemon is running here: start it with malai daemon, which publishes this
    "#]]
    .assert_eq(&world.picture(&[
        "cluster",
        "set",
        "company",
        "web01",
        "--allow-from",
        "db, data",
        "--username",
        "web",
        "--allow-shell",
        "",
        "--allow-files",
        "db",
        "--add-group",
        "web",
    ]));
    assert!(config(&world).starts_with(before.split("[machine.web01]").next().unwrap()));
    expect![[r#"
        exit code: 0
        ----- stdout -----
        Changed machine web01 in [HOME]/clusters/company/cluster.toml
           - [group.web] members = ["web01"]
           + [group.web] members = []
           - [machine.web01] allow_files = ["db"]
           - [machine.web01] allow_shell = []
           - [machine.web01] username = "web"
        💤 No daemon is running here: start it with malai daemon, which publishes this
    "#]]
    .assert_eq(&world.picture(&[
        "cluster",
        "set",
        "company",
        "web01",
        "--unset",
        "allow-shell",
        "--unset",
        "allow-files",
        "--unset",
        "username",
        "--remove-group",
        "web",
    ]));
    let after = config(&world);
    // What would not be sound, or says nothing, changes nothing.
    for (args, code, words) in [
        (&["web01", "--allow-from", "dbb"][..], 1, "did you mean"),
        (&["web02", "--allow-from", "db"], 1, "no machine `web02`"),
        (&["web01", "--id52", OTHER], 1, "id52"),
        (&["web01", "--id52", "x"], 2, "id52"),
        (&["web01", "--username", "A B"], 2, "user name"),
        (&["web01", "--remove-group", "webs"], 1, "no group `webs`"),
        (&["web01"], 2, "say what to change"),
        (
            &["web01", "--username", "web", "--unset", "username"],
            2,
            "same key",
        ),
    ] {
        let output = world.output(&[&["cluster", "set", "company"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words), "{args:?}: {said}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert_eq!(config(&world), after, "{args:?}");
    }
    let said = world.output(&["cluster", "set", "web01.company", "x", "--username", "u"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("the cluster comes first: company web01"),
        "{said}"
    );
    let same = world.succeed(&["cluster", "set", "company", "db", "--add-group", "data"]);
    assert!(same.contains("nothing was changed"), "{same}");
    assert_eq!(config(&world), after);
}

#[test]
fn machines_and_clusters_get_other_names() {
    let world = company();
    world.succeed(&["cluster", "set", "company", "db", "--allow-from", "web01"]);
    expect![[r#"
        exit code: 0
        ----- stdout -----
        Renamed machine web01 to www in [HOME]/clusters/company/cluster.toml, including every list
           - [machine.db] allow_from = ["web01"]
           + [machine.db] allow_from = ["www"]
           - [machine.web01] allow_from = ["*"]
           - [machine.web01] id52 = "[ID52]"
           + [machine.www] allow_from = ["*"]
           + [machine.www] id52 = "[ID52]"
           Owners have to change web01 in their own malai.toml ([aliases], [accept.company])
        💤 No daemon is running here: start it with malai daemon, which publishes this
    "#]]
    .assert_eq(&world.picture(&["cluster", "rename", "company", "web01", "www"]));
    assert!(!config(&world).contains("web01\""), "{}", config(&world));
    fs::write(
        world.home().join("malai.toml"),
        "[aliases]\nw = \"www.company\"\n[accept.company]\nfrom = []\n",
    )
    .unwrap();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        The cluster company is now called corp on this computer: targets are <machine>.corp
    "#]]
    .assert_eq(&world.picture(&["cluster", "rename", "company", "corp"]));
    let settings = fs::read_to_string(world.home().join("malai.toml")).unwrap();
    assert_eq!(
        settings,
        "[aliases]\nw = \"www.corp\"\n[accept.corp]\nfrom = []\n"
    );
    world.succeed(&["rescan", "--check", "corp"]);
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: there is no cluster `www` in [HOME]/clusters (found: corp, work) (to rename a machine: malai cluster rename <cluster> www web)
    "#]].assert_eq(&world.picture(&["cluster", "rename", "www", "web"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: db is a machine of corp: malai cluster rename corp db <new name> renames it; nothing was changed, and a cluster cannot be called like one of its machines
    "#]].assert_eq(&world.picture(&["cluster", "rename", "corp", "db"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: the alias `work` is taken: [HOME]/clusters/work exists; nothing was changed
    "#]]
    .assert_eq(&world.picture(&["cluster", "rename", "corp", "work"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: [HOME]/clusters/corp/cluster.toml: a machine `db` already exists: choose another name, or remove that machine first; nothing was changed
    "#]].assert_eq(&world.picture(&["cluster", "rename", "corp", "www", "db"]));
}

#[test]
fn an_edit_counts_only_when_it_is_sound_and_shows_what_it_changes() {
    let world = company();
    let before = config(&world);
    let untouched = edit(&world, "true");
    expect![[r#"
        exit code: 0
        ----- stdout -----
        Nothing was changed
    "#]]
    .assert_eq(&world.show(&untouched));
    let broken = edit(&world, "echo '[machine.x]' >> \"$1\"");
    expect![[r#"
        exit code: 1
        ----- stdout -----
        error: machine `x` has no `id52`
           --> [HOME]/clusters/company/.cluster.toml.edit:26:1
            |
         26 | [machine.x]
            | ^^^^^^^^^^^
            = help: `malai machine init` on that machine prints it
        ----- stderr -----
        malai: nothing was changed; the text is kept in [HOME]/clusters/company/cluster.toml.unsaved
    "#]]
    .assert_eq(&world.show(&broken));
    assert_eq!(config(&world), before);
    let kept = world.cluster_file("company/cluster.toml.unsaved");
    assert!(
        fs::read_to_string(&kept)
            .unwrap()
            .ends_with("[machine.x]\n")
    );
    // Nothing stays of an edit that wrote nothing, and nothing is lost of one whose editor failed.
    let leftovers = || {
        let folder = fs::read_dir(world.cluster_file("company")).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names
            .filter(|name| name.contains("edit") || name.contains("unsaved"))
            .collect();
        names.sort();
        names
    };
    let failed = edit(&world, "exit 3");
    let said = world.show(&failed);
    assert!(
        said.contains("failed (exit status: 3); nothing was changed\n"),
        "{said}"
    );
    assert_eq!(leftovers(), ["cluster.toml.unsaved"]);
    let failed = edit(&world, "echo '# half' >> \"$1\"; exit 3");
    let said = world.show(&failed);
    let kept_in = "your text is in [HOME]/clusters/company/cluster.toml.unsaved.2\n";
    assert!(said.contains(kept_in), "{said}");
    assert_eq!(
        leftovers(),
        ["cluster.toml.unsaved", "cluster.toml.unsaved.2"]
    );
    fs::remove_file(world.cluster_file("company/cluster.toml.unsaved.2")).unwrap();
    let removed = edit(&world, "rm \"$1\"");
    assert_eq!(removed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&removed.stderr).into_owned();
    assert!(
        said.contains("has removed the text; nothing was changed"),
        "{said}"
    );
    assert_eq!(config(&world), before);
    let good = edit(
        &world,
        "sed -i 's/^allow_from = \"\\*\"/allow_from = \"db\"/' \"$1\"",
    );
    expect![[r#"
        exit code: 0
        ----- stdout -----
        This would change:
           - [machine.web01] allow_from = ["*"]
           + [machine.web01] allow_from = ["db"]
        Saved [HOME]/clusters/company/cluster.toml
        💤 No daemon is running here: start it with malai daemon, which publishes this
        ----- stderr -----
        malai: an earlier edit was not saved; its text is in [HOME]/clusters/company/cluster.toml.unsaved
    "#]]
    .assert_eq(&world.show(&good));
    let after = config(&world);
    assert_eq!(
        after,
        before.replace("\nallow_from = \"*\"", "\nallow_from = \"db\"")
    );
    let comment = edit(&world, "echo '# the end' >> \"$1\"");
    expect![[r#"
        exit code: 0
        ----- stdout -----
        Only comments or layout differ:
           there is nothing to publish
        Saved [HOME]/clusters/company/cluster.toml
        💤 No daemon is running here: start it with malai daemon, which publishes this
        ----- stderr -----
        malai: an earlier edit was not saved; its text is in [HOME]/clusters/company/cluster.toml.unsaved
    "#]]
    .assert_eq(&world.show(&comment));
    assert_eq!(config(&world), format!("{after}# the end\n"));
    // Somebody was quicker.
    let file = world.cluster_file("company/cluster.toml");
    let beside = format!(
        "echo '# theirs' >> '{}'; echo '# ours' >> \"$1\"",
        file.display()
    );
    let late = edit(&world, &beside);
    assert_eq!(late.status.code(), Some(1));
    assert!(config(&world).ends_with("# the end\n# theirs\n"));
    let ours = world.cluster_file("company/cluster.toml.unsaved.2");
    assert!(
        fs::read_to_string(ours)
            .unwrap()
            .ends_with("# the end\n# ours\n")
    );
    let mut without = world.command(&["cluster", "edit", "work"]);
    let without = without
        .env("EDITOR", "true")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: this computer is a machine of `work`, not its manager: change the cluster on its manager
    "#]].assert_eq(&world.show(&without.output().unwrap()));
}

#[test]
fn a_cluster_ends_only_on_purpose_and_its_key_is_kept() {
    let world = company();
    let key = fs::read(world.cluster_file("company/cluster.private-key")).unwrap();
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: nothing was changed: this has to be confirmed, and there is no terminal to ask on. Without the key of `company`, which this computer holds as its manager, the cluster's configuration can no longer be changed; its machines keep the last one. Its folder, with the key, will be kept in $MALAI_HOME/removed. To confirm: malai cluster delete company --yes
    "#]].assert_eq(&world.picture(&["cluster", "delete", "company"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: this computer is the manager of `company`, and the manager cannot leave its cluster. To end the cluster, so that nobody can change it any more: malai cluster delete company
    "#]].assert_eq(&world.picture(&["cluster", "leave", "company", "--yes"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: only the manager can delete `work`, and this computer is not its manager. To take only this computer out: malai cluster leave work
    "#]]
    .assert_eq(&world.picture(&["cluster", "delete", "work", "--yes"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: nothing was changed: this has to be confirmed, and there is no terminal to ask on. After this computer has left `work`, members can no longer run commands on it, nor can it run any on them; joining again requires a new key. Its key will be DESTROYED: only a copy of your own can bring it back. To confirm: malai cluster leave work --destroy-key --yes
    "#]].assert_eq(&world.picture(&["cluster", "leave", "work", "--destroy-key"]));
    assert_eq!(
        fs::read(world.cluster_file("company/cluster.private-key")).unwrap(),
        key
    );
    let said = world.succeed(&["cluster", "delete", "company", "--yes"]);
    assert!(!world.cluster_file("company").exists());
    let back = said
        .lines()
        .find_map(|line| line.split_once("To restore it: "));
    let (_, back) = back.unwrap_or_else(|| panic!("{said}"));
    let back = back.strip_suffix(" && malai rescan").unwrap();
    let mut words = back.split(' ').skip(1);
    let (from, to) = (words.next().unwrap(), words.next().unwrap());
    fs::rename(from, to).unwrap();
    assert_eq!(
        fs::read(world.cluster_file("company/cluster.private-key")).unwrap(),
        key
    );
    world.succeed(&["rescan", "--check"]);
    world.succeed(&["cluster", "leave", "work", "--yes", "--destroy-key"]);
    let removed: Vec<_> = fs::read_dir(world.home().join("removed"))
        .unwrap()
        .collect();
    assert!(removed.is_empty(), "{removed:?}");
}

#[test]
fn ids_versions_and_one_clusters_status() {
    let world = company();
    expect![[r#"
        exit code: 0
        ----- stdout -----
        ID52                                                  CLUSTER  ROLE
        [ID52]  company  manager
        [ID52]  work     machine
    "#]]
    .assert_eq(&world.picture(&["id"]));
    let id = world.succeed(&["id", "company"]);
    assert!(malai_cluster::looks_like_id52(id.trim_end()), "{id}");
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: there is no cluster `other` in [HOME]/clusters (found: company, work)
    "#]]
    .assert_eq(&world.picture(&["id", "other"]));
    assert_eq!(world.succeed(&["version"]), world.succeed(&["--version"]));
    let status = world.output(&["status", "work"]);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(
        status.contains("💻 work") && !status.contains("company"),
        "{status}"
    );
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: there is no cluster `wrok` in [HOME]/clusters; did you mean `work`?
    "#]]
    .assert_eq(&world.picture(&["status", "wrok"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: no daemon is running here, and only the daemon knows which machines have asked to join. Start it (malai daemon) and approve again, or add the machine directly: malai cluster add company <name> <id52>
    "#]].assert_eq(&world.picture(&["cluster", "approve", "company"]));
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: this computer is a machine of `work`, not its manager: change the cluster on its manager
    "#]].assert_eq(&world.picture(&["cluster", "approve", "work", "x", OTHER]));
}

/// Folders, services, commands and comments go with their machine: an administrator must see which.
#[test]
fn what_goes_with_a_machine_is_shown_before_and_when_it_is_removed() {
    let world = company();
    let text = format!(
        "{}[machine.web01.command.up]\ncommand = \"uptime\"\n\n# the disk, ask Ann\n[folder.logs]\nmachine = \"web01\"\npath = \"/var/log\"\nallow_from = \"db\"\n\n[service.sql]\nmachine = \"web01\"\ntcp = \"127.0.0.1:5432\"\nallow_from = \"data\"\n",
        config(&world)
    );
    fs::write(world.cluster_file("company/cluster.toml"), text).unwrap();
    let shown = world.succeed(&["cluster", "show", "company"]);
    let (_, offered) = shown.split_once("\nFOLDER").unwrap();
    expect![[r#"
          ON     PATH      WRITE  ALLOW_FROM  USER
        logs    web01  /var/log  no     db          (the machine's)

        SERVICE  ON     ADDRESS         ALLOW_FROM
        sql      web01  127.0.0.1:5432  data

        GROUP  MEMBERS
        data   db
    "#]]
    .assert_eq(offered);
    expect![[r#"
        exit code: 0
        ----- stdout -----
        machine web01
           id52: [ID52]
           groups: (none)
           allow_from: *
           allow_shell: (as allow_from)
           command up: uptime   allow_from: *
           folder logs: /var/log (read-only)   allow_from: db
           service sql: 127.0.0.1:5432   allow_from: data
    "#]]
    .assert_eq(&world.picture(&["cluster", "show", "company", "web01"]));
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&world.succeed(args)).unwrap()
    };
    let whole = json(&["cluster", "show", "company", "--json"]);
    assert_eq!(whole["folders"][0]["path"], "/var/log");
    assert_eq!(whole["services"][0]["address"], "127.0.0.1:5432");
    let one = json(&["cluster", "show", "company", "web01", "--json"]);
    assert_eq!(one["folders"][0]["write"], false);
    assert_eq!(one["services"][0]["allow_from"][0], "data");
    expect![[r#"
        exit code: 0
        ----- stdout -----
        Removed machine web01 from [HOME]/clusters/company/cluster.toml, with its services and folders, and from every list in it
           - # the disk, ask Ann
           - [folder.logs] allow_from = ["db"]
           - [folder.logs] machine = "web01"
           - [folder.logs] path = "/var/log"
           - [machine.web01] allow_from = ["*"]
           - [machine.web01] id52 = "[ID52]"
           - [machine.web01.command.up] command = "uptime"
           - [service.sql] allow_from = ["data"]
           - [service.sql] machine = "web01"
           - [service.sql] tcp = "127.0.0.1:5432"
        💤 No daemon is running here: start it with malai daemon, which publishes this
    "#]]
    .assert_eq(&world.picture(&["cluster", "remove", "company", "web01"]));
}

/// A reinstalled machine has a new key, and its rules stay.
#[test]
fn a_machine_whose_key_is_new_is_pointed_to_its_rules() {
    let world = company();
    let before = config(&world);
    let new = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
    expect![[r#"
        exit code: 1
        ----- stderr -----
        malai: company already has a machine `web01`: if [ID52] is its new key, malai cluster set company web01 --id52 [ID52]; otherwise choose another name; nothing was changed
    "#]].assert_eq(&world.picture(&["cluster", "add", "company", "web01", new]));
    let said = world.output(&["machine", "init", "--replace", new, "work"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    for words in ["malai cluster leave work", "--id52 <the new key>"] {
        assert!(said.contains(words), "{said}");
    }
    let said = world.succeed(&["cluster", "set", "company", "web01", "--id52", new]);
    assert!(said.contains("+ [machine.web01] id52"), "{said}");
    assert_eq!(config(&world), before.replace(ID, new));
}
