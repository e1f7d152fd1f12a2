//! Both ends over pipes, a far end that lies, and copies that are cut off.

use std::collections::BTreeMap;
use std::fs;
use std::io::PipeWriter;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use malai_wire::copy::{Begin, End, FromSender, Kind, Offer, Time, data_head};
use malai_wire::frame::Tagged;

use super::*;

const TREE: Options = Options {
    recursive: true,
    preserve: false,
    archive: false,
    no_clobber: false,
};
const FILE: Options = Options {
    recursive: false,
    ..TREE
};
const ALL: Options = Options {
    recursive: true,
    preserve: true,
    archive: true,
    no_clobber: false,
};

/// What an observer heard.
#[derive(Default)]
struct Heard {
    moved: u64,
    problems: Vec<String>,
}

impl Observer for Heard {
    fn moved(&mut self, bytes: u64) {
        self.moved += bytes;
    }

    fn problem(&mut self, source: u32, path: &[u8], why: &str) {
        let path = String::from_utf8_lossy(path);
        self.problems.push(format!("{source}:{path}: {why}"));
    }

    fn not_written(&mut self, what: &str) {
        self.problems.push(what.to_owned());
    }
}

/// Copies by a server in a thread of its own: to it, and from it.
fn put(sources: &[&Path], target: &Path, options: Options) -> (Heard, Result<(), CopyError>) {
    let (input, there) = served();
    let mut heard = Heard::default();
    let sources = local_sources(sources.iter().map(PathBuf::from).collect());
    let target = target.as_os_str().as_bytes();
    let result = super::put(input, there, sources, target, options, &mut heard);
    (heard, result)
}

fn get(sources: &[&Path], target: &Path, options: Options) -> (Heard, Result<(), CopyError>) {
    let (input, there) = served();
    let mut heard = Heard::default();
    let sources: Vec<Vec<u8>> = sources
        .iter()
        .map(|path| path.as_os_str().as_bytes().to_vec())
        .collect();
    let names: Vec<Vec<u8>> = sources
        .iter()
        .map(|source| {
            malai_wire::copy::name_of(source)
                .unwrap_or_default()
                .to_vec()
        })
        .collect();
    let destination = local_goal(target, &names, options).unwrap();
    let result = super::get(input, there, sources, destination, options, &mut heard);
    (heard, result)
}

fn served() -> (io::PipeReader, PipeWriter) {
    let (theirs, ours) = io::pipe().unwrap();
    let (back, answers) = io::pipe().unwrap();
    std::thread::spawn(move || serve(theirs, answers, Served::default()));
    (back, ours)
}

/// A tree as text: each entry with its kind, mode, time and content.
fn shown(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let mut text = format!(
            "{:o} {}.{} {}",
            metadata.mode(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.nlink()
        );
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                left.push(entry.unwrap().path());
            }
        } else if metadata.is_symlink() {
            text += &format!(" → {}", fs::read_link(&path).unwrap().display());
        } else if metadata.is_file() {
            text += &format!(" {}", blake3::hash(&fs::read(&path).unwrap()).to_hex());
        }
        found.insert(path.strip_prefix(top).unwrap().to_owned(), text);
    }
    found
}

fn tree(top: &Path) -> PathBuf {
    let tree = top.join("tree");
    fs::create_dir_all(tree.join("sub/deep")).unwrap();
    fs::write(tree.join("a"), "hello\n").unwrap();
    fs::write(tree.join("sub/empty"), "").unwrap();
    fs::write(tree.join("sub/deep/big"), vec![7; 3_000_000]).unwrap();
    fs::write(tree.join(OsStr::from_bytes(b"sub/\xff\n\x1b[")), "name").unwrap();
    let hole = fs::File::create(tree.join("hole")).unwrap();
    hole.set_len(50_000_000).unwrap();
    symlink("../nowhere", tree.join("link")).unwrap();
    fs::hard_link(tree.join("a"), tree.join("sub/hard")).unwrap();
    fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(tree.join("sub/deep"), fs::Permissions::from_mode(0o500)).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        tree.join("fifo"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    tree
}

#[test]
fn a_tree_arrives_as_it_is_and_again_without_its_bytes() {
    let top = tempfile::tempdir().unwrap();
    let tree = tree(top.path());
    let (there, here) = (top.path().join("there"), top.path().join("here"));
    fs::create_dir(&there).unwrap();
    fs::create_dir(&here).unwrap();
    let (heard, result) = put(&[&tree], &there, ALL);
    result.unwrap();
    assert_eq!(heard.problems, [""; 0]);
    assert_eq!(shown(&there.join("tree")), shown(&tree));
    let blocks = fs::metadata(there.join("tree/hole")).unwrap().blocks();
    assert!(blocks < 1000, "{blocks}");
    let (heard, result) = get(&[&there.join("tree")], &here, ALL);
    result.unwrap();
    assert_eq!(heard.problems, [""; 0]);
    assert_eq!(shown(&here.join("tree")), shown(&tree));
    let (heard, result) = put(&[&tree.join(".")], &here.join("tree"), ALL);
    result.unwrap();
    assert_eq!(
        (heard.moved, heard.problems.len()),
        (0, 0),
        "{:?}",
        heard.problems
    );
    assert_eq!(shown(&here.join("tree")), shown(&tree));
    // What removes it has to look into it.
    for at in [&tree, &there.join("tree"), &here.join("tree")] {
        fs::set_permissions(at.join("sub/deep"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn what_cannot_be_copied_is_named_and_the_rest_arrives() {
    let top = tempfile::tempdir().unwrap();
    let (from, to) = (top.path().join("from"), top.path().join("to"));
    fs::create_dir_all(from.join("sub")).unwrap();
    fs::create_dir_all(to.join("from/sub")).unwrap();
    fs::create_dir(to.join("outside")).unwrap();
    fs::create_dir(to.join("from/file")).unwrap();
    fs::write(from.join("file"), "f").unwrap();
    fs::write(from.join("sub/x"), "x").unwrap();
    fs::write(from.join("good"), "g").unwrap();
    fs::remove_dir(to.join("from/sub")).unwrap();
    symlink("../outside", to.join("from/sub")).unwrap();
    let (heard, result) = put(&[&from, &top.path().join("none")], &to, TREE);
    // What cannot be written is named where it cannot.
    let named = |what: &str| format!("{}/from/{what}", to.display());
    result.unwrap();
    assert_eq!(
        heard.problems,
        [
            "1:: no such file or directory",
            &named("file: a folder is there"),
            &named("sub: its path contains a symbolic link"),
            &named("sub/x: its path contains a symbolic link"),
        ]
    );
    assert_eq!(fs::read(to.join("from/good")).unwrap(), b"g");
    assert_eq!(fs::read_dir(to.join("outside")).unwrap().count(), 0);
}

#[test]
fn a_part_is_gone_on_with_if_it_is_a_part() {
    let top = tempfile::tempdir().unwrap();
    let (from, to) = (top.path().join("from"), top.path().join("to"));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n / 999) as u8).collect();
    fs::write(&from, &bytes).unwrap();
    let part = top.path().join("to.malai-part");
    for (there, sent) in [
        (&bytes[..2_000_000], 1_000_000),
        (&bytes[..], 0),
        (&[9; 2_000_000][..], 3_000_000),
    ] {
        fs::write(&part, there).unwrap();
        let (heard, result) = put(&[&from], &to, FILE);
        result.unwrap();
        assert_eq!((heard.moved, heard.problems), (sent, Vec::new()));
        assert_eq!(fs::read(&to).unwrap(), bytes);
        assert!(!part.exists());
        fs::remove_file(&to).unwrap();
    }
    // The same size and another content is not the same file.
    fs::write(&to, vec![1; bytes.len()]).unwrap();
    let (heard, result) = put(&[&from], &to, FILE);
    result.unwrap();
    assert_eq!(heard.moved, 3_000_000);
    assert_eq!(fs::read(&to).unwrap(), bytes);
    // A file of that size that is replaced does not hide what has arrived of the new.
    fs::write(&to, vec![1; bytes.len()]).unwrap();
    fs::write(&part, &bytes[..2_000_000]).unwrap();
    let (heard, result) = put(&[&from], &to, FILE);
    result.unwrap();
    assert_eq!(heard.moved, 1_000_000);
    assert_eq!(fs::read(&to).unwrap(), bytes);
    // Nobody is written to by way of a part that leads elsewhere.
    fs::write(&from, "new").unwrap();
    fs::write(top.path().join("victim"), "v").unwrap();
    symlink("victim", &part).unwrap();
    let (heard, result) = put(&[&from], &to, FILE);
    result.unwrap();
    assert_eq!(heard.problems.len(), 1);
    assert_eq!(fs::read(top.path().join("victim")).unwrap(), b"v");
}

fn offer(id: u64, path: &str, kind: Kind) -> FromSender {
    FromSender::Offer(Offer {
        id,
        source: 0,
        path: path.into(),
        kind,
        mode: 0o4777,
        modified: Time::default(),
        accessed: Time::default(),
        owner: None,
        attributes: Vec::new(),
    })
}

/// Receives from a sender that says this, whatever it hears. Returns what is below the destination's parent afterwards.
fn lied(says: &[Vec<u8>], options: Options) -> (Vec<String>, Heard, Result<(), CopyError>) {
    let top = tempfile::tempdir().unwrap();
    let destination = top.path().join("destination");
    fs::create_dir(&destination).unwrap();
    fs::create_dir(top.path().join("outside")).unwrap();
    symlink("../outside", destination.join("out")).unwrap();
    let names = vec![b"asked".to_vec()];
    let destination = local_goal(&destination, &names, options).unwrap();
    let said = [Opened::Ready.to_frame(), says.concat()].concat();
    let mut heard = Heard::default();
    let result = super::get(
        &said[..],
        io::sink(),
        vec![b"asked".to_vec()],
        destination,
        options,
        &mut heard,
    );
    let mut found: Vec<String> = shown(top.path())
        .into_keys()
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| !["", "destination", "destination/out", "outside"].contains(&path.as_str()))
        .collect();
    found.sort();
    (found, heard, result)
}

fn data(bytes: &[u8]) -> Vec<u8> {
    [&data_head(bytes.len())[..], bytes].concat()
}

fn file(id: u64, path: &str, bytes: &[u8]) -> Vec<u8> {
    let hash = *blake3::hash(bytes).as_bytes();
    [
        offer(id, path, Kind::File(Some(bytes.len() as u64))).to_frame(),
        FromSender::Begin(Begin { id, offset: 0 }).to_frame(),
        data(bytes),
        FromSender::End(End { hash }).to_frame(),
    ]
    .concat()
}

#[test]
fn a_sender_that_lies_writes_nothing_outside() {
    let done = FromSender::Offered.to_frame();
    for path in ["../x", "/tmp/x", "..", "a/../../x", ".", "a//b", "x\0"] {
        let says = [
            offer(1, "", Kind::Folder).to_frame(),
            file(2, path, b"evil"),
            done.clone(),
        ];
        let (found, _, result) = lied(&says, TREE);
        assert!(
            matches!(result, Err(CopyError::Protocol(_))),
            "{path}: {result:?}"
        );
        assert_eq!(found, ["destination/asked"], "{path}");
    }
    // A link, and a file below it.
    let says = [
        offer(1, "", Kind::Folder).to_frame(),
        offer(2, "l", Kind::Symlink(b"../../outside".to_vec())).to_frame(),
        file(3, "l/x", b"evil"),
        file(4, "good", b"good"),
        done.clone(),
    ];
    let (found, heard, result) = lied(&says[..2], TREE);
    assert!(matches!(result, Err(CopyError::Lost(_))));
    assert_eq!(
        (found, heard.problems),
        (
            vec![
                "destination/asked".to_owned(),
                "destination/asked/l".to_owned()
            ],
            Vec::new()
        )
    );
    let (found, ..) = lied(&says, TREE);
    assert!(
        !found.iter().any(|path| path.starts_with("outside")),
        "{found:?}"
    );
    // Where one file was asked for: a folder, more files, a file of another source, a FIFO.
    for says in [
        offer(1, "", Kind::Folder).to_frame(),
        file(1, "x", b"evil"),
        offer(1, "", Kind::Fifo).to_frame(),
        offer(1, "", Kind::HardLink(0, b"../x".to_vec())).to_frame(),
    ] {
        let (found, _, result) = lied(&[says], FILE);
        assert!(matches!(result, Err(CopyError::Protocol(_))), "{result:?}");
        assert_eq!(found, [""; 0]);
    }
    let says = [
        offer(1, "", Kind::HardLink(0, b"../../outside/x".to_vec())).to_frame(),
        done,
    ];
    assert!(matches!(lied(&says, ALL).2, Err(CopyError::Protocol(_))));
}

/// Sends to a server of a folder: the answer, and what is in the folder's parent afterwards.
fn sent_to_folder(
    read_only: bool,
    names: &[&str],
    says: &[Vec<u8>],
) -> (Option<Opened>, BTreeMap<PathBuf, String>) {
    let top = tempfile::tempdir().unwrap();
    let folder = top.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let put = Opening::Put(Put {
        version: VERSION,
        target: b"/".to_vec(),
        names: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
        options: ALL,
    });
    let input = [put.to_frame(), says.concat()].concat();
    let served = Served {
        folder: Some(folder),
        read_only,
        reports: None,
    };
    let mut output = Vec::new();
    let _ = serve(io::Cursor::new(input), &mut output, served);
    let opened = FrameReader::new(&output[..]).message::<Opened>().unwrap();
    (opened, shown(top.path()))
}

#[test]
fn nothing_outside_a_folder_is_touched_and_nothing_in_one_that_is_read_only() {
    let at = |path: &Path, found: &BTreeMap<PathBuf, String>| found.get(path).cloned();
    let says = [
        offer(1, "", Kind::Folder).to_frame(),
        file(2, "x", b"evil"),
        FromSender::Offered.to_frame(),
    ];
    let (opened, before) = sent_to_folder(true, &["a"], &says);
    assert!(matches!(opened, Some(Opened::Failed(why)) if why == "this folder is read-only"));
    for name in ["..", ".", "../y", "a/../../y", "/tmp/y"] {
        let (opened, found) = sent_to_folder(false, &[name], &says);
        assert!(
            matches!(opened, Some(Opened::Failed(_))),
            "{name}: {opened:?}"
        );
        // Not even the modes and times of the folder that it is in: the offer's are 777, and 1970.
        let shown = at(Path::new(""), &found).unwrap();
        assert!(shown.starts_with("40755 1"), "{name}: {shown}");
        assert_eq!(found.len(), before.len(), "{name}: {found:?}");
    }
    let (opened, found) = sent_to_folder(false, &["a"], &says);
    assert!(matches!(opened, Some(Opened::Ready)));
    assert!(found.contains_key(Path::new("folder/a/x")), "{found:?}");
    // The offer has setuid, which is not kept, even for root.
    let mode = &found[Path::new("folder/a")];
    assert!(!mode.contains("4777"), "{mode}");
}

#[test]
fn a_sender_cannot_give_a_file_that_is_not_what_it_says() {
    let begin = || FromSender::Begin(Begin { id: 1, offset: 0 }).to_frame();
    let offer = || offer(1, "", Kind::File(Some(4))).to_frame();
    let end = || FromSender::End(End { hash: [0; 32] }).to_frame();
    let done = FromSender::Offered.to_frame();
    let (found, heard, result) = lied(&[offer(), begin(), data(b"abcd"), end(), done], FILE);
    result.unwrap();
    assert_eq!(found, [""; 0]);
    let [problem] = &heard.problems[..] else {
        panic!("{:?}", heard.problems);
    };
    let expected =
        "/destination/asked: what arrived is not what was sent (BLAKE3 differs); copy it again";
    assert!(problem.ends_with(expected), "{problem}");
    for says in [
        vec![offer(), begin(), data(b"abcde")],
        vec![offer(), begin(), FromSender::Hole(u64::MAX).to_frame()],
        vec![offer(), data(b"abcd")],
        vec![begin()],
        vec![offer(), begin(), begin()],
        vec![
            offer(),
            FromSender::Begin(Begin { id: 1, offset: 2 }).to_frame(),
        ],
        vec![end()],
        vec![vec![255; 20]],
    ] {
        let (found, _, result) = lied(&says, FILE);
        assert!(matches!(result, Err(CopyError::Protocol(_))), "{result:?}");
        assert!(
            !found.contains(&"destination/asked".to_owned()),
            "{found:?}"
        );
    }
    // Cut off: what arrived waits under its own name.
    let (found, _, result) = lied(&[offer(), begin(), data(b"ab")], FILE);
    assert!(matches!(result, Err(CopyError::Lost(_))), "{result:?}");
    assert_eq!(found, ["destination/asked.malai-part"]);
    // Bits that run a file as its owner are kept only with the owner.
    let top = tempfile::tempdir().unwrap();
    let names = vec![b"asked".to_vec()];
    let destination = local_goal(top.path(), &names, FILE).unwrap();
    let said = [
        Opened::Ready.to_frame(),
        file(1, "", b"x"),
        FromSender::Offered.to_frame(),
    ]
    .concat();
    let options = Options {
        preserve: true,
        ..FILE
    };
    super::get(
        &said[..],
        io::sink(),
        names,
        destination,
        options,
        &mut Unobserved,
    )
    .unwrap();
    let mode = fs::metadata(top.path().join("asked")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o777);
}

#[test]
fn what_is_there_stays_where_that_is_asked_for() {
    let top = tempfile::tempdir().unwrap();
    let (from, to) = (top.path().join("from"), top.path().join("to"));
    fs::write(&from, "new").unwrap();
    fs::write(&to, "old").unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o604)).unwrap();
    let keep = Options {
        no_clobber: true,
        ..FILE
    };
    put(&[&from], &to, keep).1.unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"old");
    put(&[&from], &to, FILE).1.unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"new");
    assert_eq!(fs::metadata(&to).unwrap().mode() & 0o777, 0o604);
    // A link that is named is followed; what it is in a tree is replaced.
    symlink("to", top.path().join("link")).unwrap();
    fs::write(&from, "more").unwrap();
    put(&[&from], &top.path().join("link"), FILE).1.unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"more");
    let (_, result) = put(&[&from], Path::new("/dev/null"), FILE);
    assert!(matches!(result, Err(CopyError::Refused(_))), "{result:?}");
}

/// Changes a file once it has been offered.
struct Meddler<F: FnMut()> {
    change: F,
    heard: Heard,
}

impl<F: FnMut()> Observer for Meddler<F> {
    fn all_offered(&mut self) {
        (self.change)();
    }

    fn problem(&mut self, source: u32, path: &[u8], why: &str) {
        self.heard.problem(source, path, why);
    }

    fn not_written(&mut self, what: &str) {
        self.heard.not_written(what);
    }
}

#[test]
fn a_file_that_grows_arrives_as_it_was_offered_and_one_that_shrinks_as_it_is() {
    let top = tempfile::tempdir().unwrap();
    let (from, to) = (top.path().join("from"), top.path().join("to"));
    for (size, expected) in [(3000, 2000), (500, 500)] {
        fs::write(&from, vec![1; 2000]).unwrap();
        let (input, there) = served();
        let mut observer = Meddler {
            change: || fs::write(&from, vec![1; size]).unwrap(),
            heard: Heard::default(),
        };
        let sources = local_sources(vec![from.clone()]);
        let target = to.as_os_str().as_bytes();
        super::put(input, there, sources, target, FILE, &mut observer).unwrap();
        assert_eq!(observer.heard.problems, [""; 0]);
        assert_eq!(fs::read(&to).unwrap().len(), expected);
    }
}

#[test]
fn a_file_whose_size_is_not_its_content_arrives_whole() {
    let top = tempfile::tempdir().unwrap();
    let to = top.path().join("to");
    // The first says that it has 0 bytes, the second a page.
    for from in ["/proc/version", "/sys/kernel/cpu_byteorder"].map(Path::new) {
        let content = fs::read(from).unwrap();
        assert_ne!(content.len() as u64, fs::metadata(from).unwrap().len());
        for options in [FILE, ALL] {
            for copy in [put, get] {
                let (heard, result) = copy(&[from], &to, options);
                result.unwrap();
                assert_eq!(heard.problems, [""; 0], "{}", from.display());
                assert_eq!(fs::read(&to).unwrap(), content, "{}", from.display());
                fs::write(&to, "old").unwrap();
            }
        }
    }
}

#[test]
fn hard_links_beyond_the_window_of_offers_arrive() {
    let top = tempfile::tempdir().unwrap();
    let (from, to) = (top.path().join("from"), top.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("0"), "x").unwrap();
    let count = malai_wire::copy::WINDOW + 500;
    for number in 1..count {
        fs::hard_link(from.join("0"), from.join(number.to_string())).unwrap();
    }
    let (done, ended) = std::sync::mpsc::channel();
    let target = to.clone();
    std::thread::spawn(move || {
        let (heard, result) = put(&[&from], &target, ALL);
        done.send((heard.problems, result.is_ok())).unwrap();
    });
    let ended = ended.recv_timeout(std::time::Duration::from_secs(60));
    assert_eq!(ended, Ok((Vec::new(), true)));
    assert_eq!(fs::metadata(to.join("0")).unwrap().nlink(), count as u64);
}
