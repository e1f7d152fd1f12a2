//! The message about an unknown cluster.

use crate::diagnostic::nearest;

use super::{ClusterRef, MachineRef};

/// The message about a target in a cluster that is not in this home. `known` are the aliases of its clusters;
/// `home` is its path, safe to show, if it is known.
pub fn unknown_cluster(
    cluster: &ClusterRef,
    machine: Option<&MachineRef>,
    known: &[String],
    home: Option<&str>,
) -> String {
    let home = home.map_or_else(
        || "this home".to_owned(),
        |home| format!("this home ({home})"),
    );
    let words = match known {
        [] => format!("{home} is in no cluster yet; MALAI_HOME chooses another"),
        known => format!("{home} knows: {}", known.join(", ")),
    };
    match cluster {
        ClusterRef::Alias(alias) => {
            let near = nearest(alias.as_str(), known.iter().map(String::as_str));
            let machine = machine.map_or_else(String::new, |machine| format!("{machine}."));
            let near = near.map(|near| format!("; did you mean `{machine}{near}`?"));
            format!(
                "unknown cluster `{alias}`; {words}{}",
                near.unwrap_or_default()
            )
        }
        ClusterRef::Id(id) => format!("unknown cluster {id}; {words}"),
    }
}
