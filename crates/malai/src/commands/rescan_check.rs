//! `malai rescan --check [cluster]`: checks everything hand-written, the keys, and what was received.

use malai_cluster::Severity;
use malai_node::{
    ClusterReport, Home, Problem, display_path, note_users, verify_home, verify_settings,
};
use serde::Serialize;

use crate::output::exit::Exit;
use crate::output::{self, Printer};

/// The findings, as printed by `--json`.
#[derive(Serialize)]
struct Findings<'a> {
    ok: bool,
    settings: &'a [Problem],
    clusters: &'a [ClusterReport],
}

/// Prints every problem and a line for each cluster; fails if there is an error.
pub fn run(
    home: &Home,
    cluster: Option<&str>,
    json: bool,
    printer: &Printer,
) -> anyhow::Result<Exit> {
    let mut clusters = verify_home(home, cluster)?;
    note_users(home, &mut clusters);
    let settings = verify_settings(home, &clusters);
    let is_error = |problem: &Problem| problem.severity() == Severity::Error;
    let ok = !settings.iter().any(is_error) && clusters.iter().all(ClusterReport::is_sound);
    if json {
        let findings = Findings {
            ok,
            settings: &settings,
            clusters: &clusters,
        };
        let text = serde_json::to_string_pretty(&findings)?;
        printer.out(&format!("{text}\n"));
    } else {
        printer.out(&output::check::render(&settings, &clusters));
        if clusters.is_empty() {
            printer.out(&format!(
                "no clusters in {} yet: malai cluster init <alias> creates one\n",
                display_path(home.root())
            ));
        }
    }
    Ok(if ok { Exit::OK } else { Exit::FAILED })
}
