//! The file: several writers, torn ends, removal, putting aside, no room.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use tempfile::{TempDir, tempdir};

use super::*;

fn place() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    (folder, path)
}

fn audit(folder: &TempDir, required: bool) -> Audit {
    let home = Home::at(folder.path().to_path_buf());
    let settings = AuditSettings {
        required,
        ..AuditSettings::default()
    };
    Audit::new(&home, &[7; 16], settings)
}

fn strangers(refused: u64) -> Event {
    Event::Strangers(Strangers {
        cluster: "company".into(),
        refused,
    })
}

/// The counts of strangers in order, over all files; every line has to be whole.
fn counts(path: &Path) -> Vec<u64> {
    let files: Vec<_> = files(path).collect();
    let texts = files.iter().rev().filter_map(|file| fs::read(file).ok());
    texts
        .flat_map(|text| {
            assert!(text.ends_with(b"\n"));
            let lines: Vec<_> = text.split(|byte| *byte == b'\n').map(Vec::from).collect();
            lines
        })
        .filter(|line| !line.is_empty())
        .map(|line| match Record::from_line(&line).unwrap().event {
            Event::Strangers(strangers) => strangers.refused,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn several_writers_and_putting_aside_lose_nothing() {
    let (_folder, path) = place();
    let line = |number: u64| {
        Record {
            time: now(),
            event: strangers(number),
            instance: "0".into(),
        }
        .to_line()
    };
    let limit = 40 * line(0).len() as u64;
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (path, line) = (&path, &line);
            scope.spawn(move || {
                // Each with a file of its own, as processes have.
                let mut appender = Appender::new(path, limit);
                for number in 0..80 {
                    appender.append(&line(writer * 1000 + number)).unwrap();
                }
            });
        }
    });
    let mut all = counts(&path);
    assert_eq!(all.len(), 320);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 320);
    // How far a file grows past the limit is up to the scheduler: rotating it blocks no writer.
    assert!(aside(&path, 1).exists());
    for file in files(&path).filter(|file| file.exists()) {
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn the_total_is_bounded_and_the_newest_stays() {
    let (_folder, path) = place();
    let mut appender = Appender::new(&path, 100);
    for number in 0..100_u32 {
        appender
            .append(format!("{:>59}\n", number).as_bytes())
            .unwrap();
    }
    let there: Vec<_> = files(&path).filter(|file| file.exists()).collect();
    assert_eq!(there.len(), KEPT as usize + 1);
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), "99");
    assert_eq!(fs::read_to_string(&there[9]).unwrap().trim(), "90");
}

#[test]
fn a_torn_end_gets_a_line_of_its_own() {
    let (folder, path) = place();
    let audit = audit(&folder, true);
    audit.record(strangers(1)).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[..40]].concat()).unwrap();
    audit.record(strangers(2)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text
        .lines()
        .map(|line| Record::from_line(line.as_bytes()).is_ok())
        .collect();
    assert_eq!(lines, [true, false, true]);
}

#[test]
fn a_removed_file_is_noticed_and_started_again() {
    let (folder, path) = place();
    let audit = audit(&folder, false);
    audit.record(strangers(1)).unwrap();
    assert!(audit.notices().is_empty());
    fs::remove_file(&path).unwrap();
    audit.record(strangers(2)).unwrap();
    assert_eq!(counts(&path), [2]);
    assert!(audit.notices()[0].contains("was deleted while malai was running"));
    // If another process rotates it, it was not deleted.
    let other = Audit {
        state: Mutex::new(State {
            appender: Appender::new(&path, MAX_FILE),
            trouble: None,
            removed: None,
        }),
        ..self::audit(&folder, false)
    };
    other.record(strangers(3)).unwrap();
    fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    other.record(strangers(4)).unwrap();
    assert_eq!(counts(&path), [4]);
    assert!(other.notices().is_empty());
}

#[test]
fn what_cannot_be_recorded_is_said_refused_and_counted() {
    let (folder, path) = place();
    // A folder in the file's place: nobody can write it, root included.
    fs::create_dir(&path).unwrap();
    let audit = audit(&folder, false);
    audit.open();
    assert!(audit.notices()[0].contains("cannot be written"));
    audit.record(strangers(1)).unwrap();
    let notice = audit.notices().join("\n");
    assert!(notice.contains("1 record is missing"), "{notice}");
    assert!(notice.contains("run anyway"), "{notice}");
    let required = AuditSettings {
        required: true,
        ..AuditSettings::default()
    };
    assert!(audit.configure(required));
    assert!(!audit.configure(required));
    let refusal = audit.record(strangers(2)).unwrap_err();
    assert_eq!(refusal.known_code(), Some(RefusalCode::Failed));
    assert!(refusal.message.contains("nothing was run"), "{refusal:?}");
    assert!(audit.notices()[0].contains("2 records are missing"));
    fs::remove_dir(&path).unwrap();
    // Looking at it is enough to go on.
    assert!(audit.notices().is_empty());
    audit.record(strangers(3)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let first = Record::from_line(text.lines().next().unwrap().as_bytes()).unwrap();
    assert!(
        matches!(&first.event, Event::Lost(lost) if lost.records == 2),
        "{first:?}"
    );
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn a_pipe_in_its_place_stops_nobody_and_a_wide_mode_is_tightened() {
    let (folder, path) = place();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let audit = audit(&folder, true);
    let refusal = audit.record(strangers(1)).unwrap_err();
    assert!(refusal.message.contains("regular file"), "{refusal:?}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    audit.record(strangers(2)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

/// A full disk takes nothing more, but what was allocated before can be written over.
/// Otherwise root's daemon would write to what it leads to, and change its mode.
#[test]
fn a_link_in_its_place_is_not_followed() {
    let (folder, path) = place();
    let other = folder.path().join("passwd");
    fs::write(&other, "root:x:0:0\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    for link in [&path, &path.with_extension("gap")] {
        std::os::unix::fs::symlink(&other, link).unwrap();
    }
    let audit = audit(&folder, true);
    audit.open();
    assert!(audit.record(strangers(1)).is_err());
    let trouble = audit.trouble().unwrap();
    assert!(
        trouble.contains("it is a symbolic link; move it away"),
        "{trouble}"
    );
    assert_eq!(fs::read_to_string(&other).unwrap(), "root:x:0:0\n");
    assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn a_gap_outlives_the_processes_that_noticed_it() {
    let (folder, path) = place();
    let first = audit(&folder, false);
    first.open();
    first.record(strangers(1)).unwrap();
    // A folder in the record's place, as where nothing can be written.
    let kept = folder.path().join("kept");
    fs::rename(&path, &kept).unwrap();
    fs::create_dir(&path).unwrap();
    first.record(strangers(2)).unwrap();
    first.record(strangers(3)).unwrap();
    drop(first);
    // A command without a daemon adds what it cannot write.
    audit(&folder, false).record(strangers(4)).unwrap();
    // Nor can the next daemon.
    let second = audit(&folder, false);
    second.open();
    assert_eq!(second.notices().len(), 1);
    drop(second);
    fs::remove_dir(&path).unwrap();
    fs::rename(&kept, &path).unwrap();
    let third = audit(&folder, false);
    third.open();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let record = Record::from_line(lines[1].as_bytes()).unwrap();
    let Event::Lost(lost) = record.event else {
        panic!("{text}")
    };
    assert_eq!(lost.records, 3);
    assert!(
        lost.why.contains("regular file") || lost.why.contains("directory"),
        "{lost:?}"
    );
    // It is said once.
    drop(third);
    audit(&folder, false).open();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let mode = fs::metadata(path.with_extension("gap")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
}
