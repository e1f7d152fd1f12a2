//! The environment of a command, besides its arguments and streams. This is the only place that sets it, on every route.
//! `docs/surroundings.md` describes it for users.
//!
//! It depends only on the machine, not on who started malai or from where: a daemon started under `nohup nice` must not run its
//! commands niced and with SIGHUP ignored.
//!
//! A command inherits its parent's attributes. So a process that runs commands adopts those that do not hinder itself
//! ([`adopt`]), and most commands can be started with vfork. Attributes that it must keep for itself (signals ignored
//! under nohup, a niceness, more open files) are set between fork and exec ([`Remaining`]), which costs a fork.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use malai_wire::peer::exec::Terminal;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cluster::authorize::Command;
use crate::cluster::state::ClusterState;
use crate::exec::ssh_env;
use crate::os::fd::USUAL_OPEN_FILES;
use crate::os::pty::Pty;
use crate::os::user::{self, Groups, RunAs};

/// The search path for commands unless malai.toml sets one: that of a login on Debian, root or not.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The permissions that a new file does not get: writing by others.
const UMASK: Mode = Mode::from_bits_retain(0o022);

/// Soft limits that are lower than the hard ones. All others are as high as the hard limits, which stay unchanged: they are set by
/// the machine or the service, and cannot be exceeded.
const SOFT_LIMITS: [(Resource, u64); 3] = [
    // Programs that use select(2) cannot handle more; those that need more raise it.
    (Resource::Nofile, USUAL_OPEN_FILES),
    (Resource::Stack, 8 << 20),
    (Resource::Core, 0),
];

/// All resource limits of a process.
const RESOURCES: &[Resource] = &[
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Nofile,
    Resource::As,
    #[cfg(target_os = "linux")]
    Resource::Rss,
    #[cfg(target_os = "linux")]
    Resource::Nproc,
    #[cfg(target_os = "linux")]
    Resource::Memlock,
    #[cfg(target_os = "linux")]
    Resource::Locks,
    #[cfg(target_os = "linux")]
    Resource::Sigpending,
    #[cfg(target_os = "linux")]
    Resource::Msgqueue,
    #[cfg(target_os = "linux")]
    Resource::Nice,
    #[cfg(target_os = "linux")]
    Resource::Rtprio,
    #[cfg(target_os = "linux")]
    Resource::Rttime,
];

/// Lets this process receive every signal that it does not ignore, and wait for its children, however it was started. Call it
/// before other threads are started.
pub fn hear_signals() {
    signals::unblock_all();
    signals::reset(libc::SIGCHLD.into());
}

/// Adopts what this process's commands are to inherit: the umask, and soft limits.
pub fn adopt() {
    rustix::process::umask(UMASK);
    for (resource, limit) in unusual_limits() {
        // Any process may raise it up to the hard limit.
        let _ = setrlimit(resource, limit);
    }
}

/// The same for a daemon, which has no caller whose ignored signals it must respect.
pub fn adopt_in_daemon() {
    adopt();
    signals::reset_ignored();
}

/// The soft limits that differ from a command's, with their new values.
fn unusual_limits() -> impl Iterator<Item = (Resource, Rlimit)> {
    RESOURCES.iter().filter_map(|&resource| {
        let now = getrlimit(resource);
        let soft = SOFT_LIMITS.iter().find(|(other, _)| *other == resource);
        let current = match (soft, now.maximum) {
            (Some((_, soft)), Some(maximum)) => Some((*soft).min(maximum)),
            (Some((_, soft)), None) => Some(*soft),
            (None, maximum) => maximum,
        };
        let limit = Rlimit { current, ..now };
        (limit != now).then_some((resource, limit))
    })
}

/// What a new process has to set for itself because it cannot inherit it. Prepared before the fork, so that nothing is
/// allocated after it.
#[derive(Debug, Default)]
pub(super) struct Remaining {
    signals: bool,
    limits: Vec<(Resource, Rlimit)>,
    niceness: bool,
    scheduling: bool,
    oom: bool,
    groups: Option<Groups>,
}

impl Remaining {
    /// What a child of the calling thread has to set to run a command as this user.
    pub(super) fn of(run_as: &RunAs) -> Self {
        rustix::process::umask(UMASK);
        Self {
            signals: signals::any_ignored() || signals::any_blocked(),
            limits: unusual_limits().collect(),
            niceness: may_reset_niceness(),
            scheduling: scheduling::is_unusual(),
            oom: is_spared_from_oom(),
            // Another user's groups are set with that user.
            groups: match run_as.switch {
                Some(_) => None,
                None => Groups::missing(),
            },
        }
    }

    /// Whether nothing remains, so that no fork is needed.
    pub(super) fn is_empty(&self) -> bool {
        !self.signals
            && self.limits.is_empty()
            && !self.niceness
            && !self.scheduling
            && !self.oom
            && self.groups.is_none()
    }

    /// Sets it for the calling process, which has one thread: only system calls, nothing is allocated and no lock taken. Call it before
    /// dropping the privileges that it needs.
    ///
    /// # Errors
    ///
    /// The groups cannot be set. Then nothing may be run.
    pub(super) fn set(&self) -> io::Result<()> {
        signals::reset_all();
        signals::unblock_all();
        // If the system refuses one of these, it stays as it was.
        for (resource, limit) in &self.limits {
            let _ = setrlimit(*resource, *limit);
        }
        if self.scheduling {
            scheduling::reset();
        }
        if self.niceness {
            let _ = rustix::process::setpriority_process(None, 0);
        }
        if self.oom {
            spare_no_longer();
        }
        match &self.groups {
            Some(groups) => groups.set(),
            None => Ok(()),
        }
    }
}

/// Whether this process has a niceness that a child may reset.
#[cfg(target_os = "linux")]
fn may_reset_niceness() -> bool {
    let Ok(niceness) = rustix::process::getpriority_process(None) else {
        return false;
    };
    // RLIMIT_NICE counts up to this for niceness 0.
    const ALLOWED: u64 = 20;
    let allowed = getrlimit(Resource::Nice).current;
    niceness < 0
        || niceness > 0 && (user::may_schedule() || allowed.is_none_or(|limit| limit >= ALLOWED))
}

/// The file with the process's priority for the out-of-memory killer.
const OOM: &std::ffi::CStr = c"/proc/self/oom_score_adj";

/// Whether this process is protected from the out-of-memory killer, as a service may be. Its commands are not.
fn is_spared_from_oom() -> bool {
    static SPARED: OnceLock<bool> = OnceLock::new();
    *SPARED.get_or_init(|| {
        std::fs::read_to_string("/proc/self/oom_score_adj")
            .is_ok_and(|score| score.starts_with('-'))
    })
}

fn spare_no_longer() {
    if let Ok(score) = rustix::fs::open(OOM, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(score, b"0");
    }
}

/// The search path for commands: `PATH` in their environment.
pub(super) fn path(state: &ClusterState) -> String {
    let environment = state.node.environment.get();
    environment
        .get("PATH")
        .map_or(PATH, String::as_str)
        .to_owned()
}

/// The complete environment variables of a command.
pub(super) fn variables(
    state: &ClusterState,
    command: &Command,
    terminal: Option<(&Terminal, &Pty)>,
) -> BTreeMap<OsString, OsString> {
    let run_as = &command.run_as;
    let mut variables: BTreeMap<OsString, OsString> = BTreeMap::new();
    let mut set = |name: &str, value: &OsStr| drop(variables.insert(name.into(), value.into()));
    set("PATH", OsStr::new(PATH));
    if let Some(language) = language() {
        set("LANG", language);
    }
    for (name, value) in &*state.node.environment.get() {
        set(name, OsStr::new(value));
    }
    // The caller's variables that this machine accepts.
    for (name, value) in &command.env {
        set(name, OsStr::from_bytes(value));
    }
    if let Some(name) = &run_as.name {
        set("USER", name);
        set("LOGNAME", name);
    }
    if let Some(shell) = &run_as.shell {
        set("SHELL", shell.as_os_str());
    }
    set("HOME", run_as.home.as_os_str());
    if let Some(folder) = runtime_folder(Path::new("/run/user"), run_as.uid) {
        set("XDG_RUNTIME_DIR", folder.as_os_str());
    }
    set("MALAI_CLIENT_ID52", OsStr::new(&command.from.to_string()));
    set("MALAI_CLUSTER", OsStr::new(state.alias().as_str()));
    if let Some(machine) = command.cluster.machine(&command.from) {
        set("MALAI_CLIENT_MACHINE", OsStr::new(machine.name().as_str()));
    }
    for (name, value) in ssh_env::variables(state, command, terminal.map(|(_, pty)| pty)) {
        set(name, &value);
    }
    if let Some((terminal, _)) = terminal {
        set("TERM", OsStr::new(terminal.term.as_str()));
    }
    variables
}

/// The user's runtime folder, if it exists, is not a link, and belongs to this user.
fn runtime_folder(all: &Path, uid: u32) -> Option<PathBuf> {
    let folder = all.join(uid.to_string());
    let found = std::fs::symlink_metadata(&folder).ok()?;
    (found.is_dir() && found.uid() == uid).then_some(folder)
}

/// The language of this machine, as in its logins.
fn language() -> Option<&'static OsStr> {
    static LANGUAGE: OnceLock<Option<OsString>> = OnceLock::new();
    let read = || {
        ["/etc/locale.conf", "/etc/default/locale"]
            .iter()
            .find_map(|file| assigned(&std::fs::read_to_string(file).ok()?, "LANG"))
    };
    LANGUAGE.get_or_init(read).as_deref()
}

/// The value of a name in a file of shell assignments.
fn assigned(text: &str, name: &str) -> Option<OsString> {
    let mut values = text.lines().filter_map(|line| {
        let (found, value) = line.trim().split_once('=')?;
        (found.trim() == name).then_some(value.trim())
    });
    let value = values.next_back()?;
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    let value = quoted.unwrap_or(value);
    (!value.is_empty()).then(|| value.into())
}

/// Dispositions and the mask of all 64 signals, two of which the C library hides.
#[cfg(target_os = "linux")]
mod signals {
    use std::ffi::c_long;
    use std::ptr::null_mut;

    /// SIGKILL and SIGSTOP have no disposition. SIGPIPE is ignored in every Rust program, and at its default in what the standard
    /// library starts.
    const OTHERS: [c_long; 3] = [
        libc::SIGKILL as c_long,
        libc::SIGSTOP as c_long,
        libc::SIGPIPE as c_long,
    ];

    /// Internal signals of the C library, which glibc's posix_spawn leaves ignored in the child. So they are ignored in forked children,
    /// too, and there is no difference. Every program's own C library resets them.
    const INTERNAL: &[c_long] = match cfg!(target_env = "gnu") {
        true => &[32, 33],
        false => &[],
    };

    /// `struct sigaction` of the kernel, with room to spare: the disposition first, then flags and a mask.
    type Action = [usize; 8];

    /// The size of a set of signals in bytes.
    const SET: usize = 8;

    fn all() -> impl Iterator<Item = c_long> {
        (1..=64).filter(|number| !OTHERS.contains(number) && !INTERNAL.contains(number))
    }

    fn is_ignored(number: c_long) -> bool {
        let mut action: Action = [0; 8];
        let new = null_mut::<Action>();
        // SAFETY: it only writes to `action`, which is larger than what the kernel writes.
        #[allow(unsafe_code)]
        let result =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, number, new, &raw mut action, SET) };
        result == 0 && action[0] == libc::SIG_IGN
    }

    pub(super) fn reset(number: c_long) {
        // No flags, and an empty mask.
        let mut action: Action = [0; 8];
        action[0] = match INTERNAL.contains(&number) {
            true => libc::SIG_IGN,
            false => libc::SIG_DFL,
        };
        let old = null_mut::<Action>();
        // SAFETY: it only reads `action`. It installs no handler.
        #[allow(unsafe_code)]
        let _ =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, number, &raw const action, old, SET) };
    }

    /// Whether any is ignored. Checked once, because nothing here ignores one later.
    pub(super) fn any_ignored() -> bool {
        all().any(is_ignored)
    }

    pub(super) fn reset_ignored() {
        all().filter(|number| is_ignored(*number)).for_each(reset);
    }

    pub(super) fn reset_all() {
        (1..=64).for_each(reset);
    }

    pub(super) fn any_blocked() -> bool {
        let mut blocked = 0u64;
        // SAFETY: it only writes 8 bytes to `blocked`.
        #[allow(unsafe_code)]
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_BLOCK,
                null_mut::<u64>(),
                &raw mut blocked,
                SET,
            )
        };
        blocked != 0
    }

    pub(super) fn unblock_all() {
        let none = 0u64;
        // SAFETY: it only reads 8 bytes from `none`.
        #[allow(unsafe_code)]
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const none,
                null_mut::<u64>(),
                SET,
            )
        };
    }
}

/// The scheduling classes, for the processor and for disks.
#[cfg(target_os = "linux")]
mod scheduling {
    /// `IOPRIO_WHO_PROCESS`; with the id 0, the calling process.
    const WHO_PROCESS: libc::c_long = 1;

    /// The class is in the upper bits of an I/O priority.
    const CLASS_SHIFT: u32 = 13;

    /// `IOPRIO_CLASS_BE`.
    const BEST_EFFORT: libc::c_long = 2;

    pub(super) fn is_unusual() -> bool {
        // SAFETY: both only read kernel data about the calling thread.
        #[allow(unsafe_code)]
        let (policy, disk) = unsafe {
            (
                libc::sched_getscheduler(0),
                libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0),
            )
        };
        // Negative if reading is forbidden; then changing it is forbidden, too.
        let is_usual_for_disks = match disk >> CLASS_SHIFT {
            // Some kernels report this for a process without a class; its level then comes from the niceness.
            BEST_EFFORT => {
                let niceness = rustix::process::getpriority_process(None).unwrap_or(0);
                disk & ((1 << CLASS_SHIFT) - 1) == libc::c_long::from((niceness + 20) / 5)
            }
            class => class <= 0,
        };
        policy > libc::SCHED_OTHER || !is_usual_for_disks
    }

    pub(super) fn reset() {
        let usual = libc::sched_param { sched_priority: 0 };
        // SAFETY: both only read their arguments, and only change kernel data about the calling thread.
        #[allow(unsafe_code)]
        unsafe {
            libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const usual);
            libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, 0);
        }
    }
}

/// On this system dispositions and the mask are inherited.
#[cfg(not(target_os = "linux"))]
mod signals {
    pub(super) fn reset(_: i64) {}

    pub(super) fn any_ignored() -> bool {
        false
    }

    pub(super) fn reset_ignored() {}

    pub(super) fn reset_all() {}

    pub(super) fn any_blocked() -> bool {
        false
    }

    pub(super) fn unblock_all() {}
}

/// On this system niceness and scheduling are inherited.
#[cfg(not(target_os = "linux"))]
mod scheduling {
    pub(super) fn is_unusual() -> bool {
        false
    }

    pub(super) fn reset() {}
}

#[cfg(not(target_os = "linux"))]
fn may_reset_niceness() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_folder_is_its_users_and_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let own = rustix::process::geteuid().as_raw();
        let path = folder.path().join(own.to_string());
        assert_eq!(runtime_folder(folder.path(), own), None);
        std::fs::create_dir(&path).unwrap();
        assert_eq!(runtime_folder(folder.path(), own), Some(path.clone()));
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(runtime_folder(folder.path(), own), None);
        std::fs::create_dir(folder.path().join((own + 1).to_string())).unwrap();
        assert_eq!(
            runtime_folder(folder.path(), own + 1),
            None,
            "another user's"
        );
    }

    #[test]
    fn the_language_is_read_as_a_shell_reads_it() {
        for (text, expected) in [
            ("LANG=C.UTF-8\n", Some("C.UTF-8")),
            ("# LANG=x\nLC_ALL=y\n", None),
            ("LANG=\"de_AT.UTF-8\"\n", Some("de_AT.UTF-8")),
            ("  LANG='en'  \n", Some("en")),
            ("LANG=a\nLANG=b", Some("b")),
            ("LANG=\n", None),
            ("", None),
        ] {
            let found = assigned(text, "LANG");
            assert_eq!(found.as_deref(), expected.map(OsStr::new), "{text:?}");
        }
    }
}
