//! A service's background tasks: accepts connections, announces itself, follows the configuration, checks for duplicates of its key.

use std::sync::Arc;

use crate::cluster::authorize;
use crate::service::{Service, distribute, duplicate_identity};

impl Service {
    /// Accepts connections from now on, and keeps the configuration up to date. Before this, no peer is admitted.
    pub fn serve(self: &Arc<Self>) {
        self.spawn(self.clone().accept());
        let peers = self.peers.clone();
        self.spawn(async move { peers.announce().await });
        self.spawn(apply_configurations(self.clone()));
        self.spawn(distribute::poll_loop(self.clone()));
        self.spawn(duplicate_identity::watch(self.clone()));
    }
}

/// Under each new configuration, authorizes the running sessions again, and closes connections of peers that are no longer
/// members.
async fn apply_configurations(service: Arc<Service>) {
    let cluster_state = &service.cluster_state;
    let mut news = cluster_state.config.watch();
    while news.changed().await.is_ok() {
        authorize::reauthorize_all(cluster_state);
        cluster_state.forget_strangers();
        let dialer = service.peers.dialer();
        dialer.use_network(cluster_state.network_plan()).await;
        for connection in service.peers.all() {
            if let Err(refusal) = authorize::admit(cluster_state, &connection.peer) {
                service.spawn(async move { connection.drain_and_close(&refusal).await });
            }
        }
    }
}
