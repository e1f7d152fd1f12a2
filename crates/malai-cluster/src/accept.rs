//! What a computer's owner accepts in a cluster. It narrows what the cluster's rules allow, and never
//! widens it.

use std::fmt;

use crate::cluster::Cluster;
use crate::group::path_to;
use crate::identity::{IdError, MachineId, looks_like_id52};
use crate::name::{ClusterAlias, MachineName, NameError, UserName};
use crate::policy::{Grant, Refusal, Rule, Run};
use crate::service::Upstream;

/// One `[accept.<alias>]` of a `malai.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// `malai.toml accept.staging`, for refusal messages.
    section: String,
    from: Option<Box<[AcceptEntry]>>,
    users: Option<Box<[UserName]>>,
    own_user: Option<Box<str>>,
}

/// One entry of `from`. Names are looked up in the configuration that is in force when a request is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptEntry {
    /// `*`: every member of the cluster.
    Everyone,
    /// A key by its id52.
    Id(MachineId),
    /// A machine or a group; the cluster knows which. Both have the same kind of names.
    Name(MachineName),
}

impl AcceptEntry {
    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// The text is not `*`, an id52 or a name.
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

    /// Whether the cluster has a machine, a group or a member with this name or key.
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

/// Whether `from` admits a member's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// `from` is not set: only the cluster's rules count.
    Unlimited,
    /// Admitted by this entry.
    By(Rule),
    /// No entry matches the member.
    No,
}

/// Why a text is not a valid entry of `from`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptEntryError {
    /// It looks like an id52 but is not valid.
    #[error(transparent)]
    Id(IdError),
    /// It cannot be a name.
    #[error(transparent)]
    Name(NameError),
}

impl Accept {
    /// What is accepted in the cluster with this alias: requests of which members, and commands as which users.
    /// `None` leaves it to the cluster's rules.
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

    /// The same, for a computer whose daemon runs as this user: commands without a `username` run as it. If its
    /// name is unknown (`None`), `users` never matches it.
    pub fn of_daemon(mut self, own_user: Option<&str>) -> Self {
        self.own_user = own_user.map(Into::into);
        self
    }

    /// Sets the users that commands may run as where `users` is not written.
    pub fn or_users(mut self, users: Vec<UserName>) -> Self {
        self.users.get_or_insert_with(|| users.into());
        self
    }

    /// The members accepted; `None` means all that the cluster's rules allow.
    pub fn from(&self) -> Option<&[AcceptEntry]> {
        self.from.as_deref()
    }

    /// The users accepted; `None` means any.
    pub fn users(&self) -> Option<&[UserName]> {
        self.users.as_deref()
    }

    /// Whether commands may run as this user here; `None` is the daemon's own user.
    pub fn accepts_user(&self, user: Option<&UserName>) -> bool {
        let user = user.map(UserName::as_str).or(self.own_user.as_deref());
        self.users.as_ref().is_none_or(|users| {
            user.is_some_and(|user| users.iter().any(|accepted| accepted.as_str() == user))
        })
    }

    /// Whether requests of this member are accepted, and by which entry.
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

    /// Narrows what the cluster's rules grant.
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
        // A port does not depend on the user who connects; a Unix socket is opened with the rights of the daemon's user.
        let is_port = matches!(
            grant.run,
            Run::Connect(Upstream::Tcp { .. } | Upstream::Http { .. })
        );
        if !is_port && !self.accepts_user(grant.user.as_ref()) {
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
