//! Checking a cluster.toml.

use expect_test::expect;
use proptest::prelude::*;

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
    expect![[r#"
        format = 1

        [cluster_manager]
        cluster_name = "company"
        id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"

        [group.admins]
        members = ["laptop", "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0", "on-call"]

        [group.on-call]
        members = ["tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g"]

        [machine.laptop]
        id52 = "tl4ihhh8q71cdqn90cs90mclc4kli9pqbhhvidhmo5319b476v8g"

        [machine.web01]
        allow_from = ["admins", "laptop"]
        allow_shell = ["admins"]
        id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"
        username = "web"

        [machine.web01.command.restart-nginx]
        allow_from = ["admins"]
        command = "sudo systemctl restart nginx"
        username = "nginx"
    "#]]
    .assert_eq(&cluster.render());
}

#[test]
fn every_layout_of_toml() {
    let inline = format!(
        "cluster-manager = {{ id52 = \"{MANAGER}\" }}\nmachine = {{ web01 = {{ id52 = '{WEB01}', allow_from = ['*'], command.x = {{ args = true }} }} }}\n"
    );
    let dotted = format!(
        "cluster_manager.id52 = \"\"\"{MANAGER}\"\"\"\r\nmachine.web01.id52 = \"{WEB01}\"\r\nmachine.web01.allow_from = \" * \"\r\nmachine.web01.command.x.args = true\r\n"
    );
    let sections = format!(
        "format = 1\n[machine.web01.command.x]\nargs = true\n[machine.web01]\nallow_from = \"*\" # all\nid52 = \"{WEB01}\"\n[cluster_manager]\nid52 = \"{MANAGER}\"\ncluster_name = \"\"\n"
    );
    let rendered: Vec<String> = [inline, dotted, sections]
        .iter()
        .map(|source| {
            let checked = check("f", source);
            assert_eq!(checked.diagnostics, [], "{source}");
            checked.cluster.unwrap().render()
        })
        .collect();
    assert_eq!(rendered[0], rendered[1]);
    assert_eq!(rendered[0], rendered[2]);
}

#[test]
fn strings_are_rendered_whole() {
    let source = format!(
        "[cluster_manager]\nid52 = \"{MANAGER}\"\ncluster_name = 'a \"b\" \\ ü'\n[machine.web01]\nid52 = \"{WEB01}\"\n[machine.web01.command.\"a.b+c\"]\ncommand = \"sh -c 'a\\tb\\nc\\u007f'\"\n"
    );
    let rendered = check("f", &source).cluster.unwrap().render();
    expect![[r#"
        format = 1

        [cluster_manager]
        cluster_name = "a \"b\" \\ ü"
        id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"

        [machine.web01]
        id52 = "g4sne3l8fkblull3ahjc6j3upj5or2khmjn3f8ituo7ln3u9mea0"

        [machine.web01.command."a.b+c"]
        command = "sh -c 'a\u0009b\u000Ac\u007F'"
    "#]]
    .assert_eq(&rendered);
    assert_eq!(read_content(&rendered).unwrap().render(), rendered);
}

#[test]
fn content() {
    let rendered = cluster("").render();
    assert_eq!(read_content(&rendered).unwrap(), cluster(""));
    let of = |text: &str| read_content(text).unwrap_err();
    let newer = rendered.replace("format = 1", "format = 3\n\"unknown\" = 1");
    assert_eq!(of(&newer), ContentError::TooNew { format: 3 });
    // Even where its syntax is not understood.
    assert_eq!(of("format = 99\n]["), ContentError::TooNew { format: 99 });
    assert_eq!(
        of("format = 99999999999"),
        ContentError::TooNew { format: u32::MAX }
    );
    for bad in [
        rendered.replace("format = 1\n", ""),
        rendered.replace("format = 1", "format = 1\nunknown = 1"),
        rendered.replace("format = 1", "format = 1\nmax_age = 1"),
        rendered.replace("id52", "id53"),
        String::new(),
    ] {
        assert!(matches!(of(&bad), ContentError::Invalid(_)), "{bad}");
    }
}

/// Content has one spelling: what TOML would take for the same is not what a manager signs.
#[test]
fn content_in_another_spelling_is_refused() {
    let sections = format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"a\"\n[machine.web01.command.x]\ncommand = \"ls 'a\tb'\"\nargs = true\n[machine.web01.command.\"x.y\"]\n[machine.web02]\nid52 = \"{LAPTOP}\"\n[group.a]\nmembers = \"web01,web02\"\n[group.b]\nmembers = []\n"
    );
    let rendered = cluster(&sections).render();
    assert_eq!(read_content(&rendered).unwrap(), cluster(&sections));
    let swapped = {
        let (head, rest) = rendered.split_once("[group.a]").unwrap();
        let (a, rest) = rest.split_once("[group.b]").unwrap();
        format!("{head}[group.b]\nmembers = []\n\n[group.a]{a}{rest}")
    };
    let mut seen = vec![swapped];
    for (from, to) in [
        ("format = 1\n", "format = 01\n"),
        ("format = 1\n", "format=1\n"),
        ("format = 1\n", "format = 1 # one\n"),
        ("format = 1\n\n", "format = 1\n"),
        ("\n", "\r\n"),
        ("[cluster_manager]", "[cluster-manager]"),
        ("[cluster_manager]", "[ cluster_manager ]"),
        ("[group.a]", "[group.\"a\"]"),
        ("[group.a]", "[group.b]"),
        ("[group.a]", "[group.c]"),
        ("[group.a]", "[[group.a]]"),
        ("[group.a]", "[group.a.b]"),
        ("[\"web01\", \"web02\"]", "[\"web01\",\"web02\"]"),
        ("[\"web01\", \"web02\"]", "[\"web01\", \"web02\", ]"),
        ("[\"web01\", \"web02\"]", "[\"web01\", 2]"),
        ("[\"web01\", \"web02\"]", "[\"web01\", \"\"]"),
        ("[\"web01\", \"web02\"]", "\"web01,web02\""),
        ("[\"web01\", \"web02\"]", "[\"w\\u0065b01\", \"web02\"]"),
        ("[\"web01\", \"web02\"]", "['web01', 'web02']"),
        ("members = []", "members = [\"unknown\"]"),
        ("members = []\n", ""),
        ("args = true", "args = false"),
        ("args = true", "args = yes"),
        ("\\u0009", "\\t"),
        ("\\u0009", "\t"),
        ("\\u0009", "\\u0041"),
        ("\\u0009", "\\u00e9"),
        ("command.x]", "command.\"x\"]"),
        ("command.\"x.y\"]", "command.x.y]"),
        ("command.\"x.y\"]", "command.a]"),
        ("machine.web01.command.x", "machine.web02.command.x"),
        ("machine.web02", "machine.web01"),
        ("machine.web02", "machine.a"),
        (
            "machine.web02]\n",
            "machine.web02]\nallow_shell = [\"*\"]\nallow_from = [\"*\"]\n",
        ),
    ] {
        assert!(rendered.contains(from), "{from:?}");
        seen.push(rendered.replacen(from, to, 1));
    }
    seen.push(rendered.trim_end().to_owned());
    seen.push(format!("{rendered}\n"));
    seen.push(format!("{rendered}x"));
    for bad in seen {
        let read = read_content(&bad);
        assert!(
            matches!(read, Err(ContentError::Invalid(_))),
            "{bad}\n{read:?}"
        );
    }
}

#[test]
fn rules_are_found_in_content() {
    let content = "format = 1\n\n[group.web01]\nmembers = []\n\n[machine.web01]\nallow_from = [\"*\"]\n\n[machine.web01.command.\"a.b\"]\nargs = true\n\n[machine.web02]\nallow_shell = []\n";
    for path in [
        "group.web01",
        "group.web01.members",
        "machine.web01",
        "machine.web01.allow_from",
        "machine.web01.command.\"a.b\"",
        "machine.web01.command.\"a.b\".args",
        "machine.web02.allow_shell",
        "machine.web01.allow_shell",
        "machine.web02.allow_from",
        "machine.web03",
        "format",
        "",
    ] {
        let found = locate_in_content(content, path);
        if !["format", "machine.web01.command.\"a.b\""].contains(&path) {
            assert_eq!(found, locate(content, path), "{path}");
        }
    }
    let command = locate_in_content(content, "machine.web01.command.\"a.b\"").unwrap();
    assert_eq!((command.line, command.column), (9, 24));
}

#[test]
fn a_new_cluster_is_valid_and_says_how_to_go_on() {
    let source = initial_document(&id(MANAGER), "com\"pany");
    let checked = check("f", &source);
    assert_eq!(checked.diagnostics, []);
    let cluster = checked.cluster.unwrap();
    assert_eq!(
        (cluster.name(), cluster.manager()),
        ("com\"pany", id(MANAGER))
    );
    // The example in the comments is right, too.
    let example: String = source
        .lines()
        .skip_while(|line| !line.starts_with("# ["))
        .map(|line| line.trim_start_matches(['#', ' ']).to_owned() + "\n")
        .collect();
    let example = example
        .replace("<the machine's id52>", WEB01)
        .replace("laptop,desk", "web01");
    let both = check("f", &format!("{source}\n{example}"));
    assert!(both.cluster.is_some(), "{:?}", both.diagnostics);

    let section = machine_section(&MachineName::parse("web01").unwrap(), &id(WEB01));
    assert_eq!(
        section,
        format!("[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\n")
    );
    let cluster = check("f", &format!("{source}\n{section}")).cluster.unwrap();
    assert_eq!(
        cluster.members().collect::<Vec<_>>(),
        [id(MANAGER), id(WEB01)]
    );
    assert!(cluster.is_member(&id(WEB01)) && !cluster.is_member(&id(LAPTOP)));
    assert_eq!(
        cluster.machine(&id(WEB01)).unwrap().name().as_str(),
        "web01"
    );
    assert_eq!(cluster.machine(&id(MANAGER)), None);
    assert_eq!(cluster.nearest_machine("wb01").unwrap().as_str(), "web01");
    assert_eq!(cluster.nearest_machine("database"), None);
}

#[test]
fn rules_are_found() {
    let source = "a = 1\n[machine.web01]\n  allow_from = '*'\n[machine.web01.command.\"a.b\"]\nargs = true\n";
    let at = |path: &str| locate(source, path).map(|found| (found.line, found.column));
    assert_eq!(at("machine.web01.allow_from"), Some((3, 3)));
    assert_eq!(at("machine.web01.command.\"a.b\".args"), Some((5, 1)));
    assert_eq!(at("machine.web01.command"), Some((4, 16)));
    for absent in [
        "machine.web02.allow_from",
        "a.b",
        "machine.web01.allow_shell",
        "",
        "][",
    ] {
        assert_eq!(at(absent), None, "{absent}");
    }
}

#[test]
fn floods_end() {
    let manager = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n");
    let many = |line: &dyn Fn(usize) -> String, count: usize| -> String {
        manager.clone() + &(0..count).map(line).collect::<String>()
    };
    let errors = |source: &str| check("f", source).diagnostics.len();
    // Nesting that would overflow a stack, if anything recursed.
    assert!(errors(&format!("a = {}", "[".repeat(1_000_000))) > 0);
    assert!(errors(&format!("a = {}", "{a=".repeat(200_000))) > 0);
    assert!(errors(&format!("[{}]", ["a"; 200_000].join("."))) > 0);
    // A chain of groups, each in the next.
    let chain = many(
        &|n| format!("[group.g{n}]\nmembers = \"g{}\"\n", n + 1),
        20_000,
    );
    assert!(errors(&chain) > 0);
    let chain = format!("{chain}[group.g20000]\nmembers = \"g0\"\n");
    let circle = check("f", &chain);
    assert!(circle.diagnostics[0].message.contains("contains itself"));
    assert!(circle.diagnostics[0].message.len() < 2_000);
    // Memberships that multiply.
    let wide = many(
        &|n| {
            format!(
                "[machine.m{n}]\nid52 = \"{}\"\n[group.g{n}]\nmembers = \"m{n},g{}\"\n",
                model::machine_id(n),
                n + 1
            )
        },
        99,
    ) + "[group.g99]\nmembers = \"m0\"\n";
    assert!(check("f", &wide).cluster.is_some());
    let deep = wide + "[group.outermost]\nmembers = \"g0\"\n";
    let deep = check("f", &deep).diagnostics;
    assert_eq!(
        deep[0].message,
        "groups are nested more than 100 deep, starting from `outermost`"
    );
    // A circle through every group, and from every group back to the first: a short one is shown.
    let back = many(
        &|n| format!("[group.g{n}]\nmembers = \"g{},g0\"\n", (n + 1) % 20_000),
        20_000,
    );
    let circles = check("f", &back).diagnostics;
    assert!(circles.len() < 50, "{}", circles.len());
    // A list that is narrower than one of many groups: each group was compared with a copy of it.
    let names = |what: &str, count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("{what}{n}")).collect();
        names.join(",")
    };
    let groups = many(&|n| format!("[group.g{n}]\nmembers = \"web01\"\n"), 5_000);
    let lists = format!(
        "[machine.web01]\nid52 = \"{WEB01}\"\nallow_shell = \"web01,{}\"\nallow_from = \"{}\"\n",
        names("g", 4_999),
        names("g", 5_000)
    );
    assert!(check("f", &(groups + &lists)).cluster.is_some());
    // More problems than a person reads.
    let problems = check("f", &many(&|n| format!("k{n} = \"{n}\"\n"), 50_000)).diagnostics;
    assert_eq!(problems.len(), 1_000);
    assert!(
        problems[999]
            .help
            .as_ref()
            .unwrap()
            .contains("more problems")
    );
    assert_eq!(errors(&" ".repeat(MAX_CONTENT + 1)), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn content_is_a_fixed_point(model in model::model(), layout in model::layout()) {
        let cluster = model.cluster(&layout);
        let rendered = cluster.render();
        let read = read_content(&rendered).unwrap();
        prop_assert_eq!(read.render(), rendered);
        prop_assert_eq!(read, cluster);
    }

    #[test]
    fn flattening_ends_and_finds_every_circle(edges in prop::collection::vec((0usize..6, 0usize..6), 0..14)) {
        let mut source = format!("[cluster_manager]\nid52 = \"{MANAGER}\"\n");
        for group in 0..6 {
            let inner: Vec<_> = edges.iter().filter(|(from, _)| *from == group).map(|(_, to)| format!("g{to}")).collect();
            source.push_str(&format!("[group.g{group}]\nmembers = {inner:?}\n"));
        }
        // A group that reaches itself is in a cycle: the closure of the edges, the slow way.
        let mut reach = [[false; 6]; 6];
        for (from, to) in &edges {
            reach[*from][*to] = true;
        }
        for via in 0..6 {
            for from in 0..6 {
                for to in 0..6 {
                    reach[from][to] |= reach[from][via] && reach[via][to];
                }
            }
        }
        let circle = (0..6).any(|group| reach[group][group]);
        prop_assert_eq!(check("f", &source).cluster.is_none(), circle);
    }

    #[test]
    fn no_text_is_too_strange(text in ".*", sections in prop::collection::vec(prop::sample::select(PIECES), 0..20)) {
        for source in [text, sections.concat()] {
            for diagnostic in check("f", &source).diagnostics {
                prop_assert!(!diagnostic.to_string().contains(|c: char| c.is_control() && c != '\n'));
                prop_assert!(diagnostic.line >= 1 && diagnostic.column >= 1 && diagnostic.width >= 1);
            }
        }
    }
}

/// Pieces that together are nearly a file.
const PIECES: &[&str] = &[
    "[machine.a]\n",
    "[machine.a.command.b]\n",
    "[group.a]\n",
    "[cluster_manager]\n",
    "id52",
    " = ",
    "\"",
    "'",
    "allow_from",
    "members = \"a,b\"\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "é",
    "\u{1b}",
    "#",
    "1",
    "true",
    "\"\"\"",
    ".",
];
