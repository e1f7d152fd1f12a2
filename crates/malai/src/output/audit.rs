//! The lines of `malai audit`.

use std::time::Duration;

use malai_cluster::{escape, without_error_numbers};
use malai_wire::action::RecordedAction;
use malai_wire::argument::Argument;
use malai_wire::audit::{Change, Event, Record, Request};

use crate::output::duration;
use crate::output::text::counted;

/// A record as one line, including its newline.
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
        // It has neither an exit code nor an error output.
        Event::End(end) if matches!(end.request.action, RecordedAction::Connect { .. }) => format!(
            "{} · {} · {} · bytes in {}, out {}",
            head(&end.request, "ended", &number(record, end.session)),
            escape(&without_error_numbers(&end.why)),
            duration::format(Duration::from_millis(end.duration_ms)),
            end.bytes_in,
            end.bytes_out,
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
                escape(&without_error_numbers(&end.why)),
                duration::format(Duration::from_millis(end.duration_ms)),
                end.bytes_in,
                end.bytes_out,
                end.bytes_err,
            )
        }
        Event::File(file) => {
            let name = |name: &Option<Argument>| name.as_ref().map(Argument::shown);
            let named = match (name(&file.path), name(&file.to)) {
                (Some(path), Some(to)) => format!("{path} → {to}"),
                (Some(path), None) => path,
                (None, _) => "(a file)".to_owned(),
            };
            let bytes = file.bytes.map(|bytes| format!(" · {bytes} bytes"));
            format!(
                "{} {named}{} · as {}",
                before(
                    &file.request,
                    done(file.change),
                    &number(record, file.session)
                ),
                bytes.unwrap_or_default(),
                escape(&file.user),
            )
        }
        Event::Files(files) => format!(
            "{} and {} records of files that are not named here · bytes read {}, written {} · as {}",
            before(&files.request, "files", &number(record, files.session)),
            files.left_out,
            files.bytes_read,
            files.bytes_written,
            escape(&files.user),
        ),
        Event::Invitation(asked) => {
            let cluster = escape(&asked.cluster);
            let (peer, from) = (asked.peer.short(), escape(&asked.from));
            let invitation = escape(&asked.invitation);
            match (&asked.machine, &asked.reason) {
                (Some(name), _) if asked.allowed => format!(
                    "{cluster} {peer} joins   - as {} · by the invitation {invitation} · from {from}",
                    escape(name)
                ),
                (_, reason) => format!(
                    "{cluster} {peer} refused - the invitation {invitation} · {} · from {from}",
                    escape(reason.as_deref().unwrap_or("?"))
                ),
            }
        }
        Event::Strangers(strangers) => format!(
            "{} - {:7} {} of unknown keys",
            escape(&strangers.cluster),
            "refused",
            counted(
                usize::try_from(strangers.refused).unwrap_or(usize::MAX),
                "connection"
            ),
        ),
        Event::Lost(lost) => format!(
            "- - {:7} {} could not be written since {}: {}",
            "missing",
            counted(
                usize::try_from(lost.records).unwrap_or(usize::MAX),
                "record"
            ),
            lost.since,
            escape(&without_error_numbers(&lost.why)),
        ),
        Event::Other => "- - unknown an event of a newer malai; --json shows it".to_owned(),
    };
    format!("{time} {text}\n")
}

/// Cluster, caller, what happened, session, action.
fn head(request: &Request, what: &str, session: &str) -> String {
    let before = before(request, what, session);
    format!("{before} {}", request.action.shown())
}

/// Cluster, who, what happened, the session.
fn before(request: &Request, what: &str, session: &str) -> String {
    let who = match &request.machine {
        Some(machine) => escape(machine),
        None => request.peer.short(),
    };
    format!("{} {who} {what:7} {session}", escape(&request.cluster))
}

/// What was done to a file, as a word.
fn done(change: Change) -> &'static str {
    match change {
        Change::Opened => "opened",
        Change::Created => "created",
        Change::Written => "written",
        Change::Read => "read",
        Change::Removed => "removed",
        Change::Renamed => "renamed",
        Change::Linked => "linked",
        Change::Changed => "changed",
        Change::Refused => "refused",
        Change::Other => "unknown",
    }
}

/// A session's number. It counts within one run of malai, so the start of the run's id comes before it.
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
        let sftp = own.replace(r#""exec","argv":["x"]"#, r#""subsystem","name":"sftp""#);
        let connect = own.replace(r#""exec","argv":["x"]"#, r#""connect","to":"db""#);
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
            format!(
                r#""event":"file",{sftp},"user":"web","session":5,"change":"renamed","path":{{"hex":"61e9"}},"to":"b c""#
            ),
            format!(
                r#""event":"file",{sftp},"user":"web","session":5,"change":"written","path":"/x","bytes":17"#
            ),
            format!(
                r#""event":"files",{sftp},"user":"web","session":5,"left_out":3,"bytes_read":1,"bytes_written":2"#
            ),
            format!(
                r#""event":"end",{connect},"user":"web","session":6,"why":"the connection ended","bytes_in":1,"bytes_out":2,"bytes_err":0,"duration_ms":7"#
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
            2026-03-26T00:00:00.000Z c i66fo538… renamed 0011/5 $'a\xe9' → 'b c' · as web
            2026-03-26T00:00:00.000Z c i66fo538… written 0011/5 /x · 17 bytes · as web
            2026-03-26T00:00:00.000Z c i66fo538… files   0011/5 and 3 records of files that are not named here · bytes read 1, written 2 · as web
            2026-03-26T00:00:00.000Z c i66fo538… ended   0011/6 (a connection to db) · the connection ended · 7ms · bytes in 1, out 2
            2026-03-26T00:00:00.000Z company - refused 17 connections of unknown keys
            2026-03-26T00:00:00.000Z - - missing 2 records could not be written since 2026-03-25T00:00:00.000Z: no room
            2026-03-26T00:00:00.000Z - - unknown an event of a newer malai; --json shows it
        "#]].assert_eq(&shown);
    }
}
