//! Targets as people write and mistype them.

use expect_test::{Expect, expect};

use super::*;
use crate::testing::*;

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
    refused("", expect![[""]]);
    refused("web01", expect![[""]]);
    refused("web01.company.org", expect![[""]]);
    refused(".company", expect![[""]]);
    refused("web01.", expect![[""]]);
    refused("Web01.company", expect![[""]]);
    refused("web01.../../evil", expect![[""]]);
    refused("web01.../evil", expect![[""]]);
    refused("-x.company", expect![[""]]);
    refused("web 01.company", expect![[""]]);
    refused("web01.company\n", expect![[""]]);
    refused("\u{1b}[2J.company", expect![[""]]);
    refused("@admins.company", expect![[""]]);
    refused("web*.company", expect![[""]]);
    refused("web01.company,web02.company", expect![[""]]);
    refused(&format!("{}.company", WEB01.to_uppercase()), expect![[""]]);
    refused(&format!("{}.company", "0".repeat(52)), expect![[""]]);
}

fn refused(text: &str, expected: Expect) {
    expected.assert_eq(&Target::parse(text).unwrap_err().to_string());
}
