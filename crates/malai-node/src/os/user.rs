//! Users of this computer: whom commands can run as, and switching to them.

use std::ffi::{CString, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use malai_cluster::UserName;
use rustix::process::{Gid, Uid};
use uzers::os::unix::UserExt;

/// A user of this computer that commands run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// Its name, if the user database has one.
    pub name: Option<OsString>,
    /// Its user id, which is what counts.
    pub uid: u32,
    /// Its home folder.
    pub home: PathBuf,
    /// Its shell.
    pub shell: Option<PathBuf>,
    /// The credentials to switch to; `None` for the daemon's own user.
    pub switch: Option<Credentials>,
}

/// The groups and the user to switch to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    groups: Vec<u32>,
    gid: u32,
    uid: u32,
}

impl Credentials {
    /// The credentials of a login as this user: the groups are those that initgroups(3) would set.
    fn of_login(user: &uzers::User) -> Self {
        let groups = user.groups().unwrap_or_default();
        let mut groups: Vec<u32> = groups.iter().map(uzers::Group::gid).collect();
        groups.push(user.primary_group_id());
        groups.sort_unstable();
        groups.dedup();
        Self {
            groups,
            gid: user.primary_group_id(),
            uid: user.uid(),
        }
    }
}

#[cfg(target_os = "linux")]
impl Credentials {
    /// Runs a function with these groups and as this user, on a thread of its own. The rest of this process keeps its user.
    ///
    /// # Errors
    ///
    /// This process may not switch to that user, or the function failed.
    pub(crate) fn act<T: Send>(
        &self,
        action: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let (gid, uid) = (Gid::from_raw(self.gid), Uid::from_raw(self.uid));
        let acted = std::thread::scope(|scope| {
            let acting = scope.spawn(|| {
                rustix::thread::set_thread_groups(&groups)?;
                rustix::thread::set_thread_res_gid(gid, gid, gid)?;
                rustix::thread::set_thread_res_uid(uid, uid, uid)?;
                action()
            });
            acting.join()
        });
        acted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(not(target_os = "linux"))]
impl Credentials {
    /// Not available on this system.
    ///
    /// # Errors
    ///
    /// Always.
    pub(crate) fn act<T: Send>(
        &self,
        _action: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The groups of a process: its group and the supplementary ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Groups {
    gid: Gid,
    groups: Vec<Gid>,
}

impl Groups {
    /// Those of a fresh login as the user of this process, if this process has others and may change them. They are for a
    /// child, between fork and exec; this process keeps its own.
    pub(crate) fn missing() -> Option<Self> {
        if !may_switch() {
            return None;
        }
        let login = Credentials::of_login(&uzers::get_user_by_uid(uzers::get_effective_uid())?);
        let gid = rustix::process::getegid().as_raw();
        let mut now = rustix::process::getgroups().ok()?;
        now.push(Gid::from_raw(gid));
        let mut now: Vec<u32> = now.into_iter().map(Gid::as_raw).collect();
        now.sort_unstable();
        now.dedup();
        (gid != login.gid || now != login.groups).then(|| Self {
            gid: Gid::from_raw(login.gid),
            groups: login.groups.iter().copied().map(Gid::from_raw).collect(),
        })
    }

    /// Sets them. System calls only.
    ///
    /// # Errors
    ///
    /// The system refuses. Then nothing may be run.
    #[cfg(target_os = "linux")]
    pub(crate) fn set(&self) -> io::Result<()> {
        rustix::thread::set_thread_groups(&self.groups)?;
        Ok(rustix::thread::set_thread_res_gid(
            self.gid, self.gid, self.gid,
        )?)
    }

    /// Not supported on this system in this version.
    ///
    /// # Errors
    ///
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn set(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The groups that a fresh login as this user would have and that are not among these, by name.
pub(crate) fn groups_lacking(uid: u32, groups: &[u32]) -> Vec<String> {
    let Some(user) = uzers::get_user_by_uid(uid) else {
        return Vec::new();
    };
    let login = Credentials::of_login(&user).groups;
    let lacking = login.into_iter().filter(|group| !groups.contains(group));
    let name = |group| match uzers::get_group_by_gid(group) {
        Some(found) => malai_cluster::escape(&found.name().to_string_lossy()),
        None => group.to_string(),
    };
    lacking.map(name).collect()
}

/// Why a command cannot run as a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// There is no user with this name.
    #[error("there is no user `{0}` on this computer")]
    Unknown(UserName),
    /// The daemon is neither root nor has the capabilities that it takes.
    #[error("the daemon does not run as `{0}` and may not switch users")]
    MayNot(UserName),
}

/// Why a user cannot have a shell here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoShell {
    /// Its shell does not permit logins.
    #[error("{user} has no login shell on that machine ({shell}); running commands still works")]
    Closed {
        /// The user.
        user: String,
        /// Its shell.
        shell: String,
    },
    /// Its shell is not a program.
    #[error("the shell of {user} there, {shell}, cannot be run: {why}")]
    Broken {
        /// The user.
        user: String,
        /// Its shell.
        shell: String,
        /// The system's error.
        why: String,
    },
}

/// The user as text, for messages and records.
impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(&malai_cluster::escape(&name.to_string_lossy())),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

impl RunAs {
    /// The shell of a login as this user.
    ///
    /// # Errors
    ///
    /// The user cannot log in, or its shell does not exist.
    pub fn login_shell(&self) -> Result<&Path, NoShell> {
        // As passwd(5) defines an empty field.
        let fallback = Path::new("/bin/sh");
        let shell = self
            .shell
            .as_deref()
            .filter(|shell| !shell.as_os_str().is_empty());
        let shell = shell.unwrap_or(fallback);
        let shown = || malai_cluster::escape(&shell.to_string_lossy());
        let user = || format!("user {self}");
        let closed = ["false", "nologin", "true"];
        if closed
            .iter()
            .any(|name| shell.file_name() == Some(name.as_ref()))
        {
            return Err(NoShell::Closed {
                user: user(),
                shell: shown(),
            });
        }
        let broken = |why: String| NoShell::Broken {
            user: user(),
            shell: shown(),
            why,
        };
        let found = std::fs::metadata(shell).map_err(|error| broken(error.to_string()))?;
        if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
            return Err(broken("it is not a program".to_owned()));
        }
        Ok(shell)
    }

    /// The user that this process runs as.
    pub fn own() -> Self {
        let uid = uzers::get_effective_uid();
        let user = uzers::get_user_by_uid(uid);
        RunAs {
            name: user.as_ref().map(|user| user.name().to_owned()),
            uid,
            home: user
                .as_ref()
                .map_or_else(|| "/".into(), |user| user.home_dir().to_owned()),
            shell: user.map(|user| user.shell().to_owned()),
            switch: None,
        }
    }

    /// The user with this name, if this process may run commands as it.
    ///
    /// # Errors
    ///
    /// There is no such user, or this process may not switch to it.
    pub fn named(name: &UserName) -> Result<Self, AccountError> {
        let user = uzers::get_user_by_name(name.as_str())
            .ok_or_else(|| AccountError::Unknown(name.clone()))?;
        let switch = if user.uid() == uzers::get_effective_uid() {
            None
        } else if may_switch() {
            // All groups of the user and none of the daemon's.
            Some(Credentials::of_login(&user))
        } else {
            return Err(AccountError::MayNot(name.clone()));
        };
        Ok(RunAs {
            name: Some(user.name().to_owned()),
            uid: user.uid(),
            home: user.home_dir().to_owned(),
            shell: Some(user.shell().to_owned()),
            switch,
        })
    }
}

/// The name of the user that this process runs as; `None` if the user database has none.
pub(crate) fn own_name() -> Option<String> {
    uzers::get_user_by_uid(uzers::get_effective_uid())
        .map(|user| user.name().to_string_lossy().into_owned())
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    uzers::get_effective_uid() == 0
}

/// Whether this computer has this user.
pub(crate) fn exists(name: &UserName) -> bool {
    uzers::get_user_by_name(name.as_str()).is_some()
}

/// The capabilities that switching users needs.
#[cfg(target_os = "linux")]
const SWITCHING: rustix::thread::CapabilitySet =
    rustix::thread::CapabilitySet::SETUID.union(rustix::thread::CapabilitySet::SETGID);

/// Whether this process may switch users: it is root, unless root's capabilities were removed, or its service manager
/// gave it the two capabilities.
#[cfg(target_os = "linux")]
pub(crate) fn may_switch() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|held| held.effective.contains(SWITCHING))
}

/// Whether this process may act with another user's permissions, see [`acting_as`]. The reaper has this capability and
/// not the one that switching groups needs.
#[cfg(target_os = "linux")]
pub(crate) fn may_act_as_others() -> bool {
    use rustix::thread::CapabilitySet;
    rustix::thread::capabilities(None)
        .is_ok_and(|held| held.effective.contains(CapabilitySet::SETUID))
}

/// Not available on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn may_act_as_others() -> bool {
    false
}

/// Whether this process keeps its capabilities when it switches users: only root loses them; capabilities(7).
fn keeps_capabilities() -> bool {
    uzers::get_effective_uid() != 0
}

/// Makes the capabilities of this process its own: programs that it runs do not inherit them. Call it while there is
/// only one thread: each thread has its own.
///
/// # Errors
///
/// The system's refusal.
#[cfg(target_os = "linux")]
pub fn keep_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets};
    if !keeps_capabilities() {
        return Ok(());
    }
    let held = rustix::thread::capabilities(None)?;
    if held.inheritable.is_empty() {
        return Ok(());
    }
    // A capability that is not inheritable is not ambient either.
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets {
        inheritable,
        ..held
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// This system has no capabilities.
///
/// # Errors
///
/// None.
#[cfg(not(target_os = "linux"))]
pub fn keep_capabilities() -> io::Result<()> {
    Ok(())
}

/// The capability that a new process of this program keeps through exec if it has to signal other users' processes.
/// Made before the fork.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeptCapability(bool);

impl KeptCapability {
    /// As far as this process has it.
    pub(crate) fn new() -> Self {
        Self(keeps_capabilities() && may_switch())
    }

    /// Whether it has to be kept.
    pub(crate) fn is_needed(self) -> bool {
        self.0
    }

    /// Keeps it through exec. System calls only.
    ///
    /// # Errors
    ///
    /// The system's refusal.
    #[cfg(target_os = "linux")]
    pub(crate) fn keep(self) -> io::Result<()> {
        use rustix::thread::{CapabilitySet, CapabilitySets};
        let held = rustix::thread::capabilities(None)?;
        let sets = CapabilitySets {
            inheritable: CapabilitySet::SETUID,
            ..held
        };
        rustix::thread::set_capabilities(None, sets)?;
        rustix::thread::configure_capability_in_ambient_set(CapabilitySet::SETUID, true)?;
        Ok(())
    }

    /// This system has no capabilities.
    ///
    /// # Errors
    ///
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn keep(self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a function with another user's permissions: on a thread of its own, with that effective user. The rest of this
/// process keeps its user.
///
/// # Errors
///
/// This process may not switch to that user, or the function failed.
#[cfg(target_os = "linux")]
pub(crate) fn acting_as<T: Send>(
    user: u32,
    action: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let own = rustix::process::getuid();
    let acted = std::thread::scope(|scope| {
        let acting = scope.spawn(|| {
            rustix::thread::set_thread_res_uid(own, Uid::from_raw(user), own)?;
            action()
        });
        acting.join()
    });
    acted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Not available on this system.
///
/// # Errors
///
/// Always.
#[cfg(not(target_os = "linux"))]
pub(crate) fn acting_as<T: Send>(
    _user: u32,
    _action: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether this process may lower the niceness of itself or a child.
#[cfg(target_os = "linux")]
pub(crate) fn may_schedule() -> bool {
    use rustix::thread::CapabilitySet;
    rustix::thread::capabilities(None)
        .is_ok_and(|held| held.effective.contains(CapabilitySet::SYS_NICE))
}

/// Whether this process may lower the niceness of itself or a child: unknown on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn may_schedule() -> bool {
    false
}

/// Whether this process may switch users: not supported on this system in this version.
#[cfg(not(target_os = "linux"))]
pub fn may_switch() -> bool {
    false
}

/// What a new process does between fork and exec to switch users. Built before the fork, so that nothing is
/// allocated after it.
#[derive(Debug)]
pub(crate) struct PrivilegeDrop {
    groups: Vec<Gid>,
    gid: Gid,
    uid: Uid,
    home: CString,
    /// Whether capabilities are to be given up by themselves.
    keeps_capabilities: bool,
}

impl PrivilegeDrop {
    /// Prepares switching to this user.
    pub(crate) fn new(switch: &Credentials, home: &Path) -> Self {
        PrivilegeDrop {
            groups: switch.groups.iter().copied().map(Gid::from_raw).collect(),
            gid: Gid::from_raw(switch.gid),
            uid: Uid::from_raw(switch.uid),
            home: CString::new(home.as_os_str().as_bytes()).unwrap_or_default(),
            keeps_capabilities: keeps_capabilities(),
        }
    }

    /// Switches permanently: first the groups, while it still may, then the group, then the user, each with its saved id;
    /// then drops every capability and changes to the home folder, if the user may. System calls only.
    ///
    /// # Errors
    ///
    /// Any step fails. Then nothing may be run.
    #[cfg(target_os = "linux")]
    pub(crate) fn apply(&self) -> io::Result<()> {
        // A new session: the process must not have the terminal that the daemon was started on.
        rustix::process::setsid()?;
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)?;
        if self.keeps_capabilities {
            let none = rustix::thread::CapabilitySet::empty();
            let sets = rustix::thread::CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            };
            rustix::thread::set_capabilities(None, sets)?;
        }
        // The switch must be irreversible.
        if self.uid.as_raw() != 0 && rustix::thread::set_thread_uid(Uid::ROOT).is_ok() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if rustix::process::chdir(self.home.as_c_str()).is_err() {
            rustix::process::chdir(c"/")?;
        }
        Ok(())
    }

    /// Switching users is not supported on this system in this version.
    ///
    /// # Errors
    ///
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn apply(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_login_that_a_process_has_not_are_named() {
        let Some(user) = uzers::get_user_by_uid(uzers::get_effective_uid()) else {
            return;
        };
        let login = Credentials::of_login(&user);
        let none: Vec<String> = Vec::new();
        assert_eq!(groups_lacking(login.uid, &login.groups), none);
        let without = groups_lacking(login.uid, &[]);
        assert_eq!(without.len(), login.groups.len(), "{without:?}");
    }
}
