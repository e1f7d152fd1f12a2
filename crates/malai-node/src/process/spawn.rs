//! How a command starts: a clean environment, the right user, a process group of its own.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Stdio;

use malai_wire::peer::exec::Action;
use tokio::process::Child;

use crate::account::Become;
use crate::inbound::gate::Command;
use crate::keeper::Kind;
use crate::member::Membership;

/// Where commands are looked for: what a login gives on Debian, root or not.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Keeps descriptors that this process was started with to itself: a file that was open where somebody
/// typed `malai daemon` is no business of the commands that run here. To be called before any other
/// is opened; those that malai opens are not passed on anyway.
pub fn keep_descriptors() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// What is run: what the policy says, or the shell.
pub(super) fn argument_list(command: &Command) -> Vec<Vec<u8>> {
    match (&command.asked, command.account.login_shell()) {
        (Action::Shell, Ok(shell)) => vec![shell.as_os_str().as_bytes().to_vec()],
        _ => command.grant.argv.clone(),
    }
}

/// What a shell is called so that it is a login's: its name with a dash before it.
fn login_name(program: &OsStr) -> OsString {
    let name = Path::new(program).file_name().unwrap_or(program);
    let mut login = OsString::from("-");
    login.push(name);
    login
}

/// Starts a command that was allowed.
pub(super) fn spawn(
    membership: &Membership,
    command: &Command,
    argv: &[Vec<u8>],
) -> io::Result<Child> {
    // Before the command, so that nobody has to wait for it after.
    membership.keeper.start();
    let account = &command.account;
    let mut arguments = argv
        .iter()
        .map(|argument| OsString::from_vec(argument.clone()));
    let program = arguments.next().ok_or(io::ErrorKind::InvalidInput)?;
    let mut spawn = tokio::process::Command::new(&program);
    if command.asked == Action::Shell {
        spawn.arg0(login_name(&program));
    }
    spawn.args(arguments).env_clear().env("PATH", PATH);
    for kept in ["LANG", "TERM"] {
        spawn.envs(std::env::var_os(kept).map(|value| (kept, value)));
    }
    if let Some(name) = &account.name {
        spawn.env("USER", name).env("LOGNAME", name);
    }
    spawn.envs(account.shell.iter().map(|shell| ("SHELL", shell)));
    spawn.env("HOME", &account.home);
    spawn
        .env("MALAI_CLIENT_ID52", command.from.to_string())
        .env("MALAI_CLUSTER", membership.alias().as_str());
    if let Some(machine) = command.cluster.machine(&command.from) {
        spawn.env("MALAI_CLIENT_MACHINE", machine.name().as_str());
    }
    spawn
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match &account.switch {
        Some(switch) => {
            let change = Become::new(switch, &account.home);
            let announcement = membership.keeper.announcement(Kind::Group);
            // SAFETY: the closure only makes system calls with what was made before the fork: it
            // allocates nothing, takes no lock and panics nowhere.
            #[allow(unsafe_code)]
            unsafe {
                spawn.pre_exec(move || {
                    change.become_it()?;
                    announcement.make();
                    Ok(())
                })
            };
        }
        None => {
            let home = account.home.as_path();
            let root = Path::new("/");
            spawn.current_dir(if home.is_dir() { home } else { root });
            if has_terminal() {
                let announcement = membership.keeper.announcement(Kind::Group);
                // A session of its own, so that it has no hold on the terminal of this process.
                // SAFETY: system calls only; nothing is allocated or locked.
                #[allow(unsafe_code)]
                unsafe {
                    spawn.pre_exec(move || {
                        rustix::process::setsid()?;
                        announcement.make();
                        Ok(())
                    })
                };
            } else {
                spawn.process_group(0);
            }
        }
    }
    spawn.spawn()
}

/// Whether this process has a controlling terminal: a daemon in the foreground, a command line.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}
