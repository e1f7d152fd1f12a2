//! The exact arguments of tools that call ssh, and ssh's own forms.

use std::collections::BTreeSet;
use std::ffi::OsString;

use super::options::{KEYWORDS, LETTERS, Meaning};
use super::*;

/// Summarizes an argument list in one line: only what differs from the defaults.
fn shown(arguments: &[&str]) -> String {
    let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
    let found = match parse(&arguments) {
        Ok(found) => found,
        Err(SshError(why)) => return format!("error: {why}"),
    };
    let mut out = vec![found.host.to_string_lossy().into_owned()];
    let mut say = |text: String| out.push(text);
    if let Some(user) = &found.user {
        say(format!("user={user}"));
    }
    match found.tty {
        TtyMode::Auto => {}
        tty => say(format!("tty={tty:?}")),
    }
    for (set, name) in [
        (found.subsystem, "subsystem"),
        (found.no_input, "no input"),
        (found.verbose, "verbose"),
        (found.quiet, "quiet"),
        (found.background, "background"),
        (found.no_command, "no command"),
    ] {
        if set {
            say(name.to_owned());
        }
    }
    if found.escape != EscapeChar::default() {
        let none = found.escape.0.is_none().then(|| "none".to_owned());
        say(format!(
            "escape={}",
            none.unwrap_or(found.escape.to_string())
        ));
    }
    if let Some(instead) = found.instead {
        say(format!("{instead:?}"));
    }
    if !found.send_env.is_empty() {
        say(format!("send={:?}", found.send_env));
    }
    for (name, value) in &found.set_env {
        say(format!("set {name}={}", value.escape_ascii()));
    }
    for forward in &found.forwards {
        say(format!("{} to {:?}", forward.listen, forward.to));
    }
    if let Some(line) = &found.line {
        say(format!("line={:?}", String::from_utf8_lossy(line)));
    }
    if let Some(local) = &found.local_command {
        say(format!("here={:?}", String::from_utf8_lossy(local)));
    }
    out.join(" ")
}

#[test]
fn what_the_tools_pass() {
    let rows: &[(&str, &[&str], &str)] = &[
        (
            "rsync",
            &[
                "-l",
                "web",
                "web01.c",
                "rsync",
                "--server",
                "-vlogDtpre.iLsfxCIvu",
                ".",
                "/srv/a\\ b",
            ],
            r#"web01.c user=web line="rsync --server -vlogDtpre.iLsfxCIvu . /srv/a\\ b""#,
        ),
        (
            "rsync -4",
            &["-4", "web01.c", "rsync", "--server", ".", "x"],
            r#"web01.c line="rsync --server . x""#,
        ),
        (
            "git",
            &[
                "-o",
                "SendEnv=GIT_PROTOCOL",
                "-p",
                "2222",
                "git@web01.c",
                "git-upload-pack '/srv/x.git'",
            ],
            r#"web01.c user=git send=["GIT_PROTOCOL"] line="git-upload-pack '/srv/x.git'""#,
        ),
        (
            "git, looking for the variant",
            &["-G", "-o", "SendEnv=GIT_PROTOCOL", "-p", "22", "web01.c"],
            r#"web01.c PrintConfig send=["GIT_PROTOCOL"]"#,
        ),
        (
            "scp",
            &[
                "-x",
                "-oPermitLocalCommand=no",
                "-oClearAllForwardings=yes",
                "-oRemoteCommand=none",
                "-oRequestTTY=no",
                "-oControlMaster=no",
                "-oForwardAgent=no",
                "-l",
                "web",
                "-s",
                "--",
                "web01.c",
                "sftp",
            ],
            r#"web01.c user=web tty=Never subsystem line="sftp""#,
        ),
        (
            "sftp",
            &[
                "-oForwardX11 no",
                "-oPermitLocalCommand no",
                "-oClearAllForwardings yes",
                "-oControlMaster no",
                "-obatchmode yes",
                "-oForwardAgent no",
                "-oPort 22",
                "-l",
                "web",
                "-s",
                "--",
                "web01.c",
                "sftp",
            ],
            r#"web01.c user=web subsystem line="sftp""#,
        ),
        (
            "sshfs",
            &[
                "-x",
                "-a",
                "-oClearAllForwardings=yes",
                "-2",
                "-oPort=22",
                "-oCompression=yes",
                "-F/dev/null",
                "-s",
                "--",
                "web01.c",
                "sftp",
            ],
            r#"web01.c subsystem line="sftp""#,
        ),
        (
            "ansible",
            &[
                "-C",
                "-o",
                "ControlMaster=auto",
                "-o",
                "ControlPersist=60s",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "Port=22",
                "-o",
                "IdentityFile=\"/k\"",
                "-o",
                "KbdInteractiveAuthentication=no",
                "-o",
                "PreferredAuthentications=gssapi-with-mic,publickey",
                "-o",
                "PasswordAuthentication=no",
                "-o",
                "User=\"web\"",
                "-o",
                "ConnectTimeout=10",
                "-o",
                "ControlPath=\"/x/%h\"",
                "-tt",
                "[web01.c]",
                "/bin/sh -c 'echo ~web && sleep 0'",
            ],
            r#"web01.c user=web tty=Force line="/bin/sh -c 'echo ~web && sleep 0'""#,
        ),
        (
            "ansible, reset",
            &["-O", "stop", "-o", "ControlPath=\"/x\"", "web01.c"],
            "web01.c Stop",
        ),
        (
            "ansible, check",
            &["-O", "check", "web01.c"],
            "web01.c Check",
        ),
        (
            "clush",
            &[
                "-oForwardAgent=no",
                "-oForwardX11=no",
                "-l",
                "web",
                "-oConnectTimeout=15",
                "-oBatchMode=yes",
                "web01.c",
                "uptime",
            ],
            r#"web01.c user=web line="uptime""#,
        ),
        (
            "pdsh",
            &[
                "-oConnectTimeout=10",
                "-2",
                "-a",
                "-x",
                "-lweb",
                "web01.c",
                "uptime",
            ],
            r#"web01.c user=web line="uptime""#,
        ),
        ("VS Code, first", &["-V"], " Version"),
        (
            "VS Code",
            &[
                "-v",
                "-T",
                "-D",
                "5000",
                "-o",
                "ConnectTimeout=15",
                "web01.c",
                "bash",
            ],
            r#"web01.c tty=Never verbose 127.0.0.1:5000 to Socks line="bash""#,
        ),
        (
            "mosh",
            &[
                "-n",
                "-tt",
                "-4",
                "-S",
                "none",
                "-o",
                "ProxyCommand=mosh --fake-proxy -- %h %p",
                "web@web01.c",
                "--",
                "mosh-server 'new' -s",
            ],
            r#"web01.c user=web tty=Force no input line="mosh-server 'new' -s""#,
        ),
        (
            "docker",
            &[
                "-l",
                "web",
                "-p",
                "22",
                "-o ConnectTimeout=30",
                "-T",
                "--",
                "web01.c",
                "docker system dial-stdio",
            ],
            r#"web01.c user=web tty=Never line="docker system dial-stdio""#,
        ),
        (
            "TRAMP",
            &[
                "-l",
                "web",
                "-o",
                "ControlMaster=auto",
                "-o",
                "ControlPath=x",
                "-o",
                "ControlPersist=no",
                "-e",
                "none",
                "web01.c",
            ],
            "web01.c user=web escape=none",
        ),
        (
            "TRAMP, sshx",
            &[
                "-e",
                "none",
                "-t",
                "-t",
                "-o",
                "RemoteCommand=\"/bin/sh -l\"",
                "web01.c",
            ],
            r#"web01.c tty=Force escape=none line="/bin/sh -l""#,
        ),
        (
            "borg",
            &["web01.c", "borg", "serve", "--umask=077"],
            r#"web01.c line="borg serve --umask=077""#,
        ),
        (
            "hg",
            &["web01.c", "hg -R p serve --stdio"],
            r#"web01.c line="hg -R p serve --stdio""#,
        ),
        (
            "unison, options behind the host",
            &["web01.c", "-e", "none", "unison", "-server"],
            r#"web01.c escape=none line="unison -server""#,
        ),
        (
            "nix",
            &[
                "web01.c",
                "-x",
                "-a",
                "-oPermitLocalCommand=yes",
                "-oLocalCommand=echo started",
                "nix-store",
                "--serve",
            ],
            r#"web01.c line="nix-store --serve" here="echo started""#,
        ),
        (
            "restic",
            &["web01.c", "-s", "sftp"],
            r#"web01.c subsystem line="sftp""#,
        ),
        (
            "rclone",
            &["web01.c", "sftp", "-s"],
            r#"web01.c line="sftp -s""#,
        ),
        (
            "database clients",
            &["-L", "5433:localhost:5432", "-N", "-f", "web01.c"],
            r#"web01.c no input background no command 127.0.0.1:5433 to Tcp("localhost:5432")"#,
        ),
    ];
    for (tool, arguments, expected) in rows {
        assert_eq!(shown(arguments), *expected, "{tool}: {arguments:?}");
    }
}

#[test]
fn ssh_as_people_type_it() {
    for (arguments, expected) in [
        (&["web01.c"][..], "web01.c"),
        (
            &["-tA", "web@web01.c", "top"],
            r#"web01.c user=web tty=Request line="top""#,
        ),
        (&["-l", "a", "b@web01.c"], "web01.c user=a"),
        (&["b@web01.c", "-l", "a"], "web01.c user=b"),
        (&["ssh://web@web01.c:22/"], "web01.c user=web"),
        (&["a@b@web01.c"], "web01.c user=a@b"),
        (
            &["-qn", "web01.c", "a", "b  c"],
            r#"web01.c no input quiet line="a b  c""#,
        ),
        (
            &["-f", "web01.c", "x"],
            r#"web01.c no input background line="x""#,
        ),
        (
            &["-oForkAfterAuthentication=yes", "-N", "web01.c", "x"],
            r#"web01.c no input background no command line="x""#,
        ),
        (
            &[
                "-oForkAfterAuthentication=no",
                "-oSessionType=none",
                "web01.c",
            ],
            "web01.c no command",
        ),
        (
            &["-f", "web01.c"],
            "error: -f: there is no command to run in the background",
        ),
        (
            &["-enone", "-oEscapeChar=%", "web01.c"],
            "web01.c escape=none",
        ),
        (
            &["-eab", "web01.c"],
            "error: option -e: \"ab\" is not a character, ^ and a letter, or none",
        ),
        (&["-T", "-t", "web01.c"], "web01.c tty=Never"),
        (&["-oRequestTTY=force", "web01.c"], "web01.c tty=Force"),
        (
            &["-o", "SetEnv=\"A=b c\" D=e", "web01.c"],
            "web01.c set A=b c set D=e",
        ),
        (
            &["-o", "SetEnv=A=b D=e", "web01.c"],
            "web01.c set A=b set D=e",
        ),
        (&["-e^A", "web01.c"], r"web01.c escape=^A"),
        (
            &["-oLogLevel=QUIET", "-ovisualhostkey=no", "web01.c"],
            "web01.c quiet",
        ),
        (&["-oForwardX11=no", "-oTunnel=no", "web01.c"], "web01.c"),
        (
            &[],
            "error: no machine given; usage: malai ssh [options] [user@]<machine>.<cluster> [command...]",
        ),
        (
            &["-Z", "web01.c"],
            "error: unknown option -Z; malai ssh takes ssh's options (malai ssh --help)",
        ),
        (
            &["-o", "Prot=22", "web01.c"],
            "error: unknown option -o Prot; did you mean Port?",
        ),
        (&["-l"], "error: option -l needs a value"),
        (&["@web01.c"], "error: there is no user before the @"),
        (
            &["-oUser=", "web01.c"],
            "error: option -o User needs a value",
        ),
        (
            &["-oRequestTTY=perhaps", "web01.c"],
            "error: option RequestTTY: \"perhaps\" is not yes or no",
        ),
        (
            &["-w", "0:0", "web01.c"],
            "error: -w: there are no tunnel devices here: a service forwards what listens on the machine",
        ),
        (&["-oLocalCommand=echo %h", "web01.c"], "web01.c"),
        (
            &[
                "-oPermitLocalCommand=yes",
                "-oLocalCommand=echo %r at %h 100%%",
                "web@web01.c",
            ],
            r#"web01.c user=web here="echo web at web01.c 100%""#,
        ),
        (
            &["-oPermitLocalCommand=yes", "-oLocalCommand=%T", "web01.c"],
            "error: LocalCommand: of ssh's tokens malai knows %h, %n, %r and %%",
        ),
        (
            &["-oRemoteCommand=a", "web01.c", "b"],
            "error: there is a command, and RemoteCommand as well",
        ),
    ] {
        assert_eq!(shown(arguments), expected, "{arguments:?}");
    }
}

/// Every letter and keyword is listed once, and each ignored one has a reason.
#[test]
fn the_table_is_whole() {
    let letters: BTreeSet<char> = LETTERS.iter().map(|known| known.letter).collect();
    assert_eq!(letters.len(), LETTERS.len());
    // From ssh(1): its synopsis.
    for letter in "46AaCfGgKkMNnqsTtVvXxYyBbcDEeFIiJLlmOoPpQRSWw".chars() {
        assert!(letters.contains(&letter), "-{letter}");
    }
    let names: BTreeSet<_> = KEYWORDS
        .iter()
        .map(|known| known.name.to_ascii_lowercase())
        .collect();
    assert_eq!(names.len(), KEYWORDS.len());
    for meaning in LETTERS
        .iter()
        .map(|known| known.meaning)
        .chain(KEYWORDS.iter().map(|known| known.meaning))
    {
        let text = match meaning {
            Meaning::Obeyed(_, text) | Meaning::Ignored(text) | Meaning::Refused(text) => text,
        };
        assert!(!text.is_empty());
    }
}
