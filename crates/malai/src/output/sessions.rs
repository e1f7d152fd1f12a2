//! The list of `malai sessions`.

use std::fmt::Write;
use std::time::Duration;

use malai_cluster::escape;
use malai_wire::action::RecordedAction;
use malai_wire::sessions::{ElsewhereFacts, HereFacts, Path, SessionFacts, SessionsFacts};

use crate::output::duration;

/// The whole list, with a newline at its end.
pub fn render(facts: &SessionsFacts) -> String {
    let mut out = String::new();
    if facts.here.is_empty() {
        out.push_str("Nothing runs here.\n");
    } else {
        out.push_str("Running here:\n");
    }
    for session in &facts.here {
        here(&mut out, session);
    }
    if !facts.elsewhere.is_empty() {
        out.push_str("Running elsewhere, for command lines of this computer:\n");
    }
    for session in &facts.elsewhere {
        elsewhere(&mut out, session);
    }
    out
}

fn here(out: &mut String, facts: &HereFacts) {
    let session = &facts.session;
    let who = match &facts.machine {
        Some(machine) => escape(machine),
        None => facts.peer.short(),
    };
    let cluster = escape(&session.cluster);
    head(out, session, &format!("{who}.{cluster} runs"));
    let (user, rule) = (escape(&facts.user), escape(&facts.rule));
    let _ = writeln!(out, "       as {user} · by {rule}");
    tail(out, session, "from");
}

fn elsewhere(out: &mut String, facts: &ElsewhereFacts) {
    head(
        out,
        &facts.session,
        &format!("on {}", escape(&facts.target)),
    );
    tail(out, &facts.session, "to");
}

fn head(out: &mut String, session: &SessionFacts, who: &str) {
    let what = match session.action {
        RecordedAction::Shell => "a shell".to_owned(),
        _ => session.action.shown(),
    };
    let _ = writeln!(out, "{:5}  {who} {what}", session.id);
}

fn tail(out: &mut String, session: &SessionFacts, preposition: &str) {
    let address = session.address.as_deref().map(escape).unwrap_or_default();
    let path = match session.path {
        Path::Here => "here".to_owned(),
        Path::Direct => format!("direct {preposition} {address}"),
        Path::Relayed => "through a relay".to_owned(),
        Path::Unknown => "no path at present".to_owned(),
    };
    let _ = writeln!(
        out,
        "       since {} ({}) · {path} · bytes in {}, out {}, err {}",
        session.since,
        duration::format(Duration::from_secs(session.seconds)),
        session.bytes_in,
        session.bytes_out,
        session.bytes_err,
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    fn shown(json: &str) -> String {
        super::render(&serde_json::from_str(json).expect(json))
    }

    #[test]
    fn each_session_with_its_way_and_nothing_that_a_terminal_obeys() {
        let id = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
        let since = r#""since":"2026-11-25T04:00:12.000Z""#;
        let json = format!(
            r#"{{"here":[
                {{"id":7,"cluster":"company",{since},"action":"exec","argv":["tail","-f","a b\u001b[2J"],"argv_left_out":2,"seconds":61,
                  "path":"direct","address":"10.0.0.2:28772","bytes_in":1,"bytes_out":2,"bytes_err":3,
                  "peer":"{id}","machine":"laptop","user":"web","rule":"machine.web01.allow_from: admins","news":1}},
                {{"id":8,"cluster":"company",{since},"action":"shell","seconds":7200,"path":"relayed","peer":"{id}","user":"w\nb"}},
                {{"id":9,"cluster":"company",{since},"action":"exec","argv":["x"],"seconds":180000,"path":"here","peer":"{id}"}}],
              "elsewhere":[
                {{"id":12345,"cluster":"company",{since},"action":"exec","argv":["top"],"target":"web02.company","path":"teleport"}}]}}"#
        );
        expect![[r#"
            Running here:
                7  laptop.company runs tail -f $'a b\x1b[2J' …(+2 arguments)
                   as web · by machine.web01.allow_from: admins
                   since 2026-11-25T04:00:12.000Z (1m 1s) · direct from 10.0.0.2:28772 · bytes in 1, out 2, err 3
                8  i66fo538….company runs a shell
                   as w\nb · by 
                   since 2026-11-25T04:00:12.000Z (2h) · through a relay · bytes in 0, out 0, err 0
                9  i66fo538….company runs x
                   as  · by 
                   since 2026-11-25T04:00:12.000Z (2d 2h) · here · bytes in 0, out 0, err 0
            Running elsewhere, for command lines of this computer:
            12345  on web02.company top
                   since 2026-11-25T04:00:12.000Z (0s) · no path at present · bytes in 0, out 0, err 0
        "#]].assert_eq(&shown(&json));
        assert_eq!(shown("{}"), "Nothing runs here.\n");
    }
}
