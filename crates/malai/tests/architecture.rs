//! Rules that no compiler keeps: the direction in which crates and modules import each other, how files are
//! written, and that DESIGN.md names only what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which crates each crate may depend on.
const DIRECTION: [(&str, &[&str]); 5] = [
    ("malai-cluster", &[]),
    ("malai-wire", &["malai-cluster"]),
    ("malai-node", &["malai-cluster", "malai-wire"]),
    ("malai", &["malai-cluster", "malai-node", "malai-wire"]),
    (
        "malai-testing",
        &["malai-cluster", "malai-node", "malai-wire"],
    ),
];

/// "About five hundred lines": longer files are hard to find one's way in.
const LINES: usize = 600;

/// The folders of malai-node, from the ground up. A file imports from its own floor's folder and from the floors
/// below; folders that share a floor do not import each other.
const NODE_FLOORS: [&[&str]; 11] = [
    &["os"],
    &["home"],
    &["settings", "control"],
    &["audit", "inspect", "net"],
    &["node"],
    &["cluster"],
    &["peer"],
    &["exec", "files", "forward", "sync"],
    &["server", "client"],
    &["service"],
    &["daemon", "doctor", "relay"],
];

/// The same for the binary.
const BINARY_FLOORS: [&[&str]; 5] = [
    &["output", "signals", "terminal"],
    &["cli", "logging"],
    &["exec"],
    &["fanout", "demo"],
    &["commands"],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The dependencies of each crate of the workspace, those of its tests left out.
fn dependencies() -> Vec<(String, BTreeSet<String>)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let of_package = package["dependencies"].as_array().unwrap();
            let names = of_package
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            (
                package["name"].as_str().unwrap().to_owned(),
                names.collect(),
            )
        })
        .collect()
}

#[test]
fn the_crates_look_in_one_direction() {
    for (name, found) in dependencies() {
        let (_, allowed) = DIRECTION
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("{name} has no place in the house"));
        let own: Vec<_> = found
            .iter()
            .filter(|found| found.starts_with("malai"))
            .collect();
        assert_eq!(own, allowed.iter().collect::<Vec<_>>(), "{name}");
    }
}

/// Every Rust file of the workspace.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "{found:?}");
    found
}

#[test]
fn every_file_says_what_it_is_and_is_short_and_no_test_is_ignored() {
    let ignored = ["#[", "ignore"].concat();
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.display();
        assert!(
            text.starts_with("//! "),
            "{shown} does not begin with what it is"
        );
        let lines = text.lines().count();
        assert!(lines <= LINES, "{shown} has {lines} lines");
        assert!(!text.contains(&ignored), "{shown} ignores a test");
    }
}

/// A page that names a file which is gone leads newcomers astray.
#[test]
fn what_the_design_page_names_is_there() {
    let files: Vec<String> = files()
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let page = fs::read_to_string(root().join("DESIGN.md")).unwrap();
    let named: Vec<_> = page
        .split('`')
        .filter(|word| word.ends_with(".rs") && !word.contains(char::is_whitespace))
        .collect();
    assert!(named.len() > 50, "{named:?}");
    for name in named {
        let end = format!("/{name}");
        assert!(
            files.iter().any(|file| file.ends_with(&end)),
            "DESIGN.md names {name}, which is not there"
        );
    }
}

/// The Markdown pages, from the workspace's root.
fn pages() -> Vec<PathBuf> {
    let folders = ["", "docs", "bench"];
    let entries = folders.iter().flat_map(|folder| {
        let folder = root().join(folder);
        fs::read_dir(folder).unwrap()
    });
    let paths = entries.map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.collect()
}

/// The anchor that a heading of a page gets where pages are shown: lowercase, words joined by `-`.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    let plain: String = heading.to_lowercase().chars().filter(kept).collect();
    plain.trim().replace(' ', "-")
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let shown = format!("{} links {target}", page.display());
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(file.exists(), "{shown}, which is not there");
            if !heading.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings
                    .map(|line| anchor(line.trim_start_matches('#')))
                    .any(|found| found == heading);
                assert!(found, "{shown}, a heading which is not there");
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

/// A source file of a crate: its path below `src`, and the paths of `crate::…` in its code.
struct Source {
    file: String,
    imports: BTreeSet<Vec<String>>,
}

/// The sources of a crate. Comments do not count, they may point anywhere; nor do tests within a file, which may
/// need what stands above it.
fn sources(name: &str) -> Vec<Source> {
    let src = root().join("crates").join(name).join("src");
    let src = src.canonicalize().unwrap();
    files()
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "tests.rs"))
        .filter_map(|path| {
            let path = path.canonicalize().unwrap();
            let file = path.strip_prefix(&src).ok()?.to_str()?.to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
            let code: Vec<_> = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            let imports = imports(&code.join("\n"));
            Some(Source { file, imports })
        })
        .collect()
}

/// Every path that begins with `crate::`, with what stands in braces behind it written out one level deep.
fn imports(code: &str) -> BTreeSet<Vec<String>> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let mut rest = &code[at + "crate::".len()..];
        let mut path = Vec::new();
        loop {
            let next = word(rest);
            if next.is_empty() {
                break;
            }
            rest = &rest[next.len()..];
            path.push(next);
            match rest.strip_prefix("::") {
                Some(more) => rest = more,
                None => break,
            }
        }
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split('}').next().unwrap_or_default();
            for item in list.split(',') {
                let mut longer = path.clone();
                longer.push(word(item.trim()));
                found.insert(longer);
            }
        }
        found.insert(path);
    }
    found
}

/// The imports that go up, or across to another folder of the same floor.
fn upward(sources: &[Source], floors: &[&[&str]]) -> Vec<String> {
    let floor = |folder: &str| floors.iter().position(|floor| floor.contains(&folder));
    let mut wrong = Vec::new();
    for source in sources {
        let Some((own, _)) = source.file.split_once('/') else {
            continue;
        };
        let here = floor(own).unwrap_or_else(|| panic!("{} stands on no floor", source.file));
        for import in &source.imports {
            let Some(there) = import.first() else {
                continue;
            };
            if there != own && floor(there).is_some_and(|floor| floor >= here) {
                wrong.push(format!(
                    "{} imports crate::{}",
                    source.file,
                    import.join("::")
                ));
            }
        }
    }
    wrong
}

/// Files that import each other in a circle, each circle once. A folder's `mod.rs` and the files below it are one
/// module to the outside, so what they take from each other does not count.
fn circles(sources: &[Source]) -> Vec<String> {
    let module = |file: &str| -> Vec<String> {
        let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
        stem.split('/').map(str::to_owned).collect()
    };
    let known: BTreeMap<Vec<String>, &str> = sources
        .iter()
        .map(|source| (module(&source.file), source.file.as_str()))
        .collect();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        let own = module(&source.file);
        for import in &source.imports {
            let target = (1..=import.len())
                .rev()
                .find_map(|n| known.get_key_value(&import[..n]));
            if let Some((there, file)) = target
                && !own.starts_with(there)
                && !there.starts_with(&own)
            {
                edges.entry(&source.file).or_default().insert(file);
            }
        }
    }
    let reachable = |from: &str| -> BTreeSet<&str> {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = left.pop() {
            for next in edges.get(file.as_str()).into_iter().flatten() {
                if seen.insert(*next) {
                    left.push((*next).to_owned());
                }
            }
        }
        seen
    };
    let mut found = BTreeSet::new();
    for file in edges.keys() {
        let circle: Vec<_> = reachable(file)
            .into_iter()
            .filter(|other| reachable(other).contains(file))
            .collect();
        if circle.len() > 1 {
            found.insert(circle.join(" <-> "));
        }
    }
    found.into_iter().collect()
}

#[test]
fn no_module_imports_from_a_floor_above_it() {
    for (name, floors) in [
        ("malai-node", &NODE_FLOORS[..]),
        ("malai", &BINARY_FLOORS[..]),
    ] {
        let sources = sources(name);
        assert!(sources.len() > 50, "{name} has {} files", sources.len());
        assert_eq!(upward(&sources, floors), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for name in ["malai-cluster", "malai-wire", "malai-node", "malai"] {
        assert_eq!(circles(&sources(name)), Vec::<String>::new(), "{name}");
    }
}

/// The two checks above find what they look for.
#[test]
fn an_import_the_wrong_way_round_is_found() {
    let source = |file: &str, code: &str| Source {
        file: file.to_owned(),
        imports: imports(code),
    };
    let sources = [
        source("os/fs.rs", "use crate::home::{Home, lock};"),
        source("home/mod.rs", "fn f() { crate::os::fs::read() }"),
        source("net/endpoint.rs", "use crate::audit::Audit;"),
        source("audit/mod.rs", "use crate::os::fs;"),
    ];
    assert_eq!(
        upward(&sources, &NODE_FLOORS),
        [
            "os/fs.rs imports crate::home",
            "os/fs.rs imports crate::home::Home",
            "os/fs.rs imports crate::home::lock",
            "net/endpoint.rs imports crate::audit::Audit",
        ]
    );
    assert_eq!(circles(&sources), ["home/mod.rs <-> os/fs.rs"]);
}

/// Words that a reader would have to learn, or that another language shines through.
const BANNED: [&str; 34] = [
    "PATIENCE",
    "LOOK",
    "twin",
    "anew",
    "take up",
    "takes up",
    "taken up",
    "taken it up",
    "mend",
    "mends",
    "mended",
    "complain",
    "complaints",
    // A process, a peer or a user: the caller, the reader, another user.
    "whoever",
    "Whoever",
    "anybody",
    "Anybody",
    // nevertheless, anyway
    "all the same",
    // rejected, rotated, evicted, a regular file
    "turned away",
    "put aside",
    "gives way",
    "ordinary file",
    // as text
    "in words for people",
    // American spelling.
    "dialled",
    "dialling",
    "dialler",
    "signalled",
    "signalling",
    "behaviour",
    "neighbour",
    "licence",
    "lower case",
    "authorisation",
    "optimisation",
];

#[test]
fn sources_and_pages_are_in_plain_words() {
    let own = Path::new("tests").join("architecture.rs");
    let mut texts = files();
    texts.retain(|path| !path.ends_with(&own));
    for folder in ["", "docs"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                texts.push(path);
            }
        }
    }
    for path in texts {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            // Words of names count as well: `old_twin` is two.
            let line = line.replace('_', " ");
            let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphabetic()).collect();
            let line = format!(" {} ", words.join(" "));
            for word in BANNED {
                let found = line.contains(&format!(" {word} "));
                assert!(!found, "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}
