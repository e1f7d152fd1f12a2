//! The invitation that this computer joins a cluster with: kept in the cluster's folder until it has joined.

use malai_cluster::{Hint, Invitation, MachineName};
use serde::{Deserialize, Serialize};

use super::cluster_files::LoadedCluster;
use super::manager_file::ManagerFile;
use super::{ClusterDir, Home};
use crate::home::init::{InitError, NewMachine, init_machine};
use crate::home::keystore;
use crate::os::fs::{self, StoreError, display_path};

/// The maximum size of the file in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The first line of the file.
const HEAD: &str =
    "# malai joins with this invitation, and deletes this file when it has joined.\n";

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    invitation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<MachineName>,
    host: MachineName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// How this computer joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// The invitation.
    pub invitation: Invitation,
    /// The name that it insists on.
    pub name: Option<MachineName>,
    /// The computer's own name.
    pub host: MachineName,
    /// What the manager said when it refused the invitation.
    pub refused: Option<String>,
}

impl Joining {
    /// Reads the file; `None` if this computer joins without an invitation, or has joined.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with it.
    pub(crate) fn load(dir: &ClusterDir) -> Result<Option<Self>, String> {
        let path = dir.invitation();
        let text = fs::read_text(&path, MAX_FILE).map_err(|error| error.to_string())?;
        let Some(text) = text else {
            return Ok(None);
        };
        let damaged = |why: String| {
            let path = display_path(&path);
            format!("{path} cannot be used: {why}; join again with the invitation")
        };
        let stored: Stored =
            toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
        let invitation = Invitation::parse(&stored.invitation);
        Ok(Some(Self {
            invitation: invitation.map_err(|error| damaged(error.to_string()))?,
            name: stored.name,
            host: stored.host,
            refused: stored.refused,
        }))
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(crate) fn store(&self, dir: &ClusterDir) -> Result<(), StoreError> {
        let stored = Stored {
            invitation: self.invitation.to_line(),
            name: self.name.clone(),
            host: self.host.clone(),
            refused: self.refused.clone(),
        };
        let body = toml::to_string(&stored).unwrap_or_default();
        fs::write_atomic(&dir.invitation(), format!("{HEAD}{body}").as_bytes(), 0o600)
    }
}

/// What the owner of a computer that joins with an invitation should know while no daemon runs; `None` if it does not.
pub(crate) fn notice(dir: &ClusterDir) -> Option<String> {
    let alias = dir.alias.as_str();
    match Joining::load(dir) {
        Ok(None) => None,
        Err(problem) => Some(problem),
        Ok(Some(joining)) => Some(match joining.refused {
            Some(text) => refused(&text, alias),
            None => "this computer joins with an invitation as soon as its daemon runs".to_owned(),
        }),
    }
}

/// The sentence about an invitation that was refused.
pub(crate) fn refused(text: &str, alias: &str) -> String {
    format!(
        "the manager refuses the invitation: {text}. Join with another: malai join <invitation> {alias}"
    )
}

/// Deletes the invitation of a computer that has joined.
pub(crate) fn forget(dir: &ClusterDir) {
    match std::fs::remove_file(dir.invitation()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(cluster = %dir.alias, "cannot delete the invitation that this computer has joined with: {error}");
        }
        _ => {}
    }
}

/// Creates this computer's identity in the cluster of an invitation, as `machine init` does, and keeps the invitation. An
/// identity that is already there is kept. Returns it, and whether it is new.
///
/// # Errors
///
/// As [`init_machine`].
pub fn begin(
    home: &Home,
    alias: &malai_cluster::ClusterAlias,
    joining: &Joining,
) -> Result<(NewMachine, bool), InitError> {
    let invitation = &joining.invitation;
    let hints: Vec<String> = invitation.hints.iter().map(Hint::to_string).collect();
    let dir = home.cluster_dir(alias);
    let is_there = ManagerFile::load(&dir).is_ok_and(|file| file.cluster == invitation.cluster);
    let made = match keystore::load(&dir.machine_key()) {
        Ok(seed) if is_there => NewMachine {
            id: seed.id(),
            cluster: invitation.cluster,
            dir,
        },
        _ => init_machine(home, alias, &invitation.cluster, &hints)?,
    };
    remember_addresses(&made.dir, invitation)?;
    joining.store(&made.dir)?;
    Ok((made, !is_there))
}

/// Writes the manager's addresses where those of members are remembered, unless some are.
fn remember_addresses(dir: &ClusterDir, invitation: &Invitation) -> Result<(), StoreError> {
    let path = dir.addresses();
    let addresses: Vec<String> = invitation
        .hints
        .iter()
        .filter(|hint| matches!(hint, Hint::Address(_)))
        .map(Hint::to_string)
        .collect();
    if addresses.is_empty() || path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let known = std::collections::BTreeMap::from([(invitation.cluster.manager(), addresses)]);
    let text = serde_json::to_string_pretty(&known).unwrap_or_default();
    fs::write_atomic(&path, text.as_bytes(), 0o600)
}

/// This computer's name and groups in a cluster that it has joined.
pub fn place(dir: &ClusterDir) -> Option<(String, Vec<String>)> {
    let files = LoadedCluster::load(dir);
    let own = files.seed?.id();
    let snapshot = files.snapshot?;
    let cluster = snapshot.cluster();
    let name = cluster.machine(&own)?.name().to_string();
    let groups = cluster.groups();
    let groups = groups.filter(|group| cluster.members_of(group).any(|id| id == own));
    let groups = groups.map(|group| group.name().to_string()).collect();
    Some((name, groups))
}
