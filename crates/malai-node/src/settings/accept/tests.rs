//! What may stand in `[accept.<alias>]`, and what the check says of it.

use malai_cluster::{Admitted, Diagnostic, MachineId, check};

use super::*;

use crate::settings::Settings;

const MANAGER: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
const WEB01: &str = "e87aeds2fajaeu10tjdio5ppcdha410n6tu4665u7el9as9b7v80";

fn sections(source: &str) -> Sections {
    match Settings::parse("malai.toml", source) {
        Ok(settings) => settings.accept,
        Err(problems) => panic!("{problems:#?}"),
    }
}

fn shown(problems: &[Diagnostic]) -> Vec<String> {
    let line = |p: &Diagnostic| {
        let help = p.help.as_deref().unwrap_or_default();
        let (severity, line, column, width) = (p.severity, p.line, p.column, p.width);
        format!("{severity} {line}:{column}+{width}: {} | {help}", p.message)
    };
    problems.iter().map(line).collect()
}

fn alias(name: &str) -> ClusterAlias {
    ClusterAlias::parse(name).unwrap()
}

fn cluster() -> Cluster {
    let text = format!(
        "[cluster_manager]\nid52 = \"{MANAGER}\"\n[machine.web01]\nid52 = \"{WEB01}\"\nallow_from = \"*\"\n[group.admins]\nmembers = \"web01\"\n"
    );
    check("cluster.toml", &text).cluster.unwrap()
}

#[test]
fn strings_and_arrays_say_the_same() {
    let text = sections("[accept.staging]\nfrom = \" admins , web01 \"\nusers = 'a,b'\n");
    let array = sections("[accept.staging]\nfrom = [\"admins\", 'web01']\nusers = [\"a\",\"b\"]");
    let (text, array) = (&text.all[&alias("staging")], &array.all[&alias("staging")]);
    assert_eq!(text.accept, array.accept);
    assert_eq!(text.accept.from().unwrap().len(), 2);
    assert_eq!(text.accept.users().unwrap().len(), 2);
    for nobody in ["from = []", "from = ''", "from = ' '"] {
        let sections = sections(&format!("[accept.staging]\n{nobody}\n"));
        let accept = &sections.all[&alias("staging")].accept;
        assert_eq!(accept.from(), Some(&[][..]), "{nobody}");
        assert_eq!(accept.users(), None);
    }
    let empty = sections("[accept.staging]\n");
    let accept = &empty.all[&alias("staging")].accept;
    let web01 = MachineId::parse(WEB01).unwrap();
    assert_eq!(accept.admits(&cluster(), &web01), Admitted::Unlimited);
}

#[test]
fn everything_wrong_is_reported_where_it_stands() {
    let source = "\
[accept]
plain = 3
[accept.Staging]
from = 1
[accept.staging]
form = \"*\"
users = \"Root,a b\"
from = [\"x\", 2, \"\", \"no_name\"]
[accept.prod]
from = \"a,,b\"
users = true
[acccept.x]
";
    let found = shown(&Settings::parse("malai.toml", source).unwrap_err());
    let starts = [
        "error 2:9+1: accept.plain must be a table",
        "error 3:9+7: \"Staging\" cannot be a cluster alias",
        "error 4:8+1: from must be a list",
        "error 6:1+4: unknown key \"form\" in [accept.staging] | did you mean from?",
        "error 7:10+4: \"Root\" cannot be a user name",
        "error 7:15+3: \"a b\" cannot be a user name",
        "error 8:14+1: an entry of from must be a string",
        "error 8:17+2: from has an empty entry",
        "error 8:21+9: \"no_name\" cannot be a machine name",
        "error 10:11+1: from has an empty entry",
        "error 11:9+4: users must be a list",
        "error 12:2+7: unknown key \"acccept\" in malai.toml | did you mean accept?",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
}

#[test]
fn a_mistyped_alias_is_an_error_and_a_future_one_is_not() {
    let sections = sections("[accept.stagin]\nfrom = []\n[accept.elsewhere]\nfrom = []\n");
    let found = shown(&sections.check_aliases(&[alias("staging"), alias("company")]));
    assert_eq!(
        found,
        [
            "warning 3:9+9: this home is in no cluster `elsewhere` | it takes effect when this home joins a cluster with that alias",
            "error 1:9+6: this home is in no cluster `stagin` | did you mean `staging`? If it is for a cluster that you will join, join it first",
        ]
    );
    let known = [alias("stagin"), alias("elsewhere")];
    assert_eq!(sections.check_aliases(&known), []);
    // Where the near one has a section of its own, nothing is open by mistake.
    let both = super::tests::sections("[accept.web]\nfrom = []\n[accept.web2]\nfrom = []\n");
    let found = both.check_aliases(&[alias("web")]);
    assert_eq!(found[0].severity, Severity::Warning, "{found:?}");
}

#[test]
fn names_that_the_cluster_does_not_have_accept_nobody() {
    let (other, own) = (
        "mlk9ubnvu8r1sk06j4tjb98njra0od5d2dglpm8gubbvg4glthng",
        WEB01,
    );
    let source = format!(
        "[accept.staging]\nfrom = \"admin,web01,*,{own},{other},else\"\nusers = \"root,no-such-user\"\n"
    );
    let sections = sections(&source);
    let found = shown(&sections.check_names(&alias("staging"), &cluster()));
    let starts = [
        "warning 2:9+5: cluster `staging` has no machine or group `admin` | did you mean `admins`? This entry accepts no one",
        "warning 2:76+52: cluster `staging` has no member with the id52",
        "warning 2:129+4: cluster `staging` has no machine or group `else`",
        "warning 3:15+12: there is no user `no-such-user` on this computer",
    ];
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
    // There is one more for a user other than root: nothing can run here.
    assert!(found.len() >= starts.len(), "{found:#?}");
    assert_eq!(sections.check_names(&alias("other"), &cluster()), []);
}
