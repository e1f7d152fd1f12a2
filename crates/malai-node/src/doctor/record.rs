//! The audit record: whether it can be written.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::{Context, Finding};

use crate::home::keystore::quoted;
use crate::os::fs::{StoreError, display_path, open_own};

const CHECK: &str = "audit";

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let path = context.home.audit();
    let shown = display_path(&path);
    let root = quoted(context.home.root());
    let full = || {
        (
            "no space is left".to_owned(),
            format!("df -h {root}; df -i {root}"),
        )
    };
    let problem = match fs::symlink_metadata(&path) {
        _ if super::space::is_read_only(context.home.root()) => Some((
            "the file system is read-only".to_owned(),
            format!("findmnt -T {root}"),
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (!has_room(context.home.root())).then(full)
        }
        Err(error) => Some((error.to_string(), format!("ls -l {}", quoted(&path)))),
        Ok(_) => {
            // Opened in the same way as by the daemon, but not written.
            let away = format!("mv {0} {0}.away", quoted(&path));
            match open_own(&path, OpenOptions::new().append(true)) {
                Ok(_) => (!has_room(&path)).then(full),
                Err(StoreError::NotAFile { .. }) => {
                    Some(("it is not a regular file".to_owned(), away))
                }
                Err(StoreError::Link { .. }) => Some(("it is a symbolic link".to_owned(), away)),
                Err(StoreError::Io { source, .. })
                    if source.kind() != std::io::ErrorKind::PermissionDenied =>
                {
                    Some((source.to_string(), away))
                }
                Err(error) => {
                    let user = crate::os::user::own_name().unwrap_or_default();
                    let why = match error {
                        StoreError::Io { source, .. } => source.to_string(),
                        _ => "it belongs to another user".to_owned(),
                    };
                    Some((
                        why,
                        format!("sudo chown {user} {0} && chmod 600 {0}", quoted(&path)),
                    ))
                }
            }
        }
    };
    // The daemon has tried to write, which tells more than any check of the file.
    let trouble = context.answered().and_then(|facts| facts.audit.clone());
    let Some((problem, remedy)) = problem.or_else(|| trouble.is_some().then(full)) else {
        return vec![Finding::fine(CHECK, format!("{shown} can be written"))];
    };
    let what = trouble.unwrap_or_else(|| format!("{shown} cannot be written: {problem}"));
    vec![unwritable(context, what).fix(remedy)]
}

fn unwritable(context: &Context<'_>, what: String) -> Finding {
    match context.settings.audit.required {
        true => Finding::error(CHECK, what)
            .because("malai.toml says audit = \"required\": every command is refused"),
        false => Finding::warning(CHECK, what).because("commands run here without being recorded"),
    }
}

/// Whether there is space for a record where the file is. If that is unknown, it does not count as a problem.
fn has_room(path: &Path) -> bool {
    const BLOCK: u64 = 4096;
    let is_root = rustix::process::geteuid().is_root();
    rustix::fs::statvfs(path).map_or(true, |disk| {
        // Space reserved for root counts only for root.
        let free = if is_root { disk.f_bfree } else { disk.f_bavail };
        free.saturating_mul(disk.f_frsize) >= BLOCK
    })
}
