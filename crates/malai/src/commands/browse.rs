//! `malai browse <service>`: an HTTP service in the browser.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use malai_node::{Home, control};
use malai_wire::control::{Browse, Reply, Request};

use crate::cli::BrowseArgs;
use crate::commands::targets;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Prints a link, and opens it if there is a browser.
pub fn run(home: &Home, args: &BrowseArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let target = targets::one(home, &args.service)?.to_string();
    let request = Request::Browse(Browse {
        target,
        user: user(),
    });
    let answer = control::ask(home, &request)?;
    let answer = answer.context(
        "no daemon is running here, and it is the daemon that browsers connect to; start it with malai daemon",
    )?;
    let Reply::Browsing(link) = answer else {
        bail!("the daemon sent an unexpected answer; is it another version? See `malai status`");
    };
    printer.out(&format!("{link}\n"));
    if !args.print
        && let Some(browser) = browser()
    {
        let opened = Command::new(&browser)
            .arg(&link)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Err(error) = opened {
            let browser = browser.to_string_lossy();
            printer.say(&format!(
                "cannot start {}: {error}; open the link yourself",
                malai_cluster::escape(&browser)
            ));
        }
    }
    Ok(Exit::OK)
}

/// The user whose browser may use the link: this one, or the one who has become this one by sudo.
fn user() -> u32 {
    let by_sudo = std::env::var("SUDO_UID").ok();
    let by_sudo = by_sudo.and_then(|user| user.parse().ok());
    by_sudo.unwrap_or_else(|| rustix::process::geteuid().as_raw())
}

/// The program that opens links, if there is a screen to open them on.
fn browser() -> Option<OsString> {
    let is_set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(browsers) = is_set("BROWSER") {
        // A list like PATH: the first is preferred.
        return std::env::split_paths(&browsers).next().map(Into::into);
    }
    if cfg!(target_os = "macos") {
        return Some("open".into());
    }
    let has_screen = is_set("WAYLAND_DISPLAY").or_else(|| is_set("DISPLAY"));
    has_screen.map(|_| "xdg-open".into())
}
