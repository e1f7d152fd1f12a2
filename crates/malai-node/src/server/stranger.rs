//! Strangers: connections whose key is in no configuration here. They are refused, unless they bring the one that makes
//! them members.

use malai_wire::Refusal;

use crate::cluster::authorize;
use crate::cluster::state::ClusterState;
use crate::peer::arrival::{Arrival, Greeted};
use crate::server::connection::{check_versions, delivery_time};
use crate::sync;

/// Whether a stranger has a revision that this side has not seen.
pub(crate) fn brings_news(cluster_state: &ClusterState, greeted: &Greeted) -> bool {
    let header = greeted.hello.hello.header.as_ref();
    let known = cluster_state.config.state().newer;
    header.is_some_and(|header| {
        known.is_none_or(|known| known.revision() < header.revision)
            && sync::is_wanted(cluster_state, greeted.peer, header).unwrap_or(false)
    })
}

/// Decides whether a stranger's connection is handled like a member's, which decides again.
///
/// # Errors
///
/// The refusal to close the connection with.
pub(crate) async fn examine(
    cluster_state: &ClusterState,
    arrival: &Arrival,
    greeted: &Greeted,
) -> Result<(), Refusal> {
    let (peer, hello) = (greeted.peer, &greeted.hello.hello);
    check_versions(hello.versions)?;
    if let Some(header) = &hello.header {
        match sync::is_wanted(cluster_state, peer, header) {
            Ok(true) => return cluster_state.node.limiter.delivery(),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(peer = %peer.short(), cluster = %cluster_state.alias(), "the configuration of a stranger is not wanted: {error}");
            }
        }
    }
    arrival.send_hello(cluster_state.hello()).await;
    cluster_state.record_rejected_peer(peer, arrival.address());
    // The peer needs a moment to read the hello. A new configuration may make it a member meanwhile.
    let pause = delivery_time(arrival.round_trip());
    let _ = tokio::time::timeout(pause, arrival.closed()).await;
    authorize::admit(cluster_state, &peer)
}
