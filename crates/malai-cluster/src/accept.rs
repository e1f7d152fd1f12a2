//! What a computer's owner accepts in a cluster: it narrows what the cluster's rules allow, and
//! never widens it.

use std::fmt;

use crate::cluster::Cluster;
use crate::group::path_to;
use crate::identity::{IdError, MachineId, looks_like_id52};
use crate::name::{ClusterAlias, MachineName, NameError, UserName};
use crate::policy::{Grant, Refusal, Rule};

/// One `[accept.<alias>]` of a `malai.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// `malai.toml accept.staging`, for refusals.
    section: String,
    from: Option<Box<[AcceptEntry]>>,
    users: Option<Box<[UserName]>>,
    own_user: Option<Box<str>>,
}

/// One entry of `from`. Names are looked up in the cluster that is in force when somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptEntry {
    /// `*`: every member of the cluster.
    Everyone,
    /// A key by its id52.
    Id(MachineId),
    /// A machine or a group; the cluster knows which. Machines and groups are named alike.
    Name(MachineName),
}

impl AcceptEntry {
    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// It is neither `*` nor an id52 nor a name.
    pub fn parse(text: &str) -> Result<Self, AcceptEntryError> {
        if text == "*" {
            return Ok(AcceptEntry::Everyone);
        }
        if looks_like_id52(text) {
            return MachineId::parse(text)
                .map(AcceptEntry::Id)
                .map_err(AcceptEntryError::Id);
        }
        let name = MachineName::parse(text);
        name.map(AcceptEntry::Name).map_err(AcceptEntryError::Name)
    }

    /// Whether the cluster has a machine, a group or a member of this name or key.
    pub fn is_known(&self, cluster: &Cluster) -> bool {
        match self {
            AcceptEntry::Everyone => true,
            AcceptEntry::Id(id) => cluster.is_member(id),
            AcceptEntry::Name(name) => {
                let name = name.as_str();
                cluster.machine_named(name).is_some() || cluster.group_named(name).is_some()
            }
        }
    }
}

impl fmt::Display for AcceptEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptEntry::Everyone => f.write_str("*"),
            AcceptEntry::Id(id) => id.fmt(f),
            AcceptEntry::Name(name) => name.fmt(f),
        }
    }
}

/// Whether `from` lets a member's requests in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// `from` is not written: the cluster's rules alone count.
    Unlimited,
    /// By this entry.
    By(Rule),
    /// No entry holds the member.
    No,
}

/// Why a text is no entry of `from`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptEntryError {
    /// It has the shape of an id52 and is none.
    #[error(transparent)]
    Id(IdError),
    /// It cannot be a name.
    #[error(transparent)]
    Name(NameError),
}

impl Accept {
    /// What is accepted in the cluster of this alias: from whom, and as which users commands may
    /// run. None is what the cluster's rules say.
    pub fn new(
        alias: &ClusterAlias,
        from: Option<Vec<AcceptEntry>>,
        users: Option<Vec<UserName>>,
    ) -> Self {
        Accept {
            section: format!("malai.toml accept.{alias}"),
            from: from.map(Into::into),
            users: users.map(Into::into),
            own_user: None,
        }
    }

    /// The same on a computer whose daemon runs as this user: what has no `username` runs as it.
    /// Without a name for it, `users` holds it never.
    pub fn of_daemon(mut self, own_user: Option<&str>) -> Self {
        self.own_user = own_user.map(Into::into);
        self
    }

    /// From whom; none is everybody whom the cluster's rules allow.
    pub fn from(&self) -> Option<&[AcceptEntry]> {
        self.from.as_deref()
    }

    /// As which users; none is any.
    pub fn users(&self) -> Option<&[UserName]> {
        self.users.as_deref()
    }

    /// Whether commands may run as this user here; none is the daemon's own.
    pub fn accepts_user(&self, user: Option<&UserName>) -> bool {
        let user = user.map(UserName::as_str).or(self.own_user.as_deref());
        self.users.as_ref().is_none_or(|users| {
            user.is_some_and(|user| users.iter().any(|accepted| accepted.as_str() == user))
        })
    }

    /// Whether, and by which entry, requests of this member are accepted.
    pub fn admits(&self, cluster: &Cluster, id: &MachineId) -> Admitted {
        let Some(from) = &self.from else {
            return Admitted::Unlimited;
        };
        let entry = self.entry(from, cluster, id);
        entry.map_or(Admitted::No, Admitted::By)
    }

    fn entry(&self, from: &[AcceptEntry], cluster: &Cluster, id: &MachineId) -> Option<Rule> {
        let member = cluster.member(id)?;
        let groups = cluster.group_table();
        from.iter().find_map(|who| {
            let via = match who {
                AcceptEntry::Everyone => Vec::new(),
                AcceptEntry::Id(accepted) if accepted == id => Vec::new(),
                AcceptEntry::Id(_) => return None,
                AcceptEntry::Name(name) => match cluster.machine_named(name.as_str()) {
                    Some(machine) if machine.id() == *id => Vec::new(),
                    Some(_) => return None,
                    None => {
                        let group = cluster.group_index(name.as_str())?;
                        let path = path_to(groups, group, member);
                        if path.is_empty() {
                            return None;
                        }
                        path
                    }
                },
            };
            Some(Rule {
                path: self.key("from"),
                entry: who.to_string(),
                via,
            })
        })
    }

    /// Takes away from what the cluster's rules grant.
    pub(crate) fn narrow(
        &self,
        cluster: &Cluster,
        from: &MachineId,
        grant: &Grant,
    ) -> Result<(), Refusal> {
        if self.admits(cluster, from) == Admitted::No {
            let rule = self.key("from");
            return Err(Refusal::NotAccepted { rule });
        }
        if !self.accepts_user(grant.user.as_ref()) {
            let named = grant.user.as_ref().map(UserName::as_str);
            let user = match named.or(self.own_user.as_deref()) {
                Some(user) => format!("user `{user}`"),
                None => "the daemon's own user".to_owned(),
            };
            let rule = self.key("users");
            return Err(Refusal::UserNotAccepted { rule, user });
        }
        Ok(())
    }

    fn key(&self, last: &str) -> String {
        format!("{}.{last}", self.section)
    }
}

#[cfg(test)]
mod tests;
