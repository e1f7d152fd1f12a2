//! Checking a cluster.toml.

use expect_test::{Expect, expect};

use super::*;
use crate::testing::*;

#[test]
fn the_example_of_the_specification() {
    let source = format!(
        r#"
[cluster_manager]
id52 = "{MANAGER}"
cluster_name = "company"

[machine.laptop]
id52 = "{LAPTOP}"

[machine.web01]
id52 = "{WEB01}"
allow_from = "admins,laptop"
allow_shell = "admins"
username = "web"

[machine.web01.command.restart-nginx]
command = "sudo systemctl restart nginx"
allow_from = "admins"
username = "nginx"
args = false

[group.admins]
members = "laptop,{MANAGER},on-call"

[group.on-call]
members = ["{LAPTOP}"]
"#
    );
    let checked = check("cluster.toml", &source);
    assert_eq!(checked.diagnostics, []);
    let cluster = checked.cluster.unwrap();
    expect![[""]].assert_eq(&cluster.render());
}

/// The problems of a file, as they are shown.
fn problems(source: &str, expected: Expect) {
    let checked = check("cluster.toml", source);
    let shown: Vec<_> = checked
        .diagnostics
        .iter()
        .map(ToString::to_string)
        .collect();
    expected.assert_eq(&shown.join("\n\n"));
    let has_errors = checked
        .diagnostics
        .iter()
        .any(|d| d.severity == crate::Severity::Error);
    assert_eq!(checked.cluster.is_none(), has_errors);
}

#[test]
fn everything_wrong_at_once() {
    problems(
        &format!(
            r#"colour = "red"
[cluster_manager]
cluster_nmae = "x"

[cluster-manager]
id52 = "{MANAGER}"

[machine.web01]
id52 = "{WEB01}"
alow_from = "*"
allow_from = "lpatop, {WEB01}, nobody-i-know,../../evil"

[machine.Web_02]
id52 = 7

[machine.laptop]
id52 = "{WEB01}"
allow_from = ["web01", 3, "a,b"]
allow_shell = true
username = "0"

[machine.laptop.command."a/b"]
[machine.laptop.command.x]
command = "ls | head"
args = "yes"
[machine.laptop.command.y]
command = "  "

[machine.weak]
id52 = "0000000000000000000000000000000000000000000000000000"

[machine.keyless]

[group.a]
members = "b,*"
[group.b]
members = "c"
[group.c]
members = "laptop,b,c"
[group.laptop]
members = ",web01"
[group.d]
"#
        ),
        expect![[""]],
    );
}

#[test]
fn broken_syntax_and_what_can_still_be_said() {
    problems(
        &format!(
            r#"[cluster_manager]
id52 = "{MANAGER}
cluster_name = 3

[machine.web01]
id52 = "{WEB01}"
alow_from = "*"
[machine.web01]
username =
[machine.db
colour = 3
[machine.laptop]
colour = 3
colour = 4
"#
        ),
        expect![[""]],
    );
}

#[test]
fn warnings() {
    problems(
        &format!(
            r#"[cluster_manager]
id52 = "{MANAGER}"
[machine.web01]
id52 = "{WEB01}"
allow_from = "*"
allow_shell = "laptop"
[machine.web01.command.restart]
allow_from = "admins"
[machine.web01.command.as-other]
allow_from = "admins"
username = "nginx"
[machine.laptop]
id52 = "{LAPTOP}"
allow_from = "empty"
allow_shell = ""
[machine.laptop.command.x]
allow_from = "*,laptop,laptop,{STRANGER}"
[group.admins]
members = "laptop"
[group.empty]
members = []
[group.unused]
members = "unused-too"
[group.unused-too]
members = "laptop"
"#
        ),
        expect![[""]],
    );
}
