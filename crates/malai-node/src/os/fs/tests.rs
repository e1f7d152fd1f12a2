//! What is written, read and refused.

use super::*;
use tempfile::tempdir;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_write_replaces_content_and_mode_and_leaves_nothing_else() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.toml");
    write_atomic(&path, b"old", 0o644).unwrap();
    assert_eq!(mode(&path), 0o644);
    write_atomic(&path, b"new", 0o600).unwrap();
    assert_eq!(read_text(&path, 10).unwrap().as_deref(), Some("new"));
    assert_eq!(mode(&path), 0o600);
    assert_eq!(names(folder.path()), ["a.toml"]);
}

#[test]
fn leftovers_of_killed_writers_go_and_those_of_live_ones_stay() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.toml");
    let dead = folder.path().join(".a.toml.malai-tmp-1-0");
    let live = folder.path().join(".a.toml.malai-tmp-2-0");
    let other = folder.path().join(".b.toml.malai-tmp-1-0");
    for file in [&dead, &live, &other] {
        fs::write(file, "half").unwrap();
    }
    let writer = File::open(&live).unwrap();
    writer.lock().unwrap();
    write_atomic(&path, b"whole", 0o600).unwrap();
    assert!(!dead.exists());
    assert!(live.exists());
    assert!(other.exists(), "another file's temporary is not ours");
}

#[test]
fn a_failed_write_leaves_the_old_content_and_no_temporary() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "x").unwrap();
    let error = write_atomic(&path, b"new", 0o600).unwrap_err();
    assert!(error.to_string().contains("a.toml"), "{error}");
    assert_eq!(names(folder.path()), ["a.toml"]);
    assert!(path.join("inside").exists());
}

#[test]
fn concurrent_writers_never_mix_and_never_fail() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a");
    std::thread::scope(|scope| {
        for letter in [b'a', b'b', b'c', b'd'] {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..20 {
                    write_atomic(path, &[letter; 4096], 0o600).unwrap();
                }
            });
        }
    });
    let text = read_text(&path, 5000).unwrap().unwrap();
    assert_eq!(text.len(), 4096);
    assert_eq!(
        text.bytes().filter(|b| *b == text.as_bytes()[0]).count(),
        4096
    );
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn a_linked_file_stays_a_link() {
    let folder = tempdir().unwrap();
    let real = folder.path().join("real.toml");
    let link = folder.path().join("link.toml");
    fs::write(&real, "old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    write_configuration(&link, b"new", 0o600).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), "new");
}

#[test]
fn what_malai_writes_goes_through_no_link_and_into_no_other_file() {
    let folder = tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::write(&real, "old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let open = |path: &Path| open_own(path, OpenOptions::new().append(true).create(true));
    let refused = open(&link).unwrap_err();
    assert!(matches!(refused, StoreError::Link { .. }), "{refused}");
    write_atomic(&link, b"new", 0o600).unwrap();
    assert!(link.symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(&real).unwrap(), "old");
    // A dangling one would be created where it leads.
    let dangling = folder.path().join("dangling");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &dangling).unwrap();
    let refused = open(&dangling).unwrap_err();
    assert!(matches!(refused, StoreError::Link { .. }), "{refused}");
    assert!(!folder.path().join("nowhere").exists());
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    let refused = open(&pipe).unwrap_err();
    assert!(matches!(refused, StoreError::NotAFile { .. }), "{refused}");
    if trust::own_user() == 0 {
        std::os::unix::fs::chown(&real, Some(12345), None).unwrap();
        let refused = open(&real).unwrap_err();
        assert!(
            matches!(refused, StoreError::ForeignOwner { .. }),
            "{refused}"
        );
    }
    let made = folder.path().join("made");
    drop(open(&made).unwrap());
    assert_eq!(mode(&made), 0o600);
}

#[test]
fn creating_never_overwrites() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("key");
    create_atomic(&path, b"first", 0o600).unwrap();
    let error = create_atomic(&path, b"second", 0o600).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(names(folder.path()), ["key"]);
}

#[test]
fn reading_is_bounded_and_says_what_is_wrong() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a");
    assert_eq!(read_text(&path, 3).unwrap(), None);
    fs::write(&path, "123").unwrap();
    assert_eq!(read_text(&path, 3).unwrap().as_deref(), Some("123"));
    fs::write(&path, "1234").unwrap();
    assert!(matches!(
        read_text(&path, 3),
        Err(StoreError::TooLarge { limit: 3, .. })
    ));
    fs::write(&path, b"a\nb\xff").unwrap();
    assert!(matches!(
        read_text(&path, 9),
        Err(StoreError::NotText { line: 2, .. })
    ));
    assert!(matches!(
        read_text(folder.path(), 9),
        Err(StoreError::NotAFile { .. })
    ));
    let dangling = folder.path().join("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    assert!(read_text(&dangling, 9).is_err());
}

#[test]
fn a_pipe_is_refused_without_waiting_for_a_writer() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(matches!(
        read_text(&path, 9),
        Err(StoreError::NotAFile { .. })
    ));
}
