//! Lines as ssh sends them, forced commands, and the user that a caller asks for.

use super::*;
use crate::testing::*;

const MACHINE: &str = r#"
allow_from = "laptop"
allow_shell = "boss"
username = "web, deploy"
[machine.web01.command.rsync]
command = "rsync"
allow_from = "desk"
args = true
username = "backup"
"#;

/// What somebody gets for a line on `web01`.
fn line(rule: &str, who: &str, line: &[u8], user: Option<&str>) -> String {
    let cluster = cluster(&format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n{rule}\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[machine.desk]\nid52 = \"{STRANGER}\"\n[machine.boss]\nid52 = \"{MANAGER}\"\n"
    ));
    let (from, to, action) = (id(who), id(WEB01), Action::Line(line));
    shown(decide(
        &cluster,
        &Request {
            from,
            to,
            action,
            user,
        },
        None,
    ))
}

fn shown(decision: Decision) -> String {
    match decision {
        Decision::Refuse(refusal) => format!("refused: {refusal}"),
        Decision::Allow(grant) => {
            let words: Vec<_> = grant
                .argv()
                .iter()
                .map(|word| crate::escape_bytes(word))
                .collect();
            let run = match &grant.run {
                Run::Connect(upstream) => format!("a connection to {upstream}"),
                Run::Command(_) => format!("{words:?}"),
                Run::Shell => "a shell".to_owned(),
                Run::Sftp(None) | Run::Copy(None) => "files".to_owned(),
                Run::Sftp(Some(folder)) | Run::Copy(Some(folder)) => {
                    format!("{} write={}", folder.path, folder.write)
                }
                Run::Line(line) => format!("$SHELL -c {:?}", crate::escape_bytes(line)),
                Run::Forced { original, .. } => {
                    format!("{words:?} for {:?}", crate::escape_bytes(original))
                }
            };
            format!(
                "{run} as {}",
                grant.user.as_ref().map_or("-", UserName::as_str)
            )
        }
    }
}

#[test]
fn a_line_of_plain_words_is_their_argument_list_and_any_other_needs_a_shell() {
    let no_shell = "refused: machine.web01.allow_shell does not allow you to open a shell";
    let rsync = b"rsync --server -vlogDtpre.iLsfxCIvu . '/srv/a b'";
    for (who, text, expected) in [
        (LAPTOP, &b"ls -l /srv"[..], r#"["ls", "-l", "/srv"] as web"#),
        (
            LAPTOP,
            b"git-upload-pack 'my repo.git'",
            r#"["git-upload-pack", "my repo.git"] as web"#,
        ),
        (LAPTOP, b"cat 'caf\xe9'", r#"["cat", "caf\\xe9"] as web"#),
        // What a shell would do something with.
        (LAPTOP, b"ls *", no_shell),
        (LAPTOP, b"ls; id", no_shell),
        (LAPTOP, b"ls\nid", no_shell),
        (LAPTOP, b"ls $HOME", no_shell),
        (LAPTOP, b"ls \"`id`\"", no_shell),
        (LAPTOP, b"A=b ls", no_shell),
        (LAPTOP, b"echo hi", no_shell),
        (LAPTOP, b"cd /srv", no_shell),
        (LAPTOP, b"exec id", no_shell),
        (LAPTOP, b"ls 'a", no_shell),
        (LAPTOP, b"~/bin/x", no_shell),
        (MANAGER, b"ls *; id", r#"$SHELL -c "ls *; id" as web"#),
        // The manager may open shells there and run nothing by its argument list.
        (
            MANAGER,
            b"ls",
            "refused: machine.web01.allow_from does not allow you to run commands",
        ),
        // A command entry of its name decides alone.
        (
            STRANGER,
            rsync,
            r#"["rsync", "--server", "-vlogDtpre.iLsfxCIvu", ".", "/srv/a b"] as backup"#,
        ),
        (
            LAPTOP,
            rsync,
            "refused: machine.web01.command.rsync.allow_from does not allow you to run this command",
        ),
        (
            STRANGER,
            b"ls",
            "refused: machine.web01.allow_from does not allow you to run commands",
        ),
        (STRANGER, b"rsync --server . /srv; id", no_shell),
        (LAPTOP, b"", "refused: the command is empty"),
        (LAPTOP, b" \t", "refused: the command is empty"),
        (
            MANAGER,
            b"ls \0",
            "refused: an argument contains a NUL character",
        ),
    ] {
        assert_eq!(
            line(MACHINE, who, text, None),
            expected,
            "{:?}",
            text.escape_ascii().to_string()
        );
    }
}

#[test]
fn files_are_granted_as_a_shell_unless_they_have_a_list_of_their_own() {
    let gets = |rule: &str, who: &str, name: &str| {
        let cluster = cluster(&format!(
            "[machine.web01]\nid52 = \"{WEB01}\"\n{rule}\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[machine.boss]\nid52 = \"{MANAGER}\"\n"
        ));
        let (from, to, action) = (id(who), id(WEB01), Action::Subsystem(name));
        let request = Request {
            from,
            to,
            action,
            user: None,
        };
        shown(decide(&cluster, &request, None))
    };
    let all = "allow_from = \"laptop\"\n";
    let shell = "allow_from = \"laptop\"\nallow_shell = \"boss\"\n";
    let files = "allow_from = \"laptop\"\nallow_shell = \"boss\"\nallow_files = \"laptop\"\n";
    for (rule, who, expected) in [
        (all, LAPTOP, "files as -"),
        (
            all,
            MANAGER,
            "refused: machine.web01.allow_from does not allow you to copy files",
        ),
        (shell, MANAGER, "files as -"),
        (
            shell,
            LAPTOP,
            "refused: machine.web01.allow_shell does not allow you to copy files",
        ),
        (files, LAPTOP, "files as -"),
        (
            files,
            MANAGER,
            "refused: machine.web01.allow_files does not allow you to copy files",
        ),
    ] {
        assert_eq!(gets(rule, who, "sftp"), expected, "{rule}");
    }
    assert_eq!(
        gets(all, LAPTOP, "netconf"),
        "refused: there is no subsystem `netconf` here; malai has `sftp`"
    );
}

#[test]
fn a_caller_chooses_among_the_users_that_are_named() {
    for (who, text, user, expected) in [
        (LAPTOP, &b"id"[..], None, r#"["id"] as web"#),
        (LAPTOP, b"id", Some("deploy"), r#"["id"] as deploy"#),
        (LAPTOP, b"id", Some("web"), r#"["id"] as web"#),
        (
            LAPTOP,
            b"id",
            Some("root"),
            "refused: machine.web01.username does not allow you to run as user `root`; it names `web`, `deploy`",
        ),
        (
            LAPTOP,
            b"id",
            Some("\x1b[2J"),
            r"refused: machine.web01.username does not allow you to run as user `\x1b[2J`; it names `web`, `deploy`",
        ),
        (
            STRANGER,
            b"rsync x",
            Some("web"),
            "refused: machine.web01.command.rsync.username does not allow you to run as user `web`; it names `backup`",
        ),
    ] {
        let given = line(MACHINE, who, text, user);
        assert_eq!(given, expected);
    }
    let unset = line("allow_from = \"laptop\"", LAPTOP, b"id", Some("root"));
    assert_eq!(
        unset,
        "refused: machine.web01.username does not allow you to run as user `root`; it is not set, so everything runs as the daemon's user"
    );
}

#[test]
fn a_forced_command_replaces_whatever_is_asked() {
    let rule = r#"
allow_from = "laptop,boss"
[machine.web01.command.backup]
command = "borg serve --restrict-to-path /srv/backup"
allow_from = "laptop"
forced = true
username = "backup"
"#;
    let forced = r#"["borg", "serve", "--restrict-to-path", "/srv/backup"]"#;
    for (text, original) in [
        (&b"borg serve --umask=077"[..], "borg serve --umask=077"),
        (b"rm -rf /; id", "rm -rf /; id"),
        (b"backup", "backup"),
        (b"", ""),
    ] {
        let expected = format!("{forced} for {original:?} as backup");
        assert_eq!(line(rule, LAPTOP, text, None), expected);
    }
    // Others are not concerned.
    assert_eq!(line(rule, MANAGER, b"id", None), r#"["id"] as -"#);
    let company = cluster(&format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\n{rule}\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[machine.boss]\nid52 = \"{MANAGER}\"\n"
    ));
    let ask = |action: Action<'_>| {
        let (from, to) = (id(LAPTOP), id(WEB01));
        shown(decide(
            &company,
            &Request {
                from,
                to,
                action,
                user: None,
            },
            None,
        ))
    };
    assert_eq!(ask(Action::Shell), format!("{forced} for \"\" as backup"));
    let argv = [b"sh".to_vec(), b"-c".to_vec(), b"it's".to_vec()];
    assert_eq!(
        ask(Action::Exec(&argv)),
        format!("{forced} for {:?} as backup", r"sh -c 'it'\''s'")
    );
}

#[test]
fn two_forced_commands_for_one_caller_are_an_error() {
    let source = |one: &str, two: &str| {
        format!(
            "[cluster_manager]\nid52 = \"{MANAGER}\"\n[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\n[machine.web01.command.a]\n{one}forced = true\n[machine.web01.command.b]\n{two}forced = true\n[machine.laptop]\nid52 = \"{LAPTOP}\"\n[group.g]\nmembers = \"laptop\"\n"
        )
    };
    let laptop = "allow_from = \"laptop\"\n";
    for (one, two, sound) in [
        (laptop, "allow_from = \"g\"\n", false),
        (laptop, "allow_from = \"web01\"\n", true),
        (laptop, "", false),
        ("", "", false),
    ] {
        let checked = crate::check("cluster.toml", &source(one, two));
        assert_eq!(checked.cluster.is_some(), sound, "{one}{two}");
        if !sound {
            assert_eq!(
                checked.diagnostics[0].message,
                "`b` and `a` are both forced, and their allow_from lists share a member"
            );
        }
    }
}

/// What only format 2 has a word for makes the content format 2, and only that.
#[test]
fn the_lowest_format_that_suffices_is_written() {
    for (extra, format) in [
        ("username = \"web\"", 1),
        ("username = [\"web\"]", 1),
        ("username = \"web,deploy\"", 2),
        ("accept_env = \"LANG APP_*\"", 2),
        ("allow_files = \"*\"", 2),
        ("[machine.web01.command.x]\nforced = true", 2),
        ("[machine.web01.command.x]\nforced = false", 1),
        ("[service.db]\nmachine = \"web01\"\ntcp = \"[::1]:5432\"", 2),
        (
            "[service.db]\nmachine = \"web01\"\nunix = \"/a \\\"b\\\"\"\nallow_from = \"*\"",
            2,
        ),
    ] {
        let cluster = cluster(&format!(
            "[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\n{extra}\n"
        ));
        let content = cluster.render();
        assert!(
            content.starts_with(&format!("format = {format}\n")),
            "{content}"
        );
        assert_eq!(crate::read_content(&content).unwrap(), cluster);
    }
}
