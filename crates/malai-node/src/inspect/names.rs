//! The names that a home knows, for completions and suggestions. Needs no daemon.

use malai_cluster::Cluster;

use crate::home::{Home, Role};
use crate::inspect::check::{ClusterReport, verify_home};
use crate::settings::Settings;

/// The known names. Files that cannot be read contribute none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The clusters of the home, by alias.
    pub clusters: Vec<ClusterNames>,
    /// Short names of targets, from `malai.toml`.
    pub aliases: Vec<String>,
}

/// The names in one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterNames {
    /// The cluster's alias.
    pub alias: String,
    /// Whether it is managed here.
    pub managed: bool,
    /// Its machines and their command entries.
    pub machines: Vec<MachineNames>,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its services.
    pub services: Vec<String>,
}

/// The names of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineNames {
    /// The machine's name.
    pub name: String,
    /// Its command entries.
    pub commands: Vec<String>,
}

impl Names {
    /// The names that this home knows.
    pub fn of(home: &Home) -> Self {
        let settings = Settings::load(home).unwrap_or_default();
        let clusters = verify_home(home, None).unwrap_or_default();
        Self {
            clusters: clusters.into_iter().map(ClusterNames::from).collect(),
            aliases: settings.aliases.into_keys().collect(),
        }
    }

    /// Whether a target names a known machine by its name and its cluster's alias.
    pub fn has(&self, target: &str) -> bool {
        target.split_once('.').is_some_and(|(machine, _)| {
            self.targets_of(machine).iter().any(|known| known == target)
        })
    }

    /// The targets with a group of this name, in all clusters.
    pub fn targets_of_group(&self, group: &str) -> Vec<String> {
        let has = |cluster: &&ClusterNames| cluster.groups.iter().any(|known| known == group);
        let clusters = self.clusters.iter().filter(has);
        clusters
            .map(|cluster| format!("@{group}.{}", cluster.alias))
            .collect()
    }

    /// The targets with a machine of this name, in all clusters.
    pub fn targets_of(&self, machine: &str) -> Vec<String> {
        let mut found = Vec::new();
        for cluster in &self.clusters {
            if cluster.machines.iter().any(|known| known.name == machine) {
                found.push(format!("{machine}.{}", cluster.alias));
            }
        }
        found
    }
}

impl From<ClusterReport> for ClusterNames {
    fn from(report: ClusterReport) -> Self {
        // While a file is being edited, the names are those in force.
        let named = report.cluster().or_else(|| report.in_force());
        let groups = named.into_iter().flat_map(Cluster::groups);
        let services = named.into_iter().flat_map(Cluster::services);
        Self {
            managed: report.role == Some(Role::Manager),
            machines: named.map(machines).unwrap_or_default(),
            groups: groups.map(|group| group.name().to_string()).collect(),
            services: services.map(|service| service.name().to_string()).collect(),
            alias: report.alias.clone(),
        }
    }
}

fn machines(cluster: &Cluster) -> Vec<MachineNames> {
    let machines = cluster.machines().map(|machine| MachineNames {
        name: machine.name().to_string(),
        commands: machine
            .commands()
            .iter()
            .map(|c| c.name().to_string())
            .collect(),
    });
    machines.collect()
}
