//! `malai man`: a page for each verb, well formed for the system's own `man`.

use std::fs;
use std::process::{Command, Stdio};

use crate::world::World;

#[test]
fn every_verb_has_a_page_with_examples() {
    let world = World::new();
    let folder = world.home().join("man1");
    let said = world.succeed(&["man", "--out", folder.to_str().unwrap()]);
    let pages: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap()).collect();
    assert!(
        said.starts_with(&format!("wrote {} manual pages", pages.len())),
        "{said}"
    );
    assert!(pages.len() > 15, "{pages:?}");
    for page in &pages {
        let text = fs::read_to_string(page.path()).unwrap();
        let name = page.file_name().into_string().unwrap();
        for part in [
            ".TH ",
            ".SH NAME",
            ".SH SYNOPSIS",
            ".SH EXAMPLES",
            ".SH OPTIONS",
        ] {
            assert!(text.contains(part), "{name} has no {part}:\n{text}");
        }
        assert!(!name.contains("reaper") && !name.contains("help"), "{name}");
    }
    for name in ["malai.1", "malai-status.1", "malai-cluster-add.1"] {
        assert!(folder.join(name).exists(), "{name}");
    }
    let shown = world.succeed(&["man", "cluster", "add"]);
    assert_eq!(
        shown,
        fs::read_to_string(folder.join("malai-cluster-add.1")).unwrap()
    );

    let groff = Command::new("man")
        .args(["--warnings", "-E", "UTF-8", "-l"])
        .arg(folder.join("malai.1"))
        .env("MANWIDTH", "100")
        .stdin(Stdio::null())
        .output();
    match groff {
        Ok(output) if output.status.success() => {
            assert!(output.stderr.is_empty(), "{output:?}");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("malai web01.company ps aux"), "{text}");
        }
        other => eprintln!("LEFT OUT: man does not run here: {other:?}"),
    }
}

#[test]
fn a_page_that_is_not_there_is_answered_with_the_nearest() {
    let world = World::new();
    let picture = world.picture(&["man", "statsu"]);
    let expected = "exit code: 2\n----- stderr -----\nmalai: there is no manual page for statsu; did you mean status?\n";
    assert_eq!(picture, expected);
}
