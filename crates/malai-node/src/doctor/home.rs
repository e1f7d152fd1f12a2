//! The home: its owner, and who else can access it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Context, Finding};

use crate::home::keystore::quoted;
use crate::home::{Home, HomeError};
use crate::os::fs::display_path;

const CHECK: &str = "home";

/// Problems that prevent all other checks.
pub(super) fn unreadable(home: &Home) -> Vec<Finding> {
    let root = home.root();
    let shown = display_path(root);
    let found = match fs::metadata(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A home that was never used is not a problem.
            Finding::note(CHECK, format!("there is no {shown} yet"))
                .because("this computer is in no cluster")
                .fix("malai cluster init <alias>   # or: malai machine init <manager-id52> <alias>")
        }
        Err(error) => Finding::error(CHECK, format!("{shown} cannot be accessed: {error}"))
            .fix("run malai as the user that owns the home: sudo -u <user> env MALAI_HOME=<home> malai doctor"),
        Ok(found) if !found.is_dir() => Finding::error(CHECK, format!("{shown} is not a folder"))
            .fix(format!("mv {0} {0}.away", quoted(root))),
        Ok(found) => match fs::read_dir(root).and_then(|_| fs::read_dir(home.clusters()).map(drop)) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Finding::error(CHECK, format!("{shown} cannot be read: {error}")).fix(format!(
                    "sudo -u {} env MALAI_HOME={} malai doctor",
                    owner(&found),
                    quoted(root)
                ))
            }
            _ => return Vec::new(),
        },
    };
    vec![found]
}

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let home = context.home;
    let mut found = Vec::new();
    found.extend(foreign(home).or_else(|| way(home)));
    for folder in [home.root().to_path_buf(), home.clusters()] {
        found.extend(open_to_others(&folder));
    }
    if found.is_empty() {
        let shown = display_path(home.root());
        found.push(Finding::fine(
            CHECK,
            format!("only its owner can access {shown}"),
        ));
    }
    found
}

/// The name of a file's owner, or the user id.
fn owner(metadata: &Metadata) -> String {
    let user = uzers::get_user_by_uid(metadata.uid());
    user.map_or_else(
        || metadata.uid().to_string(),
        |user| user.name().to_string_lossy().into_owned(),
    )
}

/// Something that belongs to another user.
fn foreign(home: &Home) -> Option<Finding> {
    let user = rustix::process::geteuid().as_raw();
    let folders = [home.root().to_path_buf(), home.clusters()];
    let of_another = folders.iter().find_map(|folder| {
        let metadata = fs::metadata(folder).ok()?;
        (metadata.uid() != user).then_some((folder, metadata))
    });
    let (folder, metadata) = of_another?;
    let owner = owner(&metadata);
    let shown = display_path(folder);
    Some(
        Finding::warning(
            CHECK,
            format!("{shown} belongs to user {owner}, but malai runs as user id {user}"),
        )
        .because(
            "what malai writes would belong to the wrong user, and its daemon could not use it",
        )
        .fix(format!(
            "sudo -u {owner} env MALAI_HOME={} malai doctor",
            quoted(home.root())
        )),
    )
}

/// An unsafe path to the home.
fn way(home: &Home) -> Option<Finding> {
    let problem = home.require_trusted_owner().err()?;
    let finding = Finding::error(CHECK, problem.to_string()).because(
        "anyone who can replace this folder controls what malai reads, so malai refuses such a home",
    );
    Some(match problem {
        HomeError::OpenToAll { path, .. } => finding.fix(format!("chmod o-w {}", quoted(&path))),
        _ => finding.fix("MALAI_HOME=<a folder of your own> malai doctor"),
    })
}

/// A folder that others can access.
fn open_to_others(folder: &Path) -> Option<Finding> {
    let mode = fs::metadata(folder).ok()?.mode() & 0o7777;
    let shown = display_path(folder);
    (mode & 0o077 != 0).then(|| {
        Finding::warning(CHECK, format!("{shown} has mode {mode:04o}: other users can access it"))
            .because("it contains names of machines and what runs on them; the daemon tightens the mode when it starts")
            .fix(format!("chmod 700 {}", quoted(folder)))
    })
}
