//! `malai rescan`: the running daemon applies the configuration files.

use malai_node::{Home, control};
use malai_wire::control::{Reply, Request, Rescan, RescanReport};

use crate::cli::RescanArgs;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Rescans one cluster or all; fails if any of them was not applied.
pub fn run(home: &Home, args: &RescanArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let request = Request::Rescan(Rescan {
        cluster: args.cluster.clone(),
        publish_older: args.publish_older,
    });
    let reports = match control::ask(home, &request)? {
        None => anyhow::bail!(
            "no daemon is running here, so there is nothing to rescan: `malai daemon` starts it and reads the files (`malai rescan --check` only checks them)"
        ),
        Some(Reply::Rescanned(reports)) => reports,
        Some(_) => anyhow::bail!(
            "the daemon sent an unexpected answer; is it another version? See `malai status`"
        ),
    };
    Ok(display_path(&reports, printer))
}

/// Prints the result for each cluster; fails if any of them has problems.
pub fn display_path(reports: &[RescanReport], printer: &Printer) -> Exit {
    for report in reports {
        // A line of the report can have lines itself: a place in a file, or what publishing would change.
        let mut lines = report.lines.iter().flat_map(|line| line.lines());
        let first = lines.next().unwrap_or_default();
        let mark = match report.ok {
            false => "❌",
            true if first.starts_with("warning: ") => "⚠️ ",
            true => "✅",
        };
        printer.out(&format!("{mark} {}: {first}\n", report.alias));
        for line in lines {
            printer.out(&format!("   {line}\n"));
        }
    }
    if reports.is_empty() {
        printer.out("no clusters here yet: malai cluster init <alias>, or malai machine init <manager-id52> <alias>\n");
    }
    if reports.iter().all(|report| report.ok) {
        Exit::OK
    } else {
        Exit::FAILED
    }
}
