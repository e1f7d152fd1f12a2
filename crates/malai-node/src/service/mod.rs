//! One cluster being served in this process: its identity, endpoint, connections and background tasks.

mod accept;
mod background;
pub mod dispatch;
pub(crate) mod distribute;
pub(crate) mod duplicate_identity;
pub(crate) mod forward;
mod http;
mod join;
pub(crate) mod local;
pub mod ping;
pub(crate) mod standalone;
pub mod testing;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use malai_wire::Refusal;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::cluster::load::{self, LoadError};
use crate::cluster::state::ClusterState;
use crate::home::ClusterDir;
use crate::home::cluster_files::LoadedCluster;
use crate::net::endpoint::{self, BindError, Ports};
use crate::net::relays::Relays;
use crate::node::Node;
use crate::os::fs::StoreError;
use crate::peer::dialer::Dialer;
use crate::peer::pool::PeerPool;
use crate::server::Server;

/// How long closing an endpoint may take. Every peer is told at once; the rest is a wait for late packets, which takes 3 s after a
/// connection with a path that was never measured (that of a short command).
const CLOSE_TIMEOUT: Duration = Duration::from_millis(250);

/// A cluster cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The sockets cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A cluster being served.
#[derive(Debug)]
pub struct Service {
    /// Identity, role, configuration.
    pub cluster_state: Arc<ClusterState>,
    /// Connections to members.
    pub peers: Arc<PeerPool>,
    /// Whether this run has asked members for revisions newer than this manager's files.
    pub(crate) has_asked_for_newer: AtomicBool,
    /// Notified when a daemon with this cluster's key has probed this one while searching for its own key.
    pub(crate) probed_by_duplicate: Notify,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Service {
    /// Loads the configuration in force and binds the endpoint. Nothing is accepted before [`Service::serve`].
    ///
    /// # Errors
    ///
    /// The folder, the key or the sockets cannot be used. A damaged snapshot is not an error: that
    /// cluster denies everything until it has a new one.
    pub async fn start(dir: ClusterDir, node: Arc<Node>) -> Result<Arc<Self>, ServiceError> {
        Self::start_loaded(&LoadedCluster::load_in_force(&dir), node).await
    }

    /// The same, with files that were read already.
    ///
    /// # Errors
    ///
    /// As [`Service::start`].
    pub(crate) async fn start_loaded(
        files: &LoadedCluster,
        node: Arc<Node>,
    ) -> Result<Arc<Self>, ServiceError> {
        let cluster_state = Arc::new(load::load(files, node.clone())?);
        let ports = if node.serves {
            Ports::Derived
        } else {
            Ports::Any
        };
        let relays = Relays::new(cluster_state.network_plan());
        let endpoint = endpoint::bind_with(&cluster_state.seed, node.reach, ports, &relays).await?;
        let dialer = Dialer::new(cluster_state.clone(), endpoint, relays);
        let tasks = TaskTracker::new();
        let peers = PeerPool::new(dialer, Arc::new(Server), tasks.clone());
        Ok(Arc::new(Self {
            cluster_state,
            peers,
            has_asked_for_newer: AtomicBool::new(false),
            probed_by_duplicate: Notify::new(),
            tasks,
            stop: CancellationToken::new(),
        }))
    }

    /// Runs a task until it ends or the service stops.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let span =
            tracing::info_span!(parent: None, "cluster", cluster = %self.cluster_state.alias());
        let until_stopped = async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        };
        self.tasks.spawn(until_stopped.instrument(span));
    }

    /// Ends everything: background tasks, connections (each peer is told why), the endpoint.
    pub async fn stop(&self, refusal: &Refusal) {
        self.stop.cancel();
        let mut closing = JoinSet::new();
        for connection in self.peers.all() {
            let refusal = refusal.clone();
            closing.spawn(async move { connection.deliver_and_close(&refusal).await });
        }
        while closing.join_next().await.is_some() {}
        self.tasks.close();
        if let Err(error) = self.save_addresses() {
            tracing::warn!("cannot save the remembered addresses: {error}");
        }
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.peers.endpoint().close()).await;
        self.tasks.wait().await;
    }

    /// Saves remembered addresses, if this process may write.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save_addresses(&self) -> Result<(), StoreError> {
        if self.cluster_state.node.serves {
            self.peers.dialer().addresses.save()
        } else {
            Ok(())
        }
    }
}
