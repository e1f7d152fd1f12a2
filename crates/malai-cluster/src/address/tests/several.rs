//! Lists, groups, patterns and ranges: what they lead to, and what is said of those that lead nowhere.

use super::super::{range, targets};
use super::*;
use crate::Cluster;

/// A cluster of eight machines, the manager not among them.
fn company() -> Cluster {
    let machine =
        |(name, byte): (&str, u8)| format!("[machine.{name}]\nid52 = \"{}\"\n", seed(byte).id());
    let names = [
        "web01", "web02", "web03", "web10", "db1", "db2", "boss2", "laptop",
    ];
    let machines: String = names.into_iter().zip(2..).map(machine).collect();
    cluster(&format!(
        "{machines}
        [group.web]
        members = \"web02,web01,web03\"
        [group.all]
        members = \"db,web,{}\"
        [group.db]
        members = \"db1,{}\"
        [group.people]
        members = \"{}\"
        ",
        seed(2).id(),
        MANAGER,
        seed(99).id()
    ))
}

fn resolve(text: &str) -> Result<Resolved, String> {
    let alias = |name: &str| {
        (name == "two").then(|| Targets::parse("web01.company,db1.company", |_| None).unwrap())
    };
    let targets = Targets::parse(text, alias).map_err(|error| error.to_string())?;
    let written = Targets::parse(&targets.to_string(), |_| None);
    assert_eq!(
        written.as_ref(),
        Ok(&targets),
        "{text}: without short names"
    );
    let find = |cluster: &ClusterRef| match cluster.to_string().as_str() {
        "company" | MANAGER => Ok((ClusterAlias::parse("company").unwrap(), company())),
        other => Err(format!("unknown cluster `{other}`")),
    };
    targets.resolve(find).map_err(|error| error.to_string())
}

#[track_caller]
fn leads(text: &str, expected: &str) {
    let resolved = resolve(text).unwrap();
    let names: Vec<_> = resolved
        .machines
        .iter()
        .map(|meant| meant.name.as_str())
        .collect();
    assert_eq!(names.join(" "), expected, "{text}");
    assert!(
        resolved
            .machines
            .iter()
            .all(|meant| meant.cluster.as_str() == "company")
    );
}

#[test]
fn lists_groups_patterns_and_ranges_lead_to_each_machine_once() {
    leads("web01.company", "web01");
    leads("db1.company, web01.company,db1.company", "db1 web01");
    leads("@web.company", "web01 web02 web03");
    leads("@all.company", "db1 web01 web02 web03");
    leads("web*.company", "web01 web02 web03 web10");
    leads("web0?.company", "web01 web02 web03");
    leads("*.company", "boss2 db1 db2 laptop web01 web02 web03 web10");
    leads("*2.company", "boss2 db2 web02");
    leads("web[01-03].company", "web01 web02 web03");
    leads("web[01,10].company,db[1-2].company", "web01 web10 db1 db2");
    leads(
        "db2.company,*b*.company,web03.company",
        "db2 boss2 db1 web01 web02 web03 web10",
    );
    leads(
        &format!("web01.{MANAGER},web01.company,{WEB01}.company"),
        "web01",
    );
    leads("two,laptop.company", "web01 db1 laptop");
    leads("@web.company,!web02.company", "web01 web03");
    leads("!web0[1-2].company,web0*.company", "web03");
    leads(
        "*.company,!two,!@web.company,!x*.company",
        "boss2 db2 laptop web10",
    );
}

#[test]
fn only_one_machine_that_is_written_out_is_plain() {
    let alias = |name: &str| match name {
        "one" => Targets::parse("web01.company", |_| None).ok(),
        "several" => Targets::parse("@web.company", |_| None).ok(),
        _ => None,
    };
    let plain = |text: &str| {
        Targets::parse(text, alias)
            .unwrap()
            .plain()
            .map(|target| target.to_string())
    };
    for text in ["web01.company", "one"] {
        assert_eq!(plain(text).unwrap(), "web01.company");
    }
    let one = Target::parse("web01.company").unwrap();
    assert_eq!(Targets::parse("one", alias), Ok(one.into()));
    for text in [
        "several",
        "@web.company",
        "web0?.company",
        "web[01].company",
        "web01.company,web01.company",
        "one,!web02.company",
    ] {
        assert_eq!(plain(text), None, "{text}");
    }
}

#[test]
fn members_that_are_no_machines_are_said_to_be_left_out() {
    let notes = resolve("@all.company,@db.company").unwrap().notes;
    assert_eq!(
        notes,
        [
            "the manager is in @all.company but is not a machine of the cluster: skipped",
            "the manager is in @db.company but is not a machine of the cluster: skipped"
        ]
    );
}

#[test]
fn what_leads_nowhere() {
    let texts = [
        "",
        " ",
        "web01.company,,db1.company",
        "web01.company,",
        "!web01.company",
        "web01.company,db1",
        "web01.company,db9.company",
        "web.company",
        "@wbe.company",
        "@something.company",
        "@laptop.company",
        "@people.company",
        "x*.company",
        "web01.staging,web01.company",
        "web01.*",
        "web*.company.org",
        "Web*.company",
        "@Web.company",
        "web[09-11].company",
        "web[11-09].company",
        "web[1-02].company",
        "web[abc].company",
        "web[1.company",
        "web]1.company",
        "web[1-99999][1-99999].company",
        "web[1-60000][1-60000].company",
        "@web.company,!web*.company",
        "\u{1b}[2J*.company",
    ];
    let said = texts.map(|text| resolve(text).unwrap_err() + "\n").concat();
    expect![[r#"
        the target is empty: a target is <machine>.<cluster>, as in web01.company
        the target is empty: a target is <machine>.<cluster>, as in web01.company
        `web01.company,,db1.company` has an empty entry: separate targets with a single comma
        `web01.company,` has an empty entry: separate targets with a single comma
        `!web01.company` only excludes machines: first say which machines to select, as in '@web.company,!web03.company'
        `db1` lacks its cluster: a target is <machine>.<cluster>, as in web01.company
        unknown machine `db9` in cluster `company`; did you mean `db1.company`?
        unknown machine `web` in cluster `company`; a group is written `@web.company`
        unknown group `@wbe` in cluster `company`; did you mean `@web.company`?
        unknown group `@something` in cluster `company`; it has @all, @db, @people, @web
        unknown group `@laptop` in cluster `company`; a machine is written `laptop.company`
        no member of `@people.company` is a machine
        no machine in cluster `company` matches `x*`; it has boss2, db1, db2, laptop, web01 and 3 more
        unknown cluster `staging`
        `web01.*` has a pattern for its cluster: only machine names may be patterns; list a target for each cluster, separated by commas
        `web*.company.org` has too many dots: a target is <machine>.<cluster>, as in web01.company
        `Web*` is not a valid pattern: it contains "W"; use only a-z, 0-9, "-", "*" and "?"
        "Web" cannot be a group name: it contains "W"; use only a-z, 0-9 and "-"
        unknown machine `web09` in cluster `company`; did you mean `web01.company`?
        `web[11-09]` has invalid brackets: write numbers and letters as in web[01-20,25] and db[a-c]
        `web[1-02]` has invalid brackets: write numbers and letters as in web[01-20,25] and db[a-c]
        `web[abc]` has invalid brackets: write numbers and letters as in web[01-20,25] and db[a-c]
        `web[1` has invalid brackets: write numbers and letters as in web[01-20,25] and db[a-c]
        `web]1` has invalid brackets: write numbers and letters as in web[01-20,25] and db[a-c]
        `web[1-99999][1-99999]` has invalid brackets: write numbers and letters as in web[01-20,25] and db[a-c]
        `web[1-60000][1-60000]` expands to more machines than a list may have
        the list excludes every machine that it selects
        `\x1b[2J*` has invalid brackets: write numbers and letters as in web[01-20,25] and db[a-c]
    "#]].assert_eq(&said);
}

#[test]
fn a_star_is_anything_and_a_question_mark_one_character() {
    for (pattern, name, expected) in [
        ("*", "", true),
        ("?", "", false),
        ("a*b*c", "abc", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-b-b", false),
        ("*aab", "aaaab", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("**x", "x", true),
        ("a", "ab", false),
        ("a*****************b", &"a".repeat(63), false),
    ] {
        assert_eq!(
            targets::matches(pattern, name),
            expected,
            "{pattern} {name}"
        );
    }
}

#[test]
fn what_is_written_short_is_read_again() {
    for (names, short) in [
        (&["web01", "web02", "web03"][..], "web[01-03]"),
        (
            &["web01", "web03", "db1", "web02"],
            "web[01,03], db1, web02",
        ),
        (&["web8", "web9", "web10", "web12"], "web[8-10,12]"),
        (&["web09", "web10", "web11", "web100"], "web[09-11,100]"),
        (&["web", "web1", "web2"], "web, web[1-2]"),
        (&["laptop"], "laptop"),
        (&[], ""),
    ] {
        assert_eq!(compress_names(names), short);
        let read: Vec<_> = short
            .split(", ")
            .filter(|word| !word.is_empty())
            .flat_map(|word| range::expand(word).unwrap())
            .collect();
        assert_eq!(read, names);
    }
}
