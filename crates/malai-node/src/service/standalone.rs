//! The clusters of a home in a process without a daemon: it dials, but serves nothing.

use std::sync::Arc;

use malai_cluster::{ClusterRef, MachineRef, unknown_cluster};
use malai_wire::status::JoiningFacts;
use malai_wire::{Refusal, RefusalCode};

use crate::exec::surroundings;
use crate::home::lock::{HomeLock, LockError};
use crate::home::{ClusterDir, Home, HomeError, manager_file};
use crate::node::Node;
use crate::node::reaper::Reaper;
use crate::os::fs::display_path;
use crate::service::{Service, ServiceError, distribute};
use crate::settings::{BadEnvironment, Settings};

/// A command cannot run without a daemon.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// MALAI_NETWORK is not a reach.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
    /// The home cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The home is not in the cluster; the message names those that it is in.
    #[error("{0}")]
    UnknownCluster(String),
    /// A cluster cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Clusters used in a process without a daemon, until [`Standalone::stop`].
#[derive(Debug)]
pub struct Standalone {
    node: Arc<Node>,
    services: Vec<Arc<Service>>,
}

impl Standalone {
    /// Starts the clusters of one or more targets. Broken folders of other clusters do not matter. The machine of a target, if given,
    /// only improves an error message. `reaper` ends commands that turn out to run here if this process is killed.
    ///
    /// # Errors
    ///
    /// The home is not in one of the clusters, or it cannot be used; then nothing runs.
    pub async fn open<'a>(
        home: &Home,
        settings: &Settings,
        targets: impl IntoIterator<Item = (&'a ClusterRef, Option<&'a MachineRef>)>,
        reaper: Arc<Reaper>,
    ) -> Result<Self, StandaloneError> {
        surroundings::adopt();
        let mut standalone = Self::empty(home, settings, reaper)?;
        let dirs = home.survey()?.dirs;
        let mut wanted = Vec::new();
        for (cluster, machine) in targets {
            let mut of_target = dirs
                .iter()
                .filter(|dir| manager_file::is_of(dir, cluster))
                .peekable();
            if of_target.peek().is_none() {
                let known: Vec<_> = dirs.iter().map(|dir| dir.alias.to_string()).collect();
                let message =
                    unknown_cluster(cluster, machine, &known, Some(&display_path(home.root())));
                return Err(StandaloneError::UnknownCluster(message));
            }
            wanted.extend(of_target);
        }
        wanted.sort_by_key(|dir| &dir.alias);
        wanted.dedup_by_key(|dir| &dir.alias);
        for dir in wanted {
            match Service::start(dir.clone(), standalone.node.clone()).await {
                Ok(service) => standalone.services.push(service),
                Err(error) => {
                    standalone.stop().await;
                    return Err(error.into());
                }
            }
        }
        Ok(standalone)
    }

    /// Starts all usable clusters of the home; others are logged.
    ///
    /// # Errors
    ///
    /// The home cannot be read, or MALAI_NETWORK is not a reach.
    pub async fn open_all(home: &Home, settings: &Settings) -> Result<Self, StandaloneError> {
        let mut standalone = Self::empty(home, settings, Arc::default())?;
        for dir in home.survey()?.dirs {
            let alias = dir.alias.clone();
            match Service::start(dir, standalone.node.clone()).await {
                Ok(service) => standalone.services.push(service),
                Err(error) => tracing::debug!(cluster = %alias, "not used: {error}"),
            }
        }
        Ok(standalone)
    }

    fn empty(
        home: &Home,
        settings: &Settings,
        reaper: Arc<Reaper>,
    ) -> Result<Self, BadEnvironment> {
        let mut node = Node::command(settings.effective_reach()?, home, settings);
        node.reaper = reaper;
        Ok(Self {
            node: Arc::new(node),
            services: Vec::new(),
        })
    }

    /// The clusters.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// Problems with the audit record of what ran here, as text.
    pub fn notices(&self) -> Vec<String> {
        self.node.audit.notices()
    }

    /// Ends their connections and endpoints.
    pub async fn stop(&self) {
        for service in &self.services {
            service.stop(&Refusal::new(RefusalCode::Done, "")).await;
        }
    }
}

/// This computer asking a manager to let it in, in a process without a daemon. The home is locked as by a daemon, because it
/// stores what it receives.
#[derive(Debug)]
pub struct JoinAlone {
    service: Arc<Service>,
    _lock: HomeLock,
}

/// A computer without a daemon cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A daemon has started meanwhile, or the home cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// MALAI_NETWORK is not a reach.
    #[error(transparent)]
    Environment(#[from] BadEnvironment),
    /// The cluster cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl JoinAlone {
    /// Begins to ask.
    ///
    /// # Errors
    ///
    /// The home cannot be locked, or the cluster cannot be used.
    pub async fn begin(
        home: &Home,
        settings: &Settings,
        dir: &ClusterDir,
    ) -> Result<Self, JoinError> {
        let lock = HomeLock::acquire(home)?;
        let node = Node::daemon(settings.effective_reach()?, home, settings);
        let service = Service::start(dir.clone(), Arc::new(node)).await?;
        service.spawn(distribute::poll_loop(service.clone()));
        Ok(Self {
            service,
            _lock: lock,
        })
    }

    /// How far it has come; `None` when this computer has joined.
    pub fn facts(&self) -> Option<JoiningFacts> {
        self.service.cluster_state.own_invitation.facts()
    }

    /// Ends the connection.
    pub async fn stop(&self) {
        self.service
            .stop(&Refusal::new(RefusalCode::Done, ""))
            .await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use malai_cluster::{ClusterAlias, Target};

    use super::{Standalone, StandaloneError};
    use crate::home::Home;
    use crate::home::init::init_cluster;
    use crate::settings::{Reach, Settings};

    async fn open(home: &Home, targets: &[&str]) -> Result<Standalone, StandaloneError> {
        let settings = Settings {
            reach: Some(Reach::Loopback),
            ..Settings::default()
        };
        let targets: Vec<_> = targets
            .iter()
            .map(|text| Target::parse(text).unwrap())
            .collect();
        let pairs = targets
            .iter()
            .map(|target| (&target.cluster, Some(&target.machine)));
        Standalone::open(home, &settings, pairs, Arc::default()).await
    }

    fn aliases(standalone: &Standalone) -> Vec<String> {
        let services = standalone.services().iter();
        services
            .map(|service| service.cluster_state.alias().to_string())
            .collect()
    }

    #[tokio::test]
    async fn what_the_targets_lead_to_is_started_once_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let [_, two, broken] = ["one", "two", "broken"]
            .map(|alias| init_cluster(&home, &ClusterAlias::parse(alias).unwrap()).unwrap());
        fs::remove_file(broken.dir.cluster_key()).unwrap();

        let by_id = format!("cache.{}", two.id);
        let standalone = open(&home, &["web.two", "db.two", &by_id]).await.unwrap();
        assert_eq!(aliases(&standalone), ["two"]);
        standalone.stop().await;

        let Err(StandaloneError::UnknownCluster(message)) = open(&home, &["web.tow"]).await else {
            panic!("there is no such cluster");
        };
        assert!(message.contains("did you mean `web.two`?"), "{message}");
        assert!(open(&home, &["web.two", "web.broken"]).await.is_err());

        let settings = Settings {
            reach: Some(Reach::Loopback),
            ..Settings::default()
        };
        let all = Standalone::open_all(&home, &settings).await.unwrap();
        assert_eq!(aliases(&all), ["one", "two"]);
        all.stop().await;
    }
}
