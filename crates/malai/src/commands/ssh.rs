//! `malai ssh`, and this program when it is called `ssh`: ssh's command line for the tools that call it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use malai_cluster::{Target, escape};
use malai_node::{Home, LockState, Names, display_path, lock};
use malai_wire::peer::exec::Action;

use crate::cli::ssh::{self, Instead, SshInvocation};
use crate::cli::{TargetOptions, TtyMode};
use crate::commands::exec::{self, Wanted};
use crate::commands::{hold, ssh_forward};
use crate::exec::{background, request};
use crate::output::Printer;
use crate::output::exit::Exit;

/// Does what ssh would do with these arguments.
pub fn run(
    home: &Home,
    arguments: &[OsString],
    is_shim: bool,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    if is_shim
        && let Some(host) = ssh::host(arguments)
        && !is_here(home, &host)
    {
        return Err(hand_on(arguments));
    }
    let (in_background, arguments) = match arguments {
        [flag, rest @ ..] if !is_shim && flag == background::FLAG => (true, rest),
        arguments => (false, arguments),
    };
    match arguments {
        [flag, folder] if !is_shim && flag == "--shim" => return shim(Path::new(folder), printer),
        [flag] if !is_shim && (flag == "--help" || flag == "-h") => {
            printer.out(&ssh::help());
            return Ok(Exit::OK);
        }
        _ => {}
    }
    let invocation = match ssh::parse(arguments) {
        Ok(invocation) => invocation,
        Err(ssh::SshError(why)) => {
            printer.say(&why);
            return Ok(Exit::MALAI);
        }
    };
    match invocation.instead {
        Some(Instead::Version) => {
            // Tools look for ssh's name. What they read is true as well.
            eprintln!(
                "malai {}, with the command line of OpenSSH_9.2 (this is not OpenSSH)",
                env!("CARGO_PKG_VERSION")
            );
            Ok(Exit::OK)
        }
        Some(Instead::PrintConfig) => {
            printer.out(&configuration(&invocation));
            Ok(Exit::OK)
        }
        Some(Instead::Check) => match lock::probe(home)? {
            LockState::Free => {
                printer.say("no daemon is running here, so no connection is shared; start it with malai daemon");
                Ok(Exit::MALAI)
            }
            _ => {
                eprintln!("Master running: the daemon of this computer");
                Ok(Exit::OK)
            }
        },
        Some(Instead::Stop) => {
            eprintln!(
                "Exit request sent: malai's daemon keeps its connections, and closes idle ones"
            );
            Ok(Exit::OK)
        }
        None if invocation.background && !in_background => background::start(arguments),
        None if invocation.quiet => {
            let ended = session(home, &invocation, in_background, &Printer::quiet());
            Ok(ended.unwrap_or(Exit::MALAI))
        }
        None => session(home, &invocation, in_background, printer),
    }
}

fn session(
    home: &Home,
    invocation: &SshInvocation,
    in_background: bool,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    if invocation.verbose && !invocation.ignored.is_empty() {
        for ignored in &invocation.ignored {
            printer.say(&format!(
                "ignored, because it has no effect here: {ignored}"
            ));
        }
    }
    let Some(host) = invocation.host.to_str() else {
        anyhow::bail!(
            "the host {} is not UTF-8",
            escape(&invocation.host.to_string_lossy())
        );
    };
    if let Some(to) = &invocation.standard_to {
        return ssh_forward::standard(home, host, to, in_background, printer);
    }
    let action = match (&invocation.line, invocation.subsystem) {
        (Some(line), true) => Action::Subsystem(String::from_utf8_lossy(line).into_owned()),
        (Some(line), false) => Action::Line(line.clone()),
        (None, false) => Action::Shell,
        (None, true) => {
            printer.say("no subsystem given: malai ssh -s <target> sftp");
            return Ok(Exit::MALAI);
        }
    };
    let mut env = request::inherited(&invocation.send_env);
    env.extend(invocation.set_env.iter().cloned());
    let on = TargetOptions {
        terminal: match invocation.subsystem {
            true => TtyMode::Never.into(),
            false => invocation.tty.into(),
        },
        no_input: invocation.no_input,
        local_command: invocation
            .local_command
            .as_ref()
            .map(|line| OsStr::from_bytes(line).to_owned()),
        escape: invocation.escape,
        in_background,
        ..TargetOptions::default()
    };
    // Kept until the session has ended.
    let _forwards = match invocation.forwards.is_empty() {
        true => None,
        false => ssh_forward::start(home, host, invocation, printer)?,
    };
    if invocation.no_command {
        if invocation.verbose && invocation.forwards.is_empty() {
            printer.say("nothing is forwarded: this only keeps the connection");
        }
        return hold::run(home, host, &on, printer);
    }
    let wanted = Wanted {
        action,
        user: invocation.user.clone(),
        env,
    };
    exec::run_request(home, host, wanted, &on, printer)
}

/// Whether malai knows the host: a target in a cluster of this home, or an alias for one.
fn is_here(home: &Home, host: &OsStr) -> bool {
    let Some(host) = host.to_str() else {
        return false;
    };
    let names = Names::of(home);
    if names.aliases.iter().any(|alias| alias == host) {
        return true;
    }
    let Ok(target) = Target::parse(host) else {
        return false;
    };
    let cluster = target.cluster.to_string();
    // An id52 belongs to malai; no host has such a name.
    names.clusters.iter().any(|known| known.alias == cluster) || cluster.len() == 52
}

/// Replaces this process with the next `ssh` in PATH that is not this program. Returns only if there is none.
fn hand_on(arguments: &[OsString]) -> anyhow::Error {
    let own = std::env::current_exe()
        .and_then(|path| path.canonicalize())
        .ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let next = std::env::split_paths(&path)
        .map(|folder| folder.join("ssh"))
        .filter(|candidate| candidate.is_file())
        .find(|candidate| candidate.canonicalize().ok() != own);
    match next {
        Some(next) => {
            let error = std::process::Command::new(&next).args(arguments).exec();
            anyhow::anyhow!("cannot run {}: {error}", display_path(&next))
        }
        None => anyhow::anyhow!(
            "the host is not a malai target, and PATH has no other ssh to run instead"
        ),
    }
}

/// Creates a link named `ssh` in a folder, for tools with a fixed program name.
fn shim(folder: &Path, printer: &Printer) -> anyhow::Result<Exit> {
    let own = std::env::current_exe().context("cannot find this program")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", display_path(folder)))?;
    let link: PathBuf = folder.join("ssh");
    match std::fs::read_link(&link) {
        Ok(target) if target == own => {}
        Ok(_) => anyhow::bail!(
            "{} is a link to something else; remove it first",
            display_path(&link)
        ),
        Err(_) => std::os::unix::fs::symlink(&own, &link)
            .with_context(|| format!("cannot create {}", display_path(&link)))?,
    }
    printer.out(&format!(
        "{} now leads to malai. Put its folder first in PATH:\n  export PATH={}:$PATH\n\
         Hosts that are not targets of malai's go on to the next ssh in PATH.\n",
        display_path(&link),
        malai_cluster::quote_bytes(folder.as_os_str().as_bytes())
    ));
    Ok(Exit::OK)
}

/// The output of `-G`: enough for tools that parse ssh's.
fn configuration(invocation: &SshInvocation) -> String {
    let host = escape(&invocation.host.to_string_lossy());
    let user = invocation
        .user
        .as_deref()
        .map_or_else(String::new, |user| format!("user {}\n", escape(user)));
    let mut out =
        format!("host {host}\n{user}hostname {host}\nport 22\nbatchmode yes\ncontrolmaster auto\n");
    for pattern in &invocation.send_env {
        out.push_str(&format!("sendenv {}\n", escape(pattern)));
    }
    out
}
