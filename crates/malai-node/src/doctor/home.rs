//! The home: whose it is, and who else gets at it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Finding, Patient};
use crate::home::Home;
use crate::keystore::quoted;
use crate::store::show;

const CHECK: &str = "home";

/// What keeps the rest from being looked at.
pub(super) fn unreadable(home: &Home) -> Vec<Finding> {
    let root = home.root();
    let shown = show(root);
    let found = match fs::metadata(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Nothing is wrong with a home that was never used.
            Finding::note(CHECK, format!("there is no {shown} yet"))
                .since("this computer is in no cluster")
                .mend("malai cluster init <alias>   # or: malai machine init <manager-id52> <alias>")
        }
        Err(error) => Finding::error(CHECK, format!("{shown} cannot be looked at: {error}"))
            .mend("run malai as the user that owns the home: sudo -u <user> env MALAI_HOME=<home> malai doctor"),
        Ok(found) if !found.is_dir() => Finding::error(CHECK, format!("{shown} is not a folder"))
            .mend(format!("mv {0} {0}.away", quoted(root))),
        Ok(_) => match fs::read_dir(root).and_then(|_| fs::read_dir(home.clusters()).map(drop)) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Finding::error(CHECK, format!("{shown} cannot be read: {error}")).mend(format!(
                    "sudo -u <the owner> env MALAI_HOME={} malai doctor",
                    quoted(root)
                ))
            }
            _ => return Vec::new(),
        },
    };
    vec![found]
}

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let home = patient.home;
    let mut found = Vec::new();
    for folder in [home.root().to_path_buf(), home.clusters()] {
        found.extend(folder_problems(&folder));
    }
    if found.is_empty() {
        let shown = show(home.root());
        found.push(Finding::fine(
            CHECK,
            format!("{shown} is its owner's alone"),
        ));
    }
    found
}

fn folder_problems(folder: &Path) -> Vec<Finding> {
    let Ok(metadata) = fs::metadata(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let shown = show(folder);
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        let name = uzers::get_user_by_uid(owner);
        let name = name.map_or_else(
            || owner.to_string(),
            |user| user.name().to_string_lossy().into_owned(),
        );
        found.push(
            Finding::warning(
                CHECK,
                format!(
                    "{shown} belongs to the user {name}, and malai runs as the one with id {user}"
                ),
            )
            .since(
                "what malai writes would belong to the wrong user, and its daemon could not use it",
            )
            .mend(format!(
                "sudo -u {name} env MALAI_HOME={} malai doctor",
                quoted(folder)
            )),
        );
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        found.push(
            Finding::warning(CHECK, format!("{shown} has mode {mode:04o}: other users get into it"))
                .since("names of machines and what runs on them are in it; the daemon tightens it when it starts")
                .mend(format!("chmod 700 {}", quoted(folder))),
        );
    }
    found
}
