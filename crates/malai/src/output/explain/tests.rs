//! What the command line's own tests do not reach.

use expect_test::expect;
use malai_node::ConfigurationUsed;

use super::*;

fn placed(name: &str, file: &str, line: Option<usize>) -> Located {
    Located {
        name: name.to_owned(),
        file: file.into(),
        line,
    }
}

fn why(answer: Answer) -> Explanation {
    Explanation {
        allowed: answer.allowed,
        who: "@all".to_owned(),
        target: "web01.company".to_owned(),
        folder: None,
        command: Some(vec!["ls".to_owned()]),
        service: None,
        configuration: ConfigurationUsed {
            file: "/h/machine.toml".into(),
            revision: Some(3),
            unpublished: false,
        },
        target_is_here: true,
        answers: vec![answer],
    }
}

fn answer(members: usize) -> Answer {
    Answer {
        members: (0..members).map(|m| format!("m{m}")).collect(),
        allowed: true,
        rule: Some(placed("machine.web01.allow_from", "/h/a\u{1b}b", Some(9))),
        entry: Some("*".to_owned()),
        groups: Vec::new(),
        user: None,
        own_user: true,
        runs: vec!["ls".to_owned()],
        accepted: None,
        refusal: None,
    }
}

#[test]
fn many_members_and_odd_paths() {
    expect![[r#"
        ✅ allowed: m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15, m16, m17, m18, m19 and 3 more may run `ls` on web01.company
           rule     machine.web01.allow_from: *
           at       /h/a\x1bb:9
           as       the user that the daemon runs as there
    "#]]
    .assert_eq(&render(&why(answer(23))));
}

#[test]
fn a_user_that_the_owner_does_not_accept() {
    let rule = "malai.toml accept.company.users".to_owned();
    let user = "user `web`".to_owned();
    let mut refused = answer(1);
    refused.allowed = false;
    refused.user = Some("web".to_owned());
    refused.own_user = false;
    refused.accepted = Some(placed(&rule, "/h/malai.toml", Some(2)));
    refused.refusal = Some(Reason::Policy(Refusal::UserNotAccepted { rule, user }));
    expect![[r#"
        ❌ refused: m0 may not run `ls` on web01.company
           rule     machine.web01.allow_from: *
           at       /h/a\x1bb:9
           as       user web
           because  malai.toml accept.company.users on that computer does not accept commands that run as user `web`
           at       /h/malai.toml:2
    "#]]
    .assert_eq(&render(&why(refused)));
}
