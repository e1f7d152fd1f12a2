//! The findings of `malai rescan --check`.

use malai_cluster::{Severity, escape};
use malai_node::{ClusterReport, Condition, Problem, Role};

use crate::output::text::{counted, problems};

/// Every problem, then one line for each file or cluster checked.
pub fn render(settings: &[Problem], reports: &[ClusterReport]) -> String {
    let mut out = String::new();
    let found = reports.iter().flat_map(|report| &report.problems);
    for problem in settings.iter().chain(found) {
        out.push_str(&format!("{problem}\n\n"));
    }
    let count = |severity| {
        let of_it = |problem: &&Problem| problem.severity() == severity;
        settings.iter().filter(of_it).count()
    };
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => {}
        (0, warnings) => out.push_str(&format!("⚠️  malai.toml: {}\n", problems(0, warnings))),
        (errors, warnings) => {
            out.push_str(&format!("❌ malai.toml: {}\n", problems(errors, warnings)));
        }
    }
    for report in reports {
        out.push_str(&summary(report));
        out.push('\n');
    }
    out
}

fn summary(report: &ClusterReport) -> String {
    let errors = report.count(Severity::Error);
    let warnings = report.count(Severity::Warning);
    let symbol = match (report.condition, errors, warnings) {
        (Condition::Behind | Condition::Damaged | Condition::Broken, ..) | (_, 1.., _) => "❌",
        (Condition::Waiting, ..) => "⏳",
        (Condition::Stray, ..) | (Condition::Sound, 0, 1..) => "⚠️ ",
        (Condition::Sound, 0, 0) => "✅",
    };
    let mut parts = Vec::new();
    if report.condition == Condition::Waiting {
        parts.push("waiting for its first configuration".to_owned());
    }
    if report.condition == Condition::Stray {
        parts.push("not a cluster".to_owned());
    }
    if let (Some(Role::Machine), Some(revision)) = (report.role, report.revision) {
        parts.push(format!("revision {revision}"));
    }
    // A file that cannot be read has no number of machines.
    if let Some(count) = report.machines.filter(|count| *count > 0 || errors == 0) {
        parts.push(counted(count, "machine"));
    }
    parts.push(problems(errors, warnings));
    format!("{symbol} {}: {}", escape(&report.alias), parts.join(", "))
}
