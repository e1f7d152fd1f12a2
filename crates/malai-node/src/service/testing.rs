//! What tests of services in one process set and look at, and nothing else does: a daemon does it from its files.

use std::sync::Arc;

use malai_cluster::{MachineId, Snapshot};
use tokio::sync::SemaphorePermit;

use crate::cluster::authorize;
use crate::home::Role;
use crate::net::endpoint::endpoint_id;
use crate::os::fs::{self, StoreError};
use crate::service::Service;
use crate::settings::Settings;

/// Stores a revision and puts it in force, as if it had arrived or been published.
///
/// # Errors
///
/// It cannot be stored.
pub fn install(service: &Service, snapshot: Arc<Snapshot>) -> Result<(), StoreError> {
    let state = &service.cluster_state;
    let path = match state.role {
        Role::Manager => state.dir.published(),
        Role::Machine => state.dir.machine_toml(),
    };
    state
        .config
        .install(snapshot, |snapshot| {
            fs::write_atomic(&path, snapshot.to_file().as_bytes(), 0o600)
        })
        .map(drop)
}

/// Puts in force what this computer accepts, for live sessions too.
pub fn accept(service: &Service, settings: &Settings) {
    let state = &service.cluster_state;
    state.node.accept_policies.replace(&settings.accept, None);
    authorize::reauthorize_all(state);
}

/// All turns to begin a dial: until they are dropped, none begins.
///
/// # Panics
///
/// One is taken.
pub fn hold_dials(service: &Service) -> SemaphorePermit<'_> {
    let dials = &service.cluster_state.node.dials;
    let all = u32::try_from(dials.available_permits()).unwrap_or(u32::MAX);
    dials.try_acquire_many(all).expect("nothing dials")
}

/// How many keys wait to be added to the cluster.
pub fn pending_joins(service: &Service) -> usize {
    service.cluster_state.pending_joins().len()
}

/// Whether this service keeps something for a key beyond its connections.
pub async fn keeps_state_of(service: &Service, key: &MachineId) -> bool {
    let endpoint = service.peers.endpoint();
    endpoint.remote_info(endpoint_id(key)).await.is_some()
}

/// The fork that was seen, if there was one.
pub fn fork(service: &Service) -> Option<String> {
    service.cluster_state.config.state().fork
}
