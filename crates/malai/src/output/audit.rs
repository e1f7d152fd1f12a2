//! A line of `malai audit` for each record.

use std::time::Duration;

use malai_cluster::escape;
use malai_wire::audit::{Event, Record, Request};

use crate::output::duration;

/// The record in one line, with its newline.
pub fn line(record: &Record) -> String {
    let time = record.time;
    let text = match &record.event {
        Event::Decision(decision) if decision.allowed => {
            let session = decision.session.unwrap_or_default();
            format!(
                "{} · as {} · {} · from {}",
                head(&decision.request, "allowed", &number(record, session)),
                escape(decision.user.as_deref().unwrap_or("?")),
                escape(decision.rule.as_deref().unwrap_or("?")),
                escape(&decision.request.from),
            )
        }
        Event::Decision(decision) => format!(
            "{} · {} · from {}",
            head(&decision.request, "refused", "-"),
            escape(decision.reason.as_deref().unwrap_or("?")),
            escape(&decision.request.from),
        ),
        Event::Start(start) => format!(
            "{} · as {}",
            head(&start.request, "started", &number(record, start.session)),
            escape(&start.user),
        ),
        Event::End(end) => {
            let how = match (end.exit, end.signal) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "no exit code".to_owned(),
            };
            format!(
                "{} · {how} · {} · {} · bytes in {}, out {}, err {}",
                head(&end.request, "ended", &number(record, end.session)),
                escape(&end.why),
                duration::format(Duration::from_millis(end.duration_ms)),
                end.bytes_in,
                end.bytes_out,
                end.bytes_err,
            )
        }
        Event::Strangers(strangers) => format!(
            "{} - {:7} {} connections of unknown keys",
            escape(&strangers.cluster),
            "refused",
            strangers.refused,
        ),
        Event::Lost(lost) => format!(
            "- - {:7} {} records could not be written since {}: {}",
            "missing",
            lost.records,
            lost.since,
            escape(&lost.why),
        ),
        Event::Other => "- - unknown an event of a newer malai; --json shows it".to_owned(),
    };
    format!("{time} {text}\n")
}

/// Cluster, who, what happened, the session, the command.
fn head(request: &Request, what: &str, session: &str) -> String {
    let who = match &request.machine {
        Some(machine) => escape(machine),
        None => request.peer.short(),
    };
    format!(
        "{} {who} {what:7} {session} {}",
        escape(&request.cluster),
        request.action.shown()
    )
}

/// A session's number counts within one run of malai: the run's beginning is shown before it.
fn number(record: &Record, session: u64) -> String {
    let run: String = record.instance.chars().take(4).collect();
    format!("{}/{session}", escape(&run))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use malai_wire::audit::Record;

    #[test]
    fn one_line_each_and_nothing_that_a_terminal_obeys() {
        let id = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";
        let request = format!(
            r#""cluster":"company","cluster_id":"{id}","revision":7,"peer":"{id}","machine":"laptop","from":"127.0.0.1:4000","action":"exec","argv":["ps","\u001b[2J x",{{"hex":"ff0a"}},{{"text":"aa","of":9000}}],"argv_left_out":2"#
        );
        let own = format!(
            r#""cluster":"c","cluster_id":"{id}","peer":"{id}","from":"here","action":"exec","argv":["x"]"#
        );
        let lines = [
            format!(
                r#""event":"decision",{request},"allowed":true,"rule":"machine.web01.allow_from: admins → ops","user":"web","session":3"#
            ),
            format!(r#""event":"decision",{own},"allowed":false,"reason":"no\nrule""#),
            format!(r#""event":"start",{request},"user":"web","session":3"#),
            format!(
                r#""event":"end",{request},"user":"web","session":3,"exit":0,"why":"the command ended","bytes_in":1,"bytes_out":2,"bytes_err":3,"duration_ms":61005"#
            ),
            format!(
                r#""event":"end",{own},"user":"web","session":4,"signal":9,"why":"w","bytes_in":0,"bytes_out":0,"bytes_err":0,"duration_ms":7"#
            ),
            r#""event":"strangers","cluster":"company","refused":17"#.to_owned(),
            r#""event":"lost","records":2,"since":"2026-03-25T00:00:00Z","why":"no room""#
                .to_owned(),
            r#""event":"moon""#.to_owned(),
        ];
        let shown: String = lines
            .iter()
            .map(|line| {
                let line = format!(
                    r#"{{"time":"2026-03-26T00:00:00.000Z",{line},"instance":"00112233"}}"#
                );
                super::line(&Record::from_line(line.as_bytes()).expect(&line))
            })
            .collect();
        expect![[r#"
            2026-03-26T00:00:00.000Z company laptop allowed 0011/3 ps $'\x1b[2J x' $'\xff\n' aa…(9000 bytes) …(+2 arguments) · as web · machine.web01.allow_from: admins → ops · from 127.0.0.1:4000
            2026-03-26T00:00:00.000Z c i66fo538… refused - x · no\nrule · from here
            2026-03-26T00:00:00.000Z company laptop started 0011/3 ps $'\x1b[2J x' $'\xff\n' aa…(9000 bytes) …(+2 arguments) · as web
            2026-03-26T00:00:00.000Z company laptop ended   0011/3 ps $'\x1b[2J x' $'\xff\n' aa…(9000 bytes) …(+2 arguments) · exit code 0 · the command ended · 1m 1s · bytes in 1, out 2, err 3
            2026-03-26T00:00:00.000Z c i66fo538… ended   0011/4 x · signal 9 · w · 7ms · bytes in 0, out 0, err 0
            2026-03-26T00:00:00.000Z company - refused 17 connections of unknown keys
            2026-03-26T00:00:00.000Z - - missing 2 records could not be written since 2026-03-25T00:00:00.000Z: no room
            2026-03-26T00:00:00.000Z - - unknown an event of a newer malai; --json shows it
        "#]].assert_eq(&shown);
    }
}
