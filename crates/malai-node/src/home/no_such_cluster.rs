//! The message about a cluster that this home does not have.

use std::path::Path;

use malai_cluster::{escape, nearest};

use crate::os::fs::display_path;

/// Says that no cluster has this alias, and which one may have been meant; otherwise, which clusters there are.
pub(crate) fn no_such_cluster<'a>(
    alias: &str,
    clusters: &Path,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let what = format!(
        "there is no cluster `{}` in {}",
        escape(alias),
        display_path(clusters)
    );
    if let Some(near) = nearest(alias, known.clone()) {
        return format!("{what}; did you mean `{}`?", escape(near));
    }
    let known: Vec<_> = known.map(escape).collect();
    match known.as_slice() {
        [] => format!("{what}; there are none yet: create one with `malai cluster init <alias>`"),
        known => format!("{what} (found: {})", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_similar_alias_is_offered_and_else_all() {
        for (alias, known, said) in [
            (
                "wrok",
                &["company", "work"][..],
                "in /h/clusters; did you mean `work`?",
            ),
            ("w\x1bork", &["work"], "did you mean `work`?"),
            (
                "other",
                &["company", "work"],
                "`other` in /h/clusters (found: company, work)",
            ),
            (
                "other",
                &[],
                "there are none yet: create one with `malai cluster init <alias>`",
            ),
        ] {
            let text = no_such_cluster(alias, Path::new("/h/clusters"), known.iter().copied());
            assert!(text.ends_with(said) && !text.contains('\x1b'), "{text}");
        }
    }
}
