//! Tests of the server, with a client that talks to it through memory.

use std::io::Cursor;

use malai_wire::file_report::FileReport;

use super::*;

fn below(folder: Option<PathBuf>) -> Served {
    Served {
        folder,
        read_only: false,
        reports: None,
    }
}

/// Sends packets, closes, and returns the answers in the order of their ids.
fn answers(packets: &[Vec<u8>], folder: Option<PathBuf>) -> Vec<(u8, u32, Vec<u8>)> {
    let mut found = unsorted(packets, folder);
    found.sort_by_key(|(_, id, _)| *id);
    found
}

/// Sends packets, closes, and returns the answers: type, id, body.
fn unsorted(packets: &[Vec<u8>], folder: Option<PathBuf>) -> Vec<(u8, u32, Vec<u8>)> {
    sent(packets, below(folder))
}

/// The same of what is served.
fn sent(packets: &[Vec<u8>], served: Served) -> Vec<(u8, u32, Vec<u8>)> {
    let input: Vec<u8> = packets
        .iter()
        .flat_map(|packet| [&(packet.len() as u32).to_be_bytes()[..], packet].concat())
        .collect();
    let mut output = Vec::new();
    serve(Cursor::new(input), &mut output, served).unwrap();
    let mut found = Vec::new();
    let mut left = &output[..];
    while let Some((length, rest)) = left.split_first_chunk::<4>() {
        let (packet, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let id = u32::from_be_bytes(packet[1..5].try_into().unwrap());
        found.push((packet[0], id, packet[5..].to_vec()));
        left = rest;
    }
    found
}

fn packet(kind: u8, id: u32, strings: &[&[u8]], rest: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(id.to_be_bytes());
    for string in strings {
        out.extend((string.len() as u32).to_be_bytes());
        out.extend(*string);
    }
    out.extend(rest);
    out
}

#[test]
fn a_file_is_written_read_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("caf\u{e9}");
    use std::os::unix::ffi::OsStrExt;
    let name = path.as_os_str().as_bytes();
    let handle = 0u32.to_be_bytes();
    let open = [0x0bu32.to_be_bytes(), 0u32.to_be_bytes()].concat();
    let write = [&5u64.to_be_bytes()[..], &2u32.to_be_bytes(), b"hi"].concat();
    let read = |offset: u64| [&offset.to_be_bytes()[..], &100u32.to_be_bytes()].concat();
    let found = answers(
        &[
            packet(3, 1, &[name], &open),
            packet(6, 2, &[&handle], &write),
            packet(5, 3, &[&handle], &read(5)),
            packet(5, 4, &[&handle], &read(7)),
            packet(4, 5, &[&handle], b""),
            packet(4, 6, &[&handle], b""),
            packet(13, 7, &[name], b""),
            packet(17, 8, &[name], b""),
            packet(99, 9, &[], b""),
        ],
        None,
    );
    let status = |code: StatusCode| Response::Status(code).encode(0)[9..].to_vec();
    assert_eq!(
        found[0],
        (102, 1, [&4u32.to_be_bytes()[..], &handle].concat())
    );
    assert_eq!(found[1], (101, 2, status(StatusCode::Ok)));
    assert_eq!(
        found[2],
        (103, 3, [&2u32.to_be_bytes()[..], b"hi"].concat())
    );
    assert_eq!(found[3], (101, 4, status(StatusCode::Eof)));
    assert_eq!(found[4], (101, 5, status(StatusCode::Ok)));
    assert_eq!(found[5], (101, 6, status(StatusCode::NoSuchFile)));
    assert_eq!(found[6], (101, 7, status(StatusCode::Ok)));
    assert_eq!(found[7], (101, 8, status(StatusCode::NoSuchFile)));
    assert_eq!(found[8], (101, 9, status(StatusCode::Unsupported)));
    assert!(!path.exists());
}

/// Otherwise OpenSSH's scp truncates files.
#[test]
fn pieces_are_answered_in_the_order_in_which_they_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, vec![7; 3_000_000]).unwrap();
    use std::os::unix::ffi::OsStrExt;
    let open = [1u32.to_be_bytes(), 0u32.to_be_bytes()].concat();
    let handle = 0u32.to_be_bytes();
    let mut packets = vec![packet(3, 0, &[path.as_os_str().as_bytes()], &open)];
    // Large pieces, and small ones that finish sooner.
    packets.extend((1u32..400).map(|id| {
        let length: u32 = if id % 2 == 0 { 10 } else { 250_000 };
        packet(
            5,
            id,
            &[&handle],
            &[&0u64.to_be_bytes()[..], &length.to_be_bytes()].concat(),
        )
    }));
    let ids: Vec<u32> = unsorted(&packets, None)
        .iter()
        .map(|(_, id, _)| *id)
        .collect();
    assert_eq!(ids, (0..400).collect::<Vec<_>>());
}

#[test]
fn a_folder_by_name_is_all_there_is() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(outer.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("up")).unwrap();
    let none = [0u8; 4];
    let open = [1u32.to_be_bytes(), 0u32.to_be_bytes()].concat();
    let found = answers(
        &[
            packet(3, 1, &[b"up"], &open),
            packet(3, 2, &[b"/../secret"], &open),
            packet(14, 3, &[b"../made"], &none),
            packet(14, 4, &[b"/made"], &none),
            packet(18, 5, &[b"up", b"../moved"], b""),
            packet(16, 6, &[b"/a/../../b"], b""),
        ],
        Some(folder.clone()),
    );
    let kinds: Vec<u8> = found.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, [101, 101, 101, 101, 101, 104]);
    let code = |index: usize| u32::from_be_bytes(found[index].2[..4].try_into().unwrap());
    assert_eq!([0, 1, 2, 3, 4].map(code), [3, 3, 3, 0, 3]);
    assert!(folder.join("made").is_dir() && !outer.path().join("moved").exists());
    assert_eq!(found[5].2[8..10], *b"/b");
}

#[test]
fn a_folder_that_is_read_only_stays_as_it_is() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("folder");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("file"), "f").unwrap();
    let none = 0u32.to_be_bytes();
    let mode = [4u32.to_be_bytes(), 0o100777u32.to_be_bytes()].concat();
    let open = |flags: u32| [flags.to_be_bytes(), none].concat();
    let handle = none;
    let extended =
        |name: &[u8], strings: &[&[u8]]| packet(200, 0, &[&[name], strings].concat(), b"");
    let mut changes: Vec<Vec<u8>> = [2, 3, 8, 9, 0x1a, 0x12, 0x11]
        .map(|flags| packet(3, 0, &[b"file"], &open(flags)))
        .to_vec();
    changes.extend([
        packet(3, 0, &[b"new"], &open(0x1a)),
        packet(9, 0, &[b"file"], &mode),
        packet(10, 0, &[&handle], &mode),
        packet(13, 0, &[b"file"], b""),
        packet(14, 0, &[b"made"], &none),
        packet(15, 0, &[b"sub"], b""),
        packet(18, 0, &[b"file", b"moved"], b""),
        packet(20, 0, &[b"file", b"link"], b""),
        packet(
            6,
            0,
            &[&handle],
            &[&[0; 8][..], &[0, 0, 0, 1, b'x']].concat(),
        ),
        extended(b"posix-rename@openssh.com", &[b"file", b"moved"]),
        extended(b"hardlink@openssh.com", &[b"file", b"again"]),
        packet(200, 0, &[b"lsetstat@openssh.com", b"file"], &mode),
    ]);
    // First a file is opened for reading, which is handle 0.
    let mut packets = vec![packet(3, 0, &[b"file"], &open(1))];
    packets.extend(changes);
    for (id, packet) in (0u32..).zip(&mut packets) {
        packet[1..5].copy_from_slice(&id.to_be_bytes());
    }
    let served = Served {
        folder: Some(folder.clone()),
        read_only: true,
        reports: None,
    };
    let found = sent(&packets, served);
    assert_eq!(found[0].0, 102);
    for (kind, id, body) in &found[1..] {
        assert_eq!(*kind, 101, "{id}");
        assert_ne!(body[..4], none, "{id}: {:?}", packets[*id as usize]);
    }
    assert_eq!(found.len(), packets.len());
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["file", "sub"]);
    assert_eq!(std::fs::read(folder.join("file")).unwrap(), b"f");
    use std::os::unix::fs::PermissionsExt;
    let mode = folder.join("file").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7000, 0);
    assert_ne!(mode & 0o777, 0o777);
}

#[test]
fn no_file_of_a_folder_gets_bits_that_run_it_as_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = [4u32.to_be_bytes(), 0o6755u32.to_be_bytes()].concat();
    let open = [&0x0au32.to_be_bytes()[..], &mode].concat();
    let packets = [
        packet(3, 0, &[b"a"], &open),
        packet(9, 1, &[b"a"], &mode),
        packet(10, 2, &[&0u32.to_be_bytes()], &mode),
        packet(14, 3, &[b"d"], &mode),
        packet(200, 4, &[b"lsetstat@openssh.com", b"a"], &mode),
    ];
    answers(&packets, Some(folder.path().to_owned()));
    for name in ["a", "d"] {
        let mode = folder
            .path()
            .join(name)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}: {mode:o}");
    }
}

/// Serves packets and returns the file reports.
fn reported(packets: &[Vec<u8>]) -> Vec<FileReport> {
    reported_below(Root::Everything, packets)
}

/// As [`reported`], of the files of this root.
fn reported_below(root: Root, packets: &[Vec<u8>]) -> Vec<FileReport> {
    let (reports, out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let input: Vec<u8> = packets
        .iter()
        .flat_map(|packet| [&(packet.len() as u32).to_be_bytes()[..], packet].concat())
        .collect();
    serve_reporting(&mut Cursor::new(input), Vec::new(), root, Reports::to(out)).unwrap();
    let mut bytes = Vec::new();
    std::fs::File::from(reports)
        .read_to_end(&mut bytes)
        .unwrap();
    let mut left = &bytes[..];
    let mut found = Vec::new();
    while let Some((length, rest)) = left.split_first_chunk::<4>() {
        let (body, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        found.push(FileReport::decode(body).unwrap());
        left = rest;
    }
    found
}

#[test]
fn what_is_done_to_files_is_reported_once_it_is_done() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).as_os_str().as_bytes().to_vec();
    let (a, b, c) = (path("a"), path("b"), path("c"));
    let none = [0u8; 4];
    let handle = |number: u32| number.to_be_bytes();
    let open = |flags: u32| [flags.to_be_bytes(), none].concat();
    let write = [&0u64.to_be_bytes()[..], &2u32.to_be_bytes(), b"hi"].concat();
    let read = [&0u64.to_be_bytes()[..], &100u32.to_be_bytes()].concat();
    let found = reported(&[
        packet(3, 0, &[&a], &open(0x1a)),
        packet(6, 0, &[&handle(0)], &write),
        packet(4, 0, &[&handle(0)], b""),
        packet(3, 0, &[&a], &open(0x01)),
        packet(5, 0, &[&handle(1)], &read),
        packet(18, 0, &[&a, &b], b""),
        packet(18, 0, &[&a, &b], b""),
        packet(14, 0, &[&c], &none),
        packet(20, 0, &[&b, &a], b""),
        packet(
            9,
            0,
            &[&b],
            &[4u32.to_be_bytes(), 0o600u32.to_be_bytes()].concat(),
        ),
        packet(13, 0, &[&a], b""),
        packet(13, 0, &[&a], b""),
        packet(15, 0, &[&c], b""),
        packet(3, 0, &[&b], &open(0x02)),
    ]);
    let opened = |number, write, created, path: &[u8]| FileReport::Opened {
        number,
        write,
        created,
        path: path.to_vec(),
    };
    let closed = |number, read, written| FileReport::Closed {
        number,
        read,
        written,
    };
    assert_eq!(
        found,
        [
            opened(0, true, true, &a),
            closed(0, 0, 2),
            opened(1, false, false, &a),
            FileReport::Renamed {
                path: a.clone(),
                to: b.clone()
            },
            FileReport::Created { path: c.clone() },
            FileReport::Linked {
                path: a.clone(),
                to: b.clone()
            },
            FileReport::Changed { path: b.clone() },
            FileReport::Removed { path: a.clone() },
            FileReport::Removed { path: c.clone() },
            opened(2, true, false, &b),
            // The client leaves these open.
            closed(1, 2, 0),
            closed(2, 0, 0),
        ]
    );
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    std::fs::write(&path, "kept").unwrap();
    let (reports, out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    drop(reports);
    let name = path.as_os_str().as_bytes();
    let open = |flags: u32| [flags.to_be_bytes(), [0; 4]].concat();
    let mut input = Vec::new();
    for packet in [
        packet(13, 0, &[name], b""),
        packet(3, 0, &[name], &open(0x1a)),
        packet(3, 0, &[name], &open(0x01)),
    ] {
        input.extend((packet.len() as u32).to_be_bytes());
        input.extend(packet);
    }
    let mut output = Vec::new();
    serve_reporting(
        &mut Cursor::new(input),
        &mut output,
        Root::Everything,
        Reports::to(out),
    )
    .unwrap();
    let failure = Response::Status(StatusCode::Failure).encode(0);
    assert_eq!(output, failure.repeat(3));
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
}

#[test]
fn what_is_not_sftp_ends_the_session() {
    for input in [
        &b"SSH-2.0-OpenSSH_9\r\n"[..],
        &[0, 0, 0, 0],
        &[0, 0, 0, 9, 1],
    ] {
        let mut output = Vec::new();
        assert!(
            serve(Cursor::new(input.to_vec()), &mut output, below(None)).is_err(),
            "{input:?}"
        );
    }
}

#[test]
fn a_change_that_a_folder_refuses_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let none = [0u8; 4];
    let open = |flags: u32| [flags.to_be_bytes(), none].concat();
    let found = reported_below(
        Root::below(folder.path(), false).unwrap(),
        &[
            packet(3, 0, &[b"a"], &open(0x1a)),
            packet(14, 0, &[b"b"], &none),
            packet(13, 0, &[b"c"], b""),
            packet(18, 0, &[b"d", b"e"], b""),
        ],
    );
    let refused = [b"a", b"b", b"c", b"d"].map(|path| FileReport::Refused {
        path: path.to_vec(),
    });
    assert_eq!(found, refused);
}
