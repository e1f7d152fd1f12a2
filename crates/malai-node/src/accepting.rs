//! What this computer accepts, as `malai.toml` says it at the moment: one value for all clusters,
//! replaced when the file is read again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use malai_cluster::{Accept, ClusterAlias};

use crate::account;
use crate::member::lock;
use crate::settings::accept::Sections;

/// What is accepted in each cluster of this process.
#[derive(Debug, Default)]
pub struct Accepting(Mutex<BTreeMap<ClusterAlias, Arc<Accept>>>);

impl Accepting {
    /// What these sections say.
    pub fn new(sections: &Sections) -> Self {
        let accepting = Self::default();
        accepting.replace(sections, None);
        accepting
    }

    /// What is accepted in a cluster; none is whatever its rules allow.
    pub fn of(&self, alias: &ClusterAlias) -> Option<Arc<Accept>> {
        lock(&self.0).get(alias).cloned()
    }

    /// Takes up what these sections say, of one cluster or of all. Returns where that has changed
    /// anything: sessions there have to be judged again.
    pub fn replace(&self, sections: &Sections, only: Option<&str>) -> Vec<ClusterAlias> {
        let own = account::own_name();
        let wanted = |alias: &ClusterAlias| only.is_none_or(|only| only == alias.as_str());
        let mut current = lock(&self.0);
        let mut changed = Vec::new();
        current.retain(|alias, _| {
            let gone = wanted(alias) && !sections.all.contains_key(alias);
            if gone {
                changed.push(alias.clone());
            }
            !gone
        });
        for (alias, section) in sections.all.iter().filter(|(alias, _)| wanted(alias)) {
            let accept = section.accept.clone().of_daemon(own.as_deref());
            if current.get(alias).map(|accept| &**accept) != Some(&accept) {
                current.insert(alias.clone(), Arc::new(accept));
                changed.push(alias.clone());
            }
        }
        changed
    }
}
