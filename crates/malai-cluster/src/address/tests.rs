//! Targets as people write and mistype them.

use expect_test::{Expect, expect};

use super::*;
use crate::testing::*;

mod several;

#[test]
fn targets() {
    for text in [
        "web01.company".to_owned(),
        format!("{WEB01}.company"),
        format!("web01.{MANAGER}"),
        format!("{WEB01}.{MANAGER}"),
    ] {
        let target = Target::parse(&text).unwrap();
        assert_eq!(target.to_string(), text);
        assert_eq!(
            matches!(target.machine, MachineRef::Id(_)),
            text.starts_with(WEB01)
        );
        assert_eq!(
            matches!(target.cluster, ClusterRef::Id(_)),
            text.ends_with(MANAGER)
        );
    }
}

#[test]
fn what_is_no_target() {
    refused(
        "",
        expect!["the target is empty: a target is <machine>.<cluster>, as in web01.company"],
    );
    refused(
        "web01",
        expect!["`web01` lacks its cluster: a target is <machine>.<cluster>, as in web01.company"],
    );
    refused(
        "web01.company.org",
        expect![
            "`web01.company.org` has too many dots: a target is <machine>.<cluster>, as in web01.company"
        ],
    );
    refused(
        ".company",
        expect![[r#""" cannot be a machine name: it is empty"#]],
    );
    refused(
        "web01.",
        expect![[r#""" cannot be a cluster alias: it is empty"#]],
    );
    refused(
        "Web01.company",
        expect![[
            r#""Web01" cannot be a machine name: it contains "W"; use only a-z, 0-9 and "-""#
        ]],
    );
    refused(
        "web01.../../evil",
        expect![
            "`web01.../../evil` has too many dots: a target is <machine>.<cluster>, as in web01.company"
        ],
    );
    refused(
        "web01.../evil",
        expect![
            "`web01.../evil` has too many dots: a target is <machine>.<cluster>, as in web01.company"
        ],
    );
    refused(
        "-x.company",
        expect![[r#""-x" cannot be a machine name: it may not start or end with "-""#]],
    );
    refused(
        "web 01.company",
        expect![[
            r#""web 01" cannot be a machine name: it contains " "; use only a-z, 0-9 and "-""#
        ]],
    );
    refused(
        "web01.company\n",
        expect![[
            r#""company\n" cannot be a cluster alias: it contains "\n"; use only a-z, 0-9 and "-""#
        ]],
    );
    refused(
        "\u{1b}[2J.company",
        expect![[
            r#"`\x1b[2J.company` may match several machines: name one machine here, as in web01.company"#
        ]],
    );
    refused(
        "@admins.company",
        expect![
            "`@admins.company` may match several machines: name one machine here, as in web01.company"
        ],
    );
    refused(
        "web*.company",
        expect![
            "`web*.company` may match several machines: name one machine here, as in web01.company"
        ],
    );
    refused(
        "web01.company,web02.company",
        expect![
            "`web01.company,web02.company` may match several machines: name one machine here, as in web01.company"
        ],
    );
    refused(
        &format!("{}.company", WEB01.to_uppercase()),
        expect!["an id52 is lowercase: write it in small letters"],
    );
    refused(
        &format!("{}.company", "0".repeat(52)),
        expect![
            "this is a weak key, whose signatures anyone can forge: use one that `malai machine init` made"
        ],
    );
}

fn refused(text: &str, expected: Expect) {
    expected.assert_eq(&Target::parse(text).unwrap_err().to_string());
}
