//! The configuration: everything that `malai rescan --check` checks, and the environment.

use std::path::Path;

use malai_cluster::Severity;

use super::{Context, Finding, some_of};

use malai_wire::status::MembershipState;

use crate::home::keystore::quoted;
use crate::inspect::check::{ClusterReport, Condition, Problem, verify_settings};
use crate::settings::Settings;

const CHECK: &str = "configuration";

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let settings = verify_settings(context.home, &context.clusters);
    let home = context.home.root();
    let settings = settings.iter().map(|problem| of(home, problem, None));
    let mut found: Vec<Finding> = settings.collect();
    if let Err(error) = Settings::default().effective_reach() {
        found.push(
            Finding::error(CHECK, error.to_string())
                .because("the daemon does not start with it")
                .fix("unset MALAI_NETWORK"),
        );
    }
    let mut sound = Vec::new();
    for report in &context.clusters {
        let alias = &report.alias;
        found.extend(
            report
                .problems
                .iter()
                .map(|problem| of(home, problem, Some(report))),
        );
        if report.has_unpublished() {
            found.push(
                Finding::warning(
                    CHECK,
                    format!("{alias}: cluster.toml has unpublished changes"),
                )
                .because("machines obey what was published last")
                .fix(format!("malai rescan {alias}")),
            );
        }
        match report.condition {
            Condition::Sound => sound.push(report.alias.clone()),
            // Another check reports what this computer has joined instead.
            Condition::Waiting
                if context.membership(alias) == Some(MembershipState::NotAManager) => {}
            Condition::Waiting => found.push(
                Finding::warning(CHECK, format!("{alias} waits for its first configuration"))
                    .because(
                        "the manager has not added this computer, or could not be reached since",
                    )
                    .fix(format!(
                        "malai cluster add <alias> <name> {}   # on the manager",
                        report.own_id.map_or_else(String::new, |id| id.to_string())
                    )),
            ),
            Condition::Behind | Condition::Damaged | Condition::Broken | Condition::Stray => {}
        }
    }
    if !sound.is_empty() {
        found.push(Finding::fine(
            CHECK,
            format!("{} can be served", some_of(&sound)),
        ));
    }
    found
}

/// A problem found by the check of the home; without a cluster, it is one of `malai.toml`.
pub(super) fn of(home: &Path, problem: &Problem, report: Option<&ClusterReport>) -> Finding {
    let severity = problem.severity();
    let text = problem.to_string();
    // The severity is shown separately here.
    let text = text.strip_prefix(&format!("{severity}: ")).unwrap_or(&text);
    let finding = match severity {
        Severity::Error => Finding::error(CHECK, text).because(consequence(report)),
        Severity::Warning => Finding::warning(CHECK, text),
        Severity::Note => Finding::note(CHECK, text),
    };
    match (severity, report) {
        (Severity::Note, _) => finding,
        (_, Some(report)) if report.condition == Condition::Stray || report.is_double() => {
            finding.fix(format!("mv {} {}", quoted(&report.path), quoted(home)))
        }
        (_, Some(report)) => finding.fix(format!(
            "malai rescan --check {}",
            // The name of a folder may be arbitrary.
            quoted(Path::new(&report.alias))
        )),
        (_, None) => finding.fix("malai rescan --check"),
    }
}

/// What an error means for the daemon.
fn consequence(report: Option<&ClusterReport>) -> &'static str {
    match report {
        None => "the daemon does not start with it; a running one keeps its old settings",
        Some(report) if !report.servable => "the daemon does not serve this cluster",
        Some(report) => match report.condition {
            Condition::Behind => "nothing is published until you have decided which one counts",
            Condition::Damaged => "every request in this cluster is denied",
            _ => "the last published revision stays in force; later changes are not applied",
        },
    }
}
