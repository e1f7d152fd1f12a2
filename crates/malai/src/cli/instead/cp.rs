//! Answers to options that people type after `malai cp` out of habit.

use std::ffi::OsString;

/// Options of scp, cp and rsync, after `malai cp`. What is not here has the same answer after any verb.
pub(super) const OPTIONS: &[(&str, &str)] = &[
    ("-P", "malai needs no port: a machine is found by its key"),
    (
        "-l",
        "malai cp has no rate limit, and copies the symbolic links in a folder as links",
    ),
    ("--bwlimit", "malai cp has no rate limit"),
    (
        "--links",
        "malai cp copies the symbolic links in a folder as links",
    ),
    (
        "-L",
        "malai cp follows a symbolic link only if it is named itself",
    ),
    ("-z", "malai does not compress what it sends"),
    ("--compress", "malai does not compress what it sends"),
    ("-v", SHOWS),
    ("--verbose", SHOWS),
    ("--progress", SHOWS),
    (
        "-q",
        "malai cp prints only what was not copied, and on a terminal its progress",
    ),
    (
        "--quiet",
        "malai cp prints only what was not copied, and on a terminal its progress",
    ),
    ("--delete", "malai cp removes nothing at the destination"),
    ("--exclude", NAMES),
    ("--include", NAMES),
    ("--filter", NAMES),
    ("-u", COMPARES),
    ("--update", COMPARES),
    ("-c", COMPARES),
    ("--checksum", COMPARES),
    ("-f", "malai cp replaces existing files; -n keeps them"),
    ("--force", "malai cp replaces existing files; -n keeps them"),
    ("-t", "-p keeps modes and times"),
    ("--times", "-p keeps modes and times"),
    ("-A", "-a keeps ACLs and extended attributes"),
    ("--acls", "-a keeps ACLs and extended attributes"),
    ("-X", "-a keeps ACLs and extended attributes"),
    ("--xattrs", "-a keeps ACLs and extended attributes"),
    ("-H", "-a keeps hard links"),
    ("--hard-links", "-a keeps hard links"),
    ("-S", "malai cp always keeps holes"),
    ("--sparse", "malai cp always keeps holes"),
    ("-d", "-a copies links as links"),
    ("-e", "malai cp connects by itself, without ssh"),
    ("--rsh", "malai cp connects by itself, without ssh"),
    ("--partial", RESUMES),
    ("--append", RESUMES),
    ("--inplace", RESUMES),
    ("--dry-run", "malai cp cannot try a copy without making it"),
    (
        "-3",
        "a copy from one machine to another always goes through this computer",
    ),
    ("-B", "malai asks for no password"),
    ("-O", "malai cp has its own protocol"),
    ("-s", "malai cp has its own protocol"),
    (
        "-T",
        "malai cp always checks the names that a machine sends",
    ),
];

const SHOWS: &str = "malai cp names what was not copied, and shows its progress on a terminal; --json writes both as JSON lines";
const NAMES: &str =
    "malai cp copies a folder with everything in it: name the files and folders to copy";
const COMPARES: &str = "malai cp always compares contents, and sends only what differs";
const RESUMES: &str = "an interrupted copy resumes when the same command is run again";

/// The answers for the verb that was typed.
pub(super) fn answers(typed: &[OsString]) -> &'static [(&'static str, &'static str)] {
    let verb = typed
        .iter()
        .find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    match verb {
        Some(verb) if verb == "cp" => OPTIONS,
        _ => &[],
    }
}
