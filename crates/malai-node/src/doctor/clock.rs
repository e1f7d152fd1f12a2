//! The clock: nothing that malai has written or received may be from the future.

use std::fs;
use std::time::Duration;

use super::{Context, Finding};

use crate::os::fs::display_path;

const CHECK: &str = "clock";

/// How far clocks may differ without a finding.
const LENIENCY: Duration = Duration::from_secs(300);

/// When this line was written: a correct clock cannot show less. 2025-11-01.
const WRITTEN: u64 = 1_761_955_200;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if context.seconds() < WRITTEN {
        found.push(
            Finding::error(
                CHECK,
                "it shows a time before this version of malai was written",
            )
            .because("revisions are numbered by time, so what is published now counts as old")
            .fix("sudo timedatectl set-ntp true"),
        );
    }
    for report in &context.clusters {
        let facts = context
            .answered()
            .into_iter()
            .flat_map(|facts| &facts.clusters);
        let served = facts.filter(|cluster| cluster.alias == report.alias);
        let heard = served.flat_map(|cluster| {
            let machines = cluster.machines.iter().map(|machine| machine.revision);
            machines.chain([cluster.revision])
        });
        let newest = heard.chain([report.revision]).flatten().max();
        found
            .extend(newest.and_then(|revision| future(&report.alias, revision, context.seconds())));
    }
    let home = context.home;
    for path in [home.settings(), home.log(), home.audit(), home.clusters()] {
        let Ok(written) = fs::metadata(&path).and_then(|metadata| metadata.modified()) else {
            continue;
        };
        if written > context.now + LENIENCY {
            found.push(
                Finding::warning(CHECK, format!("{} is from the future", display_path(&path)))
                    .because("the clock was set back, or is wrong now; times in the record and the log mislead")
                    .fix("timedatectl status"),
            );
        }
    }
    if found.is_empty() {
        found.push(Finding::fine(CHECK, "nothing here is from the future"));
    }
    found
}

/// A revision is the time of its publication, unless many were published at once.
fn future(alias: &str, revision: u64, now: u64) -> Option<Finding> {
    let ahead = revision.checked_sub(now + LENIENCY.as_secs())?;
    let ahead = (ahead + LENIENCY.as_secs()) / 60;
    Some(
        Finding::warning(CHECK, format!("{alias}: revision {revision} is {ahead} minutes ahead of this computer's clock"))
            .because("this clock is behind, or the manager's was ahead when it published; configurations are still applied in order")
            .fix("timedatectl status   # here and on the manager"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_from_the_future_is_told_from_one_of_today() {
        let now = WRITTEN + 7;
        assert_eq!(future("c", now, now), None);
        assert_eq!(future("c", now + 299, now), None);
        assert_eq!(future("c", 7, now), None);
        let found = future("c", now + 3600, now).unwrap();
        assert!(found.what.contains("60 minutes ahead"), "{}", found.what);
    }
}
