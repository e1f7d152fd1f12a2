//! Lines: golden ones, there and back, bounded, safe for terminals, and torn ones.

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::argument::Argument;
use crate::peer::exec::Action;

const ID: &str = "i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60";

fn request(argv: &[&[u8]], arguments: bool) -> Request {
    let argv: Vec<Vec<u8>> = argv.iter().map(|argument| argument.to_vec()).collect();
    Request {
        cluster: "company".into(),
        cluster_id: ClusterId::parse(ID).unwrap(),
        revision: Some(7),
        peer: ID.parse().unwrap(),
        machine: Some("laptop".into()),
        from: "127.0.0.1:4000".into(),
        action: RecordedAction::new(&Action::Exec(argv), arguments),
    }
}

fn record(event: Event) -> Record {
    Record {
        time: Timestamp(1_774_483_200_000),
        event,
        instance: "00112233445566778899aabbccddeeff".into(),
    }
}

fn end(request: Request, why: &str) -> Record {
    record(Event::End(End {
        request,
        user: "web".into(),
        session: 3,
        exit: Some(0),
        signal: None,
        why: why.into(),
        bytes_in: 1,
        bytes_out: 2,
        bytes_err: 3,
        duration_ms: 1500,
    }))
}

fn text(record: &Record) -> String {
    String::from_utf8(record.to_line()).unwrap()
}

fn there_and_back(record: &Record) {
    let line = record.to_line();
    let (whole, rest) = line.split_at(line.len() - 1);
    assert_eq!(rest, b"\n");
    assert!(!whole.contains(&b'\n') && line.len() <= MAX_LINE && line.starts_with(START));
    assert_eq!(Record::from_line(whole).as_ref(), Ok(record));
    assert_eq!(Record::recover(whole), (Some(record.clone()), false));
}

#[test]
fn lines_as_they_are_written() {
    let asked = request(&[b"ps", b"a b", b"\xff\n", "ä\u{9b}".as_bytes()], true);
    let allowed = record(Event::Decision(Decision {
        request: asked.clone(),
        allowed: true,
        rule: Some("machine.web01.allow_from: *".into()),
        reason: None,
        user: Some("web".into()),
        session: Some(3),
    }));
    expect![[r#"
        {"time":"2026-03-26T00:00:00.000Z","event":"decision","cluster":"company","cluster_id":"i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60","revision":7,"peer":"i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60","machine":"laptop","from":"127.0.0.1:4000","action":"exec","argv":["ps","a b",{"hex":"ff0a"},"ä\u009b"],"allowed":true,"rule":"machine.web01.allow_from: *","user":"web","session":3,"instance":"00112233445566778899aabbccddeeff"}
    "#]]
    .assert_eq(&text(&allowed));
    there_and_back(&allowed);
    let ended = end(request(&[b"mysql", b"-psecret"], false), "it ended");
    expect![[r#"
        {"time":"2026-03-26T00:00:00.000Z","event":"end","cluster":"company","cluster_id":"i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60","revision":7,"peer":"i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60","machine":"laptop","from":"127.0.0.1:4000","action":"exec","argv":["mysql"],"argv_left_out":1,"user":"web","session":3,"exit":0,"why":"it ended","bytes_in":1,"bytes_out":2,"bytes_err":3,"duration_ms":1500,"instance":"00112233445566778899aabbccddeeff"}
    "#]]
    .assert_eq(&text(&ended));
    there_and_back(&ended);
    for event in [
        Event::Strangers(Strangers {
            cluster: "company".into(),
            refused: 9,
        }),
        Event::Lost(Lost {
            records: 4,
            since: Timestamp(5),
            why: "no room".into(),
        }),
        Event::Start(Start {
            request: asked,
            user: "web".into(),
            session: u64::MAX,
        }),
    ] {
        there_and_back(&record(event));
    }
}

#[test]
fn events_and_keys_of_newer_versions_are_no_damage() {
    let line = br#"{"time":"2026-03-26T00:00:00.000Z","event":"moon","phase":[1],"instance":"0"}"#;
    assert_eq!(Record::from_line(line).unwrap().event, Event::Other);
    let known = text(&end(request(&[b"x"], true), "y"));
    let more = known.replacen("\"why\"", "\"more\":{\"a\":[1,2]},\"why\"", 1);
    assert_eq!(
        Record::from_line(more.trim_end().as_bytes()),
        Record::from_line(known.trim_end().as_bytes())
    );
}

#[test]
fn long_arguments_are_cut_and_counted() {
    let long = vec![b'a'; 5000];
    let many: Vec<&[u8]> = std::iter::once(&b"echo"[..])
        .chain(std::iter::repeat_n(&b"word"[..], 5000))
        .collect();
    let listed = |request: &Request| match request.action.clone() {
        RecordedAction::Exec {
            argv,
            argv_left_out,
        } => (argv, argv_left_out),
        other => panic!("{other:?}"),
    };
    let long_one = request(&[b"echo", &long, b"rest", b"more"], true);
    let (cut, left_out) = listed(&long_one);
    assert_eq!(cut[0], Argument::Text("echo".into()));
    match &cut[1] {
        Argument::Cut { text, of: 5000 } => assert!(text.len() > 1900, "{}", text.len()),
        other => panic!("{other:?}"),
    }
    assert_eq!((cut.len(), left_out), (2, 2));
    let many_words = request(&many, true);
    let (counted, left_out) = listed(&many_words);
    assert_eq!(counted.len() as u64 + left_out, 5001);
    assert!(counted.len() > 250);
    let bytes = request(&[&vec![0xff; 5000]], true);
    let (binary, _) = listed(&bytes);
    match &binary[0] {
        Argument::Bytes {
            hex,
            of: Some(5000),
        } => assert!(hex.len() > 1900),
        other => panic!("{other:?}"),
    }
    for request in [long_one, many_words, bytes] {
        there_and_back(&end(request, "w"));
    }
}

#[test]
fn every_way_of_tearing_is_seen_and_swallows_nothing() {
    let torn = end(request(&[b"a", b"b\\\"{\"time\":\"x", b"\xfe"], true), "w").to_line();
    let next = end(request(&[b"next"], true), "w");
    let whole = next.to_line();
    for length in 1..torn.len() - 1 {
        let part = &torn[..length];
        assert_eq!(Record::recover(part), (None, true), "{length}");
        // Even where nobody saw to a fresh line.
        let line = [part, &whole[..whole.len() - 1]].concat();
        assert_eq!(
            Record::recover(&line),
            (Some(next.clone()), true),
            "{length}"
        );
    }
    for junk in [
        &b"\0\0\0\0"[..],
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b"{\"time\":\"",
    ] {
        assert_eq!(Record::recover(junk), (None, true));
    }
}

#[test]
fn arguments_for_people() {
    let shown = |argument: &[u8]| Argument::list(&[argument.to_vec()], true).0[0].shown();
    for (argument, expected) in [
        (&b"plain-1.2/x=y"[..], "plain-1.2/x=y"),
        (b"", "''"),
        (b"a b", "'a b'"),
        (b"it's", r"'it'\''s'"),
        (b"\x1b[2J", r"$'\x1b[2J'"),
        (b"a\xffb", r"$'a\xffb'"),
        ("ä".as_bytes(), "ä"),
    ] {
        assert_eq!(shown(argument), expected);
    }
    assert!(shown(&[b'x'; 9000]).ends_with("x…(9000 bytes)"));
}

proptest! {
    #[test]
    fn lines_are_bounded_safe_and_come_back(
        argv in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..12),
        words in prop::collection::vec("\\PC{0,300}|[\\x00-\\x1f\\u{202e}\"\\\\]{0,900}", 0..8),
        why in "\\PC{0,900}|[\\x00-\\x1f\\u{9b}\"]{0,900}",
    ) {
        let words = words.into_iter().map(String::into_bytes);
        let argv: Vec<Vec<u8>> = argv.into_iter().chain(words).collect();
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        let record = end(request(&argv, true), &why);
        let line = record.to_line();
        prop_assert!(line.len() <= MAX_LINE, "{}", line.len());
        let text = std::str::from_utf8(&line).unwrap();
        prop_assert!(!text.trim_end_matches('\n').contains(malai_cluster::is_unsafe));
        let read = Record::from_line(&line[..line.len() - 1]).unwrap();
        prop_assert_eq!(read, record.bounded());
    }

    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..300)) {
        Record::recover(&line);
    }
}

#[test]
fn files_are_named_within_bounds() {
    let mut asked = request(&[b"x"], true);
    asked.action = RecordedAction::new(&Action::Subsystem("sftp".into()), true);
    let file = |request: &Request, path: &[u8], to: Option<&[u8]>| {
        record(Event::File(FileRecord {
            request: request.clone(),
            user: "web".into(),
            session: u64::MAX,
            change: Change::Renamed,
            path: Some(recorded_name(path)),
            to: to.map(recorded_name),
            bytes: None,
        }))
    };
    expect![[r#"
        {"time":"2026-03-26T00:00:00.000Z","event":"file","cluster":"company","cluster_id":"i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60","revision":7,"peer":"i66fo538lfl5ombdf6tcdbrabp4hmp9asv7nrffuc2im13ct4q60","machine":"laptop","from":"127.0.0.1:4000","action":"subsystem","name":"sftp","user":"web","session":18446744073709551615,"change":"renamed","path":{"hex":"61e9"},"to":"b c","instance":"00112233445566778899aabbccddeeff"}
    "#]]
    .assert_eq(&text(&file(&asked, b"a\xe9", Some(b"b c"))));
    for long in [vec![b'a'; 4096], vec![0xff; 4096], vec![1; 4096]] {
        there_and_back(&file(&asked, &long, Some(&long)));
        // A long argument list makes room for the names.
        let argv = request(&[&long, &long], true);
        assert!(file(&argv, &long, Some(&long)).to_line().len() <= MAX_LINE);
    }
    there_and_back(&record(Event::Files(UnnamedFiles {
        request: asked,
        user: "web".into(),
        session: 3,
        left_out: 4,
        bytes_read: 5,
        bytes_written: 6,
    })));
}
