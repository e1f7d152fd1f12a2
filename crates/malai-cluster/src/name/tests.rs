//! Names: what goes in, and what each refusal says.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

#[test]
fn names_that_are_fine() {
    for label in [
        "a",
        "web01",
        "0",
        "on-call",
        "a--b",
        "xn--bcher-kva",
        &"a".repeat(63),
    ] {
        assert_eq!(MachineName::parse(label).unwrap().as_str(), label);
        assert_eq!(GroupName::parse(label).unwrap().as_str(), label);
        assert_eq!(ClusterAlias::parse(label).unwrap().as_str(), label);
    }
    for command in ["a", "7z", "restart-nginx", "g++", "x.y_z", "A"] {
        assert_eq!(CommandName::parse(command).unwrap().as_str(), command);
    }
    for user in [
        "root",
        "_apt",
        "www-data",
        "first.last",
        "host$",
        &"u".repeat(32),
    ] {
        assert_eq!(UserName::parse(user).unwrap().as_str(), user);
    }
}

#[test]
fn labels_that_are_not() {
    label("", expect![[r#""" cannot be a machine name: it is empty"#]]);
    label(
        "../../evil",
        expect![[
            r#""../../evil" cannot be a machine name: it contains "."; use only a-z, 0-9 and "-""#
        ]],
    );
    label(
        "we b",
        expect![[r#""we b" cannot be a machine name: it contains " "; use only a-z, 0-9 and "-""#]],
    );
    label(
        "a,b",
        expect![[r#""a,b" cannot be a machine name: it contains ","; use only a-z, 0-9 and "-""#]],
    );
    label(
        "web01\n",
        expect![[
            r#""web01\n" cannot be a machine name: it contains "\n"; use only a-z, 0-9 and "-""#
        ]],
    );
    label(
        "*",
        expect![[r#""*" cannot be a machine name: it contains "*"; use only a-z, 0-9 and "-""#]],
    );
    label(
        ".",
        expect![[r#""." cannot be a machine name: it contains "."; use only a-z, 0-9 and "-""#]],
    );
    label(
        "%h",
        expect![[r#""%h" cannot be a machine name: it contains "%"; use only a-z, 0-9 and "-""#]],
    );
    label(
        "-x",
        expect![[r#""-x" cannot be a machine name: it may not start or end with "-""#]],
    );
    label(
        "x-",
        expect![[r#""x-" cannot be a machine name: it may not start or end with "-""#]],
    );
    label(
        "Web01",
        expect![[
            r#""Web01" cannot be a machine name: it contains "W"; use only a-z, 0-9 and "-""#
        ]],
    );
    // A Cyrillic letter that looks like a Latin one.
    label(
        "wеb01",
        expect![[
            r#""wеb01" cannot be a machine name: it contains "е"; use only a-z, 0-9 and "-""#
        ]],
    );
    label(
        "\u{1b}[2J",
        expect![[
            r#""\x1b[2J" cannot be a machine name: it contains "\x1b"; use only a-z, 0-9 and "-""#
        ]],
    );
    label(
        "\u{202e}evil",
        expect![[
            r#""\u202eevil" cannot be a machine name: it contains "\u202e"; use only a-z, 0-9 and "-""#
        ]],
    );
    label(
        &"a".repeat(64),
        expect![[
            r#""aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" cannot be a machine name: it has 64 characters, the maximum is 63"#
        ]],
    );
    label(
        &"a".repeat(52),
        expect![[
            r#""aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" cannot be a machine name: it could be mistaken for an id52"#
        ]],
    );
}

fn label(text: &str, expected: Expect) {
    expected.assert_eq(&MachineName::parse(text).unwrap_err().to_string());
    assert!(GroupName::parse(text).is_err() && ClusterAlias::parse(text).is_err());
}

#[test]
fn commands_and_users_that_are_not() {
    let command = |text: &str| CommandName::parse(text).unwrap_err().to_string();
    expect![[
        r#""/bin/ls" cannot be a command name: it must start with a letter or a digit, not "/""#
    ]]
    .assert_eq(&command("/bin/ls"));
    expect![[
        r#""a/b" cannot be a command name: it contains "/"; use only letters, digits and "._+-""#
    ]]
    .assert_eq(&command("a/b"));
    for bad in ["", "-x", ".", "a b", "a\0", "a\n", "é"] {
        assert!(CommandName::parse(bad).is_err(), "{bad:?}");
    }
    let user = |text: &str| UserName::parse(text).unwrap_err().to_string();
    expect![[r#""0" cannot be a user name: it must start with a-z or "_", not "0""#]]
        .assert_eq(&user("0"));
    expect![[r#""a:b" cannot be a user name: it contains ":"; use only a-z, 0-9 and "_.-""#]]
        .assert_eq(&user("a:b"));
    for bad in ["", "$", "Root", "-r", "a$b", "a b", "ü", &"u".repeat(33)] {
        assert!(UserName::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_long_value_is_cut_in_its_error() {
    let message = MachineName::parse(&"A".repeat(10_000))
        .unwrap_err()
        .to_string();
    assert!(message.len() < 300 && message.contains('…'), "{message}");
}

#[test]
fn hosts_become_names() {
    let long = "x".repeat(62) + "-y";
    for (host, name) in [
        ("web01", "web01"),
        ("Web01.example.org", "web01"),
        ("my_laptop", "my-laptop"),
        ("--a--", "a"),
        ("", "machine"),
        ("...", "machine"),
        ("日本", "machine"),
        (long.as_str(), &long[..62]),
        (
            "abcdefghijklmnopqrstuvabcdefghijklmnopqrstuvabcdefgh",
            "machine",
        ),
    ] {
        assert_eq!(sanitize_host(host).as_str(), name, "{host}");
    }
}

#[test]
fn serde_checks() {
    let name: MachineName = serde_json::from_str("\"web01\"").unwrap();
    assert_eq!(serde_json::to_string(&name).unwrap(), "\"web01\"");
    assert!(serde_json::from_str::<MachineName>("\"../x\"").is_err());
}

proptest! {
    #[test]
    fn a_label_is_safe_as_a_folder_and_in_a_list(text in ".*") {
        if let Ok(alias) = ClusterAlias::parse(&text) {
            prop_assert!(!alias.as_str().contains(['/', '.', ',', '*', '@', '\0', '\n', ' ']));
            prop_assert_eq!(escape(alias.as_str()), alias.as_str());
        }
        prop_assert!(MachineName::parse(sanitize_host(&text).as_str()).is_ok());
    }
}
