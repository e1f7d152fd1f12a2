//! What this computer accepts according to `malai.toml`: one value for all clusters, replaced when the file is read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use malai_cluster::{Accept, ClusterAlias};
use parking_lot::Mutex;

use crate::settings::accept::{Sections, here};

/// What is accepted in each cluster of this process.
#[derive(Debug, Default)]
pub(crate) struct AcceptPolicies(Mutex<BTreeMap<ClusterAlias, Arc<Accept>>>);

impl AcceptPolicies {
    /// The policies of these sections.
    pub(crate) fn new(sections: &Sections) -> Self {
        let accept_policies = Self::default();
        accept_policies.replace(sections, None);
        accept_policies
    }

    /// What is accepted in a cluster; `None` means whatever its rules allow.
    pub(crate) fn of(&self, alias: &ClusterAlias) -> Option<Arc<Accept>> {
        let accept = self.0.lock().get(alias).cloned();
        accept.or_else(|| here(alias, None).map(Arc::new))
    }

    /// Replaces the policies, of one cluster or of all. Returns the clusters whose policy changed: sessions there have to be
    /// authorized again.
    pub(crate) fn replace(&self, sections: &Sections, only: Option<&str>) -> Vec<ClusterAlias> {
        let wanted = |alias: &ClusterAlias| only.is_none_or(|only| only == alias.as_str());
        let mut current = self.0.lock();
        let mut changed = Vec::new();
        current.retain(|alias, _| {
            let gone = wanted(alias) && !sections.all.contains_key(alias);
            if gone {
                changed.push(alias.clone());
            }
            !gone
        });
        for (alias, section) in sections.all.iter().filter(|(alias, _)| wanted(alias)) {
            let Some(accept) = here(alias, Some(&section.accept)) else {
                continue;
            };
            if current.get(alias).map(|accept| &**accept) != Some(&accept) {
                current.insert(alias.clone(), Arc::new(accept));
                changed.push(alias.clone());
            }
        }
        changed
    }
}
