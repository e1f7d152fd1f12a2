//! What a manager can sign to cost the members memory and time: a bounded amount of both.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use malai_cluster::{
    ContentError, MAX_COMMANDS, MAX_CONTENT, MAX_ENTRIES, MAX_GROUPS, SecretSeed, read_content,
};

/// How much resident memory this process may have at most while it reads any content, the content itself
/// and what making it has left behind counted.
const MEMORY: usize = 160 << 20;

/// How long reading any content may take, without optimization and on a busy computer.
const TIME: Duration = Duration::from_secs(20);

/// The highest resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.trim().parse::<usize>().unwrap() << 10
}

fn content(sections: &str) -> String {
    let manager = SecretSeed::from_bytes([1; 32]).id();
    format!("format = 1\n\n[cluster_manager]\nid52 = \"{manager}\"\n{sections}")
}

/// So many sections, each made from its number.
fn many(count: usize, section: impl Fn(usize) -> String) -> String {
    content(&(0..count).map(section).collect::<String>())
}

/// A group, its name as wide as to sort by its number.
fn group(number: usize, members: &[usize]) -> String {
    let members: Vec<_> = members.iter().map(|n| format!("\"g{n:06}\"")).collect();
    format!(
        "\n[group.g{number:06}]\nmembers = [{}]\n",
        members.join(", ")
    )
}

fn machine(rest: &str) -> String {
    let id = SecretSeed::from_bytes([2; 32]).id();
    content(&format!(
        "\n[machine.m]\n{}",
        rest.replace("ID", &format!("id52 = \"{id}\""))
    ))
}

/// As often as it fits into the largest content.
fn full(unit: &str) -> String {
    unit.repeat((MAX_CONTENT - 400) / unit.len())
}

/// Entries of a list.
fn list(count: usize) -> String {
    vec!["\"m\""; count].join(", ")
}

/// Command entries of the machine.
fn commands(count: usize) -> String {
    let command = |n| format!("\n[machine.m.command.c{n:06}]\n");
    machine(&format!(
        "ID\n{}",
        (0..count).map(command).collect::<String>()
    ))
}

/// Forced commands of one machine, whose own list counts for each of them.
fn forced(who: &str, groups: &str) -> String {
    let list: Vec<String> = match who {
        "g" => (0..8_000).map(|n| format!("\"g{n:06}\"")).collect(),
        who => vec![format!("\"{who}\"")],
    };
    let id = SecretSeed::from_bytes([2; 32]).id();
    let command = |n| format!("\n[machine.m.command.c{n:06}]\nforced = true\n");
    let commands: String = (0..50_000).map(command).collect();
    let list = list.join(", ");
    content(&format!(
        "{groups}\n[machine.m]\nallow_from = [{list}]\nid52 = \"{id}\"\n{commands}"
    ))
}

/// Names of users, each once.
fn users(count: usize) -> String {
    let names: Vec<_> = (0..count).map(|n| format!("\"u{n}\"")).collect();
    names.join(", ")
}

/// A command entry with these lines.
fn command(name: &str, line: &str) -> String {
    machine(&format!("ID\n\n[machine.m.command.{name}]\n{line}"))
}

/// The next group, where there is one.
fn next(number: usize, count: usize) -> Vec<usize> {
    (number + 1..count).take(1).collect()
}

/// What it is, how it is made, and what is said of it: nothing, where it can be read.
type Try = (&'static str, fn() -> String, &'static str);

const TRIES: &[Try] = &[
    (
        "every group leads to the next and back to the first",
        || many(20_000, |n| group(n, &[(n + 1) % 20_000, 0])),
        "contains itself",
    ),
    (
        "one circle through every group",
        || many(MAX_GROUPS, |n| group(n, &[(n + 1) % MAX_GROUPS])),
        "contains itself",
    ),
    (
        "each group in the one before",
        || many(MAX_GROUPS, |n| group(n, &next(n, MAX_GROUPS))),
        "are nested more than",
    ),
    (
        "each group holds the fifty next ones",
        || {
            many(10_000, |n| {
                group(n, &(n + 1..(n + 51).min(10_000)).collect::<Vec<_>>())
            })
        },
        "are nested more than",
    ),
    (
        "layers of groups, each of which holds all of the next layer",
        || {
            many(700, |n| {
                let layer = n / 70 + 1;
                let next = (layer * 70..layer * 70 + 70).filter(|next| *next < 700);
                group(n, &next.collect::<Vec<_>>())
            })
        },
        "",
    ),
    (
        "groups",
        || many(MAX_GROUPS + 1, |n| group(n, &[])),
        "more than 65536 groups",
    ),
    (
        "commands",
        || commands(MAX_COMMANDS + 1),
        "more than 131072 command entries",
    ),
    (
        "as many commands as there may be",
        || commands(MAX_COMMANDS),
        "",
    ),
    (
        "forced commands, each for everybody",
        || forced("*", ""),
        "are both forced",
    ),
    (
        "forced commands, each for the same empty groups",
        || forced("g", &(0..8_000).map(|n| group(n, &[])).collect::<String>()),
        "have too many members",
    ),
    (
        "users",
        || machine(&format!("ID\nusername = [{}]\n", users(400_000))),
        "more than 64 users",
    ),
    (
        "variables",
        || {
            machine(&format!(
                "accept_env = [{}]\nID\n",
                list(MAX_ENTRIES - 1).replace('m', "M")
            ))
        },
        "more than 256 variables",
    ),
    (
        "words",
        || command("c", &format!("command = \"{}\"\n", full("a "))),
        "longer than 16 KiB",
    ),
    (
        "a command with a long name",
        || command(&full("c"), ""),
        "the maximum is 255",
    ),
    (
        "entries",
        || machine(&format!("allow_from = [{}]\nID\n", list(MAX_ENTRIES + 1))),
        "more than 524288 entries",
    ),
    (
        "as many entries as there may be",
        || machine(&format!("allow_from = [{}]\nID\n", list(MAX_ENTRIES))),
        "",
    ),
    (
        "commas",
        || machine(&format!("allow_from = [{}]\nID\n", full(","))),
        "more than 524288 entries",
    ),
    (
        "numbers",
        || machine(&format!("allow_from = [{}]\nID\n", full("1,"))),
        "more than 524288 entries",
    ),
    (
        "brackets",
        || machine(&format!("allow_from = {}\nID\n", full("["))),
        "is not a list",
    ),
    (
        "empty lines",
        || content(&full("\n")),
        "a section is missing",
    ),
    (
        "tables",
        || content(&full("[a]\n")),
        "an empty line is missing",
    ),
    (
        "dotted keys",
        || content(&full("a.b.c.d.e.f.g.h.i=1\n")),
        "an empty line is missing",
    ),
    (
        "garbage",
        || content(&full("=\n")),
        "an empty line is missing",
    ),
    ("no lines", || full("x"), "`format` is missing"),
];

#[test]
fn what_a_manager_signs_costs_a_bounded_amount() {
    for (name, make, expected) in TRIES {
        let content = make();
        assert!(content.len() <= MAX_CONTENT, "{name}");
        // proc(5): the highest is counted from here on.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let begun = Instant::now();
        let read = read_content(&content);
        let (took, highest) = (begun.elapsed(), resident());
        println!("{name}: {} ms, {} MiB", took.as_millis(), highest >> 20);
        assert!(took < TIME, "{name}: {took:?}");
        assert!(highest < MEMORY, "{name}: {} MiB", highest >> 20);
        match read {
            Ok(_) => assert_eq!(*expected, "", "{name}"),
            Err(ContentError::Invalid(problems)) => {
                assert!(problems.len() <= 20, "{name}: {}", problems.len());
                let message = &problems[0].message;
                assert!(
                    !expected.is_empty() && message.contains(expected),
                    "{name}: {message}"
                );
                assert!(message.len() < 2_000, "{name}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
}
