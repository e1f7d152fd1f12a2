//! Starts commands: in the right environment, as the right user, in their own process group.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use malai_cluster::{Run, ServedFolder};
use malai_wire::peer::exec::Terminal;
use rustix::fs::{Access, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::process::Child;

use crate::cluster::authorize::Command;
use crate::cluster::state::ClusterState;
use crate::exec::file_reports::ReportsOut;
use crate::exec::surroundings::{self, Remaining};
use crate::node::reaper::Kind;
use crate::os::fd;
use crate::os::pty::Pty;
use crate::os::user::PrivilegeDrop;

/// Marks descriptors that this process was started with as close-on-exec: files that were open when `malai daemon` was typed
/// must not be passed to commands. Call this before opening any others; those that malai opens are not passed on anyway.
pub fn keep_descriptors() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// The argument list to run: the one from the policy, or the shell's.
pub(super) fn argument_list(command: &Command) -> Vec<Vec<u8>> {
    let shell = || {
        let shell = command.run_as.login_shell();
        // Without one, the command would not have been granted.
        shell.map_or_else(
            |_| b"sh".to_vec(),
            |shell| shell.as_os_str().as_bytes().to_vec(),
        )
    };
    match &command.grant.run {
        Run::Shell => vec![shell()],
        // This same program, as the command's user.
        Run::Sftp(folder) => file_server("sftp-server", folder.as_ref()),
        Run::Copy(folder) => file_server("cp-server", folder.as_ref()),
        Run::Line(line) => vec![shell(), b"-c".to_vec(), line.clone()],
        Run::Command(argv) | Run::Forced { argv, .. } => argv.clone(),
        // Only a connection is granted this.
        Run::Connect(_) => Vec::new(),
    }
}

/// This same program as a server of files.
fn file_server(verb: &str, folder: Option<&ServedFolder>) -> Vec<Vec<u8>> {
    let mut argv = vec!["/proc/self/exe".into(), verb.into()];
    if let Some(folder) = folder {
        argv.extend(["--folder".into(), folder.path.as_bytes().to_vec()]);
        if !folder.write {
            argv.push("--read-only".into());
        }
    }
    argv
}

/// The name of a login shell: its own name with a dash in front.
fn login_name(program: &OsStr) -> OsString {
    let name = Path::new(program).file_name().unwrap_or(program);
    let mut login = OsString::from("-");
    login.push(name);
    login
}

/// This side of a command's standard streams, non-blocking.
#[derive(Debug)]
pub(super) enum ParentStdio {
    /// One pipe each.
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        /// `None` if both outputs share one pipe.
        stderr: Option<OwnedFd>,
    },
    /// One terminal for all.
    Terminal(Arc<Pty>),
}

/// A process, and this side's ends of its streams.
#[derive(Debug)]
pub(super) struct Spawned {
    /// The process.
    pub child: Child,
    /// Its standard streams.
    pub stdio: ParentStdio,
    /// Its file reports, if it serves files.
    pub reports: Option<OwnedFd>,
}

/// Starts a command that was allowed.
pub(super) fn spawn(
    cluster_state: &ClusterState,
    command: &Command,
    argv: &[Vec<u8>],
    terminal: Option<&Terminal>,
) -> io::Result<Spawned> {
    let mut program = match argv.first() {
        Some(program) => OsString::from_vec(program.clone()),
        None => return Err(rustix::io::Errno::INVAL.into()),
    };
    // Given the path of the program, the standard library starts it with vfork. Otherwise it forks, which copies this process's
    // page tables. Another user may find another file under the same path.
    if command.run_as.switch.is_none() {
        program = found(&program, &surroundings::path(cluster_state))?;
    }
    match spawn_as(
        cluster_state,
        command,
        program.as_os_str(),
        argv,
        None,
        terminal,
    ) {
        // A script without an interpreter line is run by the shell, like execvp(3).
        Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => spawn_as(
            cluster_state,
            command,
            OsStr::new("/bin/sh"),
            argv,
            Some(&program),
            terminal,
        ),
        result => result,
    }
}

/// The file of a program, as execvp(3) finds it.
pub(super) fn found(name: &OsStr, path: &str) -> io::Result<OsString> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.to_owned());
    }
    let mut refused = io::ErrorKind::NotFound;
    for folder in path.split(':').filter(|_| !name.is_empty()) {
        let path = Path::new(folder).join(name);
        match rustix::fs::access(&path, Access::EXEC_OK) {
            Ok(()) if path.is_file() => return Ok(path.into_os_string()),
            Err(Errno::ACCESS) => refused = io::ErrorKind::PermissionDenied,
            _ => {}
        }
    }
    Err(refused.into())
}

/// Starts `program` with `argv`; or a shell that reads `script`.
fn spawn_as(
    cluster_state: &ClusterState,
    command: &Command,
    program: &OsStr,
    argv: &[Vec<u8>],
    script: Option<&OsString>,
    terminal: Option<&Terminal>,
) -> io::Result<Spawned> {
    // Before the command starts, so that nothing has to wait for it afterwards.
    cluster_state.node.reaper.start();
    let run_as = &command.run_as;
    let mut spawn = tokio::process::Command::new(program);
    if command.grant.run == Run::Shell {
        spawn.arg0(login_name(program));
    } else if script.is_none() {
        spawn.arg0(OsStr::from_bytes(argv.first().map_or(b"", Vec::as_slice)));
    }
    let arguments = argv.iter().skip(1);
    let (reports_out, reports) = match command.grant.run {
        Run::Sftp(_) | Run::Copy(_) => {
            ReportsOut::pipe().map(|(out, reports)| (Some(out), Some(reports)))?
        }
        _ => (None, None),
    };
    spawn
        .args(script)
        .args(arguments.map(|argument| OsStr::from_bytes(argument)))
        .env_clear();
    if let Some(out) = &reports_out {
        spawn.arg("--reports").arg(out.number());
    }
    let ends = match terminal {
        Some(terminal) => {
            let owner = run_as.switch.is_some().then_some(run_as.uid);
            let pty = Pty::open(terminal, owner).map_err(|error| {
                io::Error::other(format!("cannot open a terminal for it: {error}"))
            })?;
            spawn.envs(surroundings::variables(
                cluster_state,
                command,
                Some((terminal, &pty)),
            ));
            spawn.stdin(pty.side_of_command()?);
            spawn.stdout(pty.side_of_command()?);
            spawn.stderr(pty.side_of_command()?);
            ParentStdio::Terminal(Arc::new(pty))
        }
        None => {
            // Created here, because tokio's own would have to be taken back from it before use.
            let (its_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
            let (stdout, its_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
            // If the caller has one open file for both outputs, the command gets one pipe, so that its lines keep their order.
            let (stderr, its_stderr) = match command.one_output {
                true => (None, its_stdout.try_clone()?),
                false => {
                    let (stderr, its_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
                    (Some(stderr), its_stderr)
                }
            };
            fd::make_room(&stdout);
            spawn.envs(surroundings::variables(cluster_state, command, None));
            for ours in [Some(&stdin), Some(&stdout), stderr.as_ref()]
                .into_iter()
                .flatten()
            {
                // For this end only: the command's end is another open file.
                rustix::fs::fcntl_setfl(ours, OFlags::NONBLOCK)?;
            }
            spawn.stdin(its_stdin).stdout(its_stdout).stderr(its_stderr);
            ParentStdio::Pipes {
                stdin,
                stdout,
                stderr,
            }
        }
    };
    let kind = ends.kind();
    let remaining = Remaining::of(run_as);
    let announcement = cluster_state.node.reaper.announcement(kind);
    match &run_as.switch {
        Some(switch) => {
            let change = PrivilegeDrop::new(switch, &run_as.home);
            // SAFETY: the closure only makes system calls with values prepared before the fork: it allocates nothing, takes no lock and
            // cannot panic.
            #[allow(unsafe_code)]
            unsafe {
                spawn.pre_exec(move || {
                    remaining.set()?;
                    change.apply()?;
                    announcement.make();
                    Ok(())
                })
            };
        }
        None => {
            let home = run_as.home.as_path();
            let root = Path::new("/");
            spawn.current_dir(if home.is_dir() { home } else { root });
            // A new session, so that the command has no access to this process's terminal.
            let leads_session = kind == Kind::Session || has_terminal();
            if leads_session || !remaining.is_empty() {
                // SAFETY: only system calls with values prepared before the fork; nothing is allocated or locked.
                #[allow(unsafe_code)]
                unsafe {
                    spawn.pre_exec(move || {
                        remaining.set()?;
                        if leads_session {
                            rustix::process::setsid()?;
                        } else {
                            rustix::process::setpgid(None, None)?;
                        }
                        announcement.make();
                        Ok(())
                    })
                };
            } else {
                spawn.process_group(0);
            }
        }
    }
    if kind == Kind::Session {
        // SAFETY: one system call on standard input, which is the terminal by now; nothing is allocated or locked. The new process
        // leads its own session since the closure above.
        #[allow(unsafe_code)]
        unsafe {
            spawn.pre_exec(|| Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?))
        };
    }
    if let Some(out) = reports_out {
        // SAFETY: one system call, on a descriptor that the closure owns; nothing is allocated or locked.
        #[allow(unsafe_code)]
        unsafe {
            spawn.pre_exec(move || out.keep())
        };
    }
    Ok(Spawned {
        child: spawn.spawn()?,
        stdio: ends,
        reports,
    })
}

impl ParentStdio {
    /// Whether the command leads a group or a session.
    pub(super) fn kind(&self) -> Kind {
        match self {
            ParentStdio::Pipes { .. } => Kind::Group,
            ParentStdio::Terminal(_) => Kind::Session,
        }
    }
}

/// Whether this process has a controlling terminal: a daemon in the foreground, a command line.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}
