//! Resolves targets as typed to machines: each one once, in the order of the list.

use std::collections::HashSet;

use crate::cluster::Cluster;
use crate::diagnostic::nearest;
use crate::group::{Entry, Group};
use crate::identity::{ClusterId, MachineId};
use crate::machine::Machine;
use crate::name::{ClusterAlias, MachineName};

use super::targets::{Machines, Part, Targets, matches};
use super::{ClusterRef, MachineRef};

/// A machine that a target resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedMachine {
    /// Its name in the cluster.
    pub name: MachineName,
    /// Its key.
    pub id: MachineId,
    /// The cluster's alias here.
    pub cluster: ClusterAlias,
}

/// The machines that a list of targets resolves to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Each one once, in the order of the list; those of a group or a pattern by name.
    pub machines: Vec<ResolvedMachine>,
    /// Members of groups that were skipped because they are not machines, as text.
    pub notes: Vec<String>,
}

/// Why targets cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The cluster is not known here, or cannot be used.
    #[error("{0}")]
    Cluster(String),
    /// No such machine.
    #[error("unknown machine `{name}` in cluster `{cluster}`{hint}")]
    Machine {
        /// As typed.
        name: String,
        /// The cluster's alias here.
        cluster: ClusterAlias,
        /// A suggestion.
        hint: String,
    },
    /// No such group.
    #[error("unknown group `@{name}` in cluster `{cluster}`{hint}")]
    Group {
        /// As typed.
        name: String,
        /// The cluster's alias here.
        cluster: ClusterAlias,
        /// A suggestion.
        hint: String,
    },
    /// A group without machines.
    #[error("no member of `@{name}.{cluster}` is a machine")]
    NoMachine {
        /// The group.
        name: String,
        /// The cluster's alias here.
        cluster: ClusterAlias,
    },
    /// A pattern that matches no machine.
    #[error("no machine in cluster `{cluster}` matches `{pattern}`{hint}")]
    NoMatch {
        /// As typed.
        pattern: String,
        /// The cluster's alias here.
        cluster: ClusterAlias,
        /// The machines that exist.
        hint: String,
    },
    /// Exclusions leave no machine.
    #[error("the list excludes every machine that it selects")]
    NothingLeft,
}

/// How many names a hint lists.
const SHOWN: usize = 5;

impl Targets {
    /// Resolves targets. `find` returns the alias and the configuration of a cluster.
    ///
    /// # Errors
    ///
    /// If any part of the list matches nothing, nothing is resolved, because it is probably a typing mistake.
    pub fn resolve(
        &self,
        find: impl Fn(&ClusterRef) -> Result<(ClusterAlias, Cluster), String>,
    ) -> Result<Resolved, ResolveError> {
        let mut clusters: Vec<(&ClusterRef, (ClusterAlias, Cluster))> = Vec::new();
        for cluster in self.clusters() {
            clusters.push((cluster, find(cluster).map_err(ResolveError::Cluster)?));
        }
        let mut resolved = Resolved::default();
        let mut seen: HashSet<(ClusterId, MachineId)> = HashSet::new();
        // Exclusions apply wherever they are in the list.
        for excluded in [true, false] {
            for part in self.parts.iter().filter(|part| part.excluded == excluded) {
                let found = clusters
                    .iter()
                    .find(|(written, _)| **written == part.cluster);
                let Some((_, (alias, cluster))) = found else {
                    continue;
                };
                for machine in machines(part, alias, cluster, &mut resolved.notes)? {
                    if seen.insert((cluster.id(), machine.id())) && !excluded {
                        resolved.machines.push(ResolvedMachine {
                            name: machine.name().clone(),
                            id: machine.id(),
                            cluster: alias.clone(),
                        });
                    }
                }
            }
        }
        match resolved.machines.is_empty() {
            true => Err(ResolveError::NothingLeft),
            false => Ok(resolved),
        }
    }
}

fn machines<'c>(
    part: &Part,
    alias: &ClusterAlias,
    cluster: &'c Cluster,
    notes: &mut Vec<String>,
) -> Result<Vec<&'c Machine>, ResolveError> {
    match &part.machines {
        Machines::One(machine) => one(machine, alias, cluster).map(|machine| vec![machine]),
        Machines::Pattern(pattern) => {
            let named = |machine: &&Machine| matches(pattern, machine.name().as_str());
            let found: Vec<_> = cluster.machines().filter(named).collect();
            match found.is_empty() && !part.excluded {
                true => Err(ResolveError::NoMatch {
                    pattern: pattern.clone(),
                    cluster: alias.clone(),
                    hint: some_names(cluster),
                }),
                false => Ok(found),
            }
        }
        Machines::Group(name) => {
            let group = cluster.group_named(name.as_str());
            let group = group.ok_or_else(|| ResolveError::Group {
                name: name.to_string(),
                cluster: alias.clone(),
                hint: group_hint(name.as_str(), alias, cluster),
            })?;
            let members = cluster.members_of(group);
            let found: Vec<_> = members.filter_map(|id| cluster.machine(&id)).collect();
            if found.is_empty() && !part.excluded {
                return Err(ResolveError::NoMachine {
                    name: name.to_string(),
                    cluster: alias.clone(),
                });
            }
            if !part.excluded {
                let left_out = non_machine_members(group, cluster);
                notes.extend(left_out.iter().take(SHOWN).map(|id| {
                    let who = match *id == cluster.manager() {
                        true => "the manager".to_owned(),
                        false => id.to_string(),
                    };
                    format!(
                        "{who} is in @{name}.{alias} but is not a machine of the cluster: skipped"
                    )
                }));
                if let Some(more @ 1..) = left_out.len().checked_sub(SHOWN) {
                    notes.push(format!(
                        "{more} more keys in @{name}.{alias} do not belong to a machine: skipped"
                    ));
                }
            }
            Ok(found)
        }
    }
}

fn one<'c>(
    wanted: &MachineRef,
    alias: &ClusterAlias,
    cluster: &'c Cluster,
) -> Result<&'c Machine, ResolveError> {
    let found = match wanted {
        MachineRef::Id(id) => cluster.machine(id),
        MachineRef::Name(name) => cluster.machine_named(name.as_str()),
    };
    found.ok_or_else(|| {
        let name = wanted.to_string();
        let nearest = cluster.nearest_machine(&name);
        let hint = if cluster.group_named(&name).is_some() {
            format!("; a group is written `@{name}.{alias}`")
        } else if cluster.folder_named(&name).is_some() {
            format!("; `{name}.{alias}` is a folder, which cannot be one of several targets")
        } else {
            nearest.map_or_else(String::new, |nearest| {
                format!("; did you mean `{nearest}.{alias}`?")
            })
        };
        ResolveError::Machine {
            name,
            cluster: alias.clone(),
            hint,
        }
    })
}

fn group_hint(name: &str, alias: &ClusterAlias, cluster: &Cluster) -> String {
    if cluster.machine_named(name).is_some() {
        return format!("; a machine is written `{name}.{alias}`");
    }
    let groups = || cluster.groups().map(|group| group.name().as_str());
    match nearest(name, groups()) {
        Some(nearest) => format!("; did you mean `@{nearest}.{alias}`?"),
        None => match groups().next() {
            None => "; it has no groups".to_owned(),
            Some(_) => format!(
                "; it has {}",
                shown(groups().map(|group| format!("@{group}")))
            ),
        },
    }
}

fn some_names(cluster: &Cluster) -> String {
    match cluster.machines().next() {
        None => "; it has no machines".to_owned(),
        Some(_) => format!(
            "; it has {}",
            shown(cluster.machines().map(|machine| machine.name().to_string()))
        ),
    }
}

fn shown(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<_> = names.collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let names = names.join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// The keys in a group, and in the groups inside it, that do not belong to a machine.
fn non_machine_members(group: &Group, cluster: &Cluster) -> Vec<MachineId> {
    let (mut open, mut seen) = (vec![group], HashSet::new());
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    while let Some(group) = open.pop() {
        if !seen.insert(group.name().as_str()) {
            continue;
        }
        for entry in group.entries() {
            match entry {
                Entry::Id(id) if cluster.machine(id).is_none() && known.insert(*id) => {
                    found.push(*id);
                }
                Entry::Group(name) => open.extend(cluster.group_named(name.as_str())),
                _ => {}
            }
        }
    }
    found
}
