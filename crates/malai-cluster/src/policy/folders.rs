//! Folders: who may reach one, as whom, and that nothing else of the machine is reached by it.

use super::*;
use crate::testing::*;

const FOLDERS: &str = r#"
[folder.logs]
machine = "web01"
path = "/var/log/nginx"
allow_from = "devs"
[folder.drop]
machine = "web01"
path = "/srv/drop"
write = true
allow_from = "laptop"
username = "drop, web"
[folder.closed]
machine = "web01"
path = "/srv"
[folder.elsewhere]
machine = "laptop"
path = "/srv"
allow_from = "*"
[group.devs]
members = "desk"
"#;

/// What somebody gets when asking web01 for a folder.
fn gets(machine: &str, who: &str, folder: &str, subsystem: &str, user: Option<&str>) -> String {
    let cluster = cluster(&format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n{machine}\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[machine.desk]\nid52 = \"{STRANGER}\"\n{FOLDERS}"
    ));
    let request = Request {
        from: id(who),
        to: id(WEB01),
        action: Action::Folder { folder, subsystem },
        user,
    };
    match decide(&cluster, &request, None) {
        Decision::Refuse(refusal) => format!("refused: {refusal}"),
        Decision::Allow(grant) => {
            let (server, folder) = match &grant.run {
                Run::Sftp(Some(folder)) => ("sftp", folder),
                Run::Copy(Some(folder)) => ("cp", folder),
                other => return format!("{other:?}"),
            };
            let access = if folder.write { "rw" } else { "ro" };
            let user = grant.user.as_ref().map_or("-", UserName::as_str);
            format!(
                "{server} {} {access} as {user} by {}",
                folder.path, grant.rule
            )
        }
    }
}

#[test]
fn a_folder_has_its_own_list_and_its_machine_has_no_say() {
    let closed = "username = \"web\"";
    let open = "allow_from = \"*\"\nallow_files = \"*\"";
    for (machine, who, folder, subsystem, user, expected) in [
        (
            closed,
            STRANGER,
            "logs",
            "sftp",
            None,
            "sftp /var/log/nginx ro as web by folder.logs.allow_from: devs",
        ),
        (
            open,
            STRANGER,
            "logs",
            "malai-cp",
            None,
            "cp /var/log/nginx ro as - by folder.logs.allow_from: devs",
        ),
        (
            open,
            LAPTOP,
            "logs",
            "sftp",
            None,
            "refused: folder.logs.allow_from does not allow you to copy files",
        ),
        (
            closed,
            LAPTOP,
            "drop",
            "sftp",
            None,
            "sftp /srv/drop rw as drop by folder.drop.allow_from: laptop",
        ),
        (
            closed,
            LAPTOP,
            "drop",
            "sftp",
            Some("web"),
            "sftp /srv/drop rw as web by folder.drop.allow_from: laptop",
        ),
        (
            closed,
            LAPTOP,
            "drop",
            "sftp",
            Some("root"),
            "refused: folder.drop.username does not allow you to run as user `root`; it names `drop`, `web`",
        ),
        (
            closed,
            STRANGER,
            "logs",
            "sftp",
            Some("root"),
            "refused: machine.web01.username does not allow you to run as user `root`; it names `web`",
        ),
        (
            open,
            LAPTOP,
            "closed",
            "sftp",
            None,
            "refused: folder.closed.allow_from is not set, so no one may do this",
        ),
        (
            open,
            LAPTOP,
            "elsewhere",
            "sftp",
            None,
            "refused: there is no folder `elsewhere` on this machine",
        ),
        (
            open,
            LAPTOP,
            "drop",
            "netconf",
            None,
            "refused: there is no subsystem `netconf` here; malai has `sftp`",
        ),
        (
            "[machine.web01.command.backup]\nallow_from = \"laptop\"\nforced = true",
            LAPTOP,
            "drop",
            "sftp",
            None,
            "sftp /srv/drop rw as drop by folder.drop.allow_from: laptop",
        ),
    ] {
        assert_eq!(
            gets(machine, who, folder, subsystem, user),
            expected,
            "{folder} by {who} under\n{machine}"
        );
    }
}

#[test]
fn a_folder_gives_nothing_else_of_its_machine() {
    let cluster = cluster(&format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[machine.desk]\nid52 = \"{STRANGER}\"\n{FOLDERS}"
    ));
    for action in [
        Action::Shell,
        Action::Exec(&[b"cat".to_vec()]),
        Action::Line(b"cat"),
        Action::Subsystem("sftp"),
        Action::Subsystem("malai-cp"),
    ] {
        let request = Request {
            from: id(LAPTOP),
            to: id(WEB01),
            action,
            user: None,
        };
        let decision = decide(&cluster, &request, None);
        assert!(
            matches!(&decision, Decision::Refuse(Refusal::NoRule { .. })),
            "{decision:?}"
        );
    }
}

#[test]
fn folders_are_signed_in_format_2() {
    let cluster = cluster(&format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[machine.desk]\nid52 = \"{STRANGER}\"\n{FOLDERS}"
    ));
    let content = cluster.render();
    assert!(content.starts_with("format = 2\n"), "{content}");
    let section = "\n[folder.drop]\nallow_from = [\"laptop\"]\nmachine = \"web01\"\npath = \"/srv/drop\"\nusername = [\"drop\", \"web\"]\nwrite = true\n\n[folder.elsewhere]\n";
    assert!(content.contains(section), "{content}");
    assert_eq!(crate::read_content(&content).unwrap(), cluster);
    // A manager cannot sign what its own check refuses.
    for (from, to) in [
        ("\"/srv/drop\"", "\"/srv/../etc\""),
        ("\"/srv/drop\"", "\"srv\""),
        ("write = true", "write = false"),
        (
            "machine = \"web01\"\npath = \"/srv/drop\"",
            "machine = \"none\"\npath = \"/srv/drop\"",
        ),
        ("[folder.drop]", "[folder.laptop]"),
        ("[folder.drop]", "[folder.zzz]"),
    ] {
        let other = content.replacen(from, to, 1);
        assert_ne!(other, content);
        assert!(crate::read_content(&other).is_err(), "{to}");
    }
}
