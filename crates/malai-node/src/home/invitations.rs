//! The invitations of a cluster managed here, `invitations/` in its folder: one file each, in which every use is recorded
//! before it lets a machine in. No secret is stored, only the public key that follows from it.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use malai_cluster::{
    Cluster, GroupName, InvitationId, MachineId, MachineName, NamePattern, SECRET_BYTES,
};
use malai_wire::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::ClusterDir;
use super::edit::{self, EditFailure};
use crate::os::fs::{self, StoreError};

/// The maximum size of an invitation's file in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// How many machines one invitation may let in.
pub const MAX_USES: u32 = 1000;

/// How many invitations of a cluster are kept.
const MAX_INVITATIONS: usize = 1000;

/// How long an invitation is kept after its end, in milliseconds: so long it is told what became of it.
const KEPT_MS: u64 = 30 * 86_400_000;

/// Why an invitation was ended when a restored backup was noticed.
pub(crate) const RESTORED: &str = "its manager was restored from a backup";

/// An invitation as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invited {
    /// The names that it is for: a name, or a pattern.
    #[serde(with = "as_text")]
    pub names: NamePattern,
    /// The groups that a machine is added to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// Who may run commands on a machine, as in `allow_from`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_from: Vec<String>,
    /// How many machines it lets in.
    pub uses: u32,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is worthless, by the manager's clock.
    pub expires: Timestamp,
    /// The public key that follows from its secret.
    pub key: MachineId,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
    /// Why, if not by the administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_because: Option<String>,
    /// The machines that used it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<Use>,
}

/// One use of an invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// The name that the machine got.
    pub name: MachineName,
    /// Its key.
    pub id52: MachineId,
    /// When.
    pub at: Timestamp,
    /// Where it asked from: an address, or `relay`.
    pub from: String,
    /// Whether a published configuration has had the machine. Until then the same key may ask again.
    pub joined: bool,
}

/// Writes and reads a pattern as text.
mod as_text {
    use malai_cluster::NamePattern;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(names: &NamePattern, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(names)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<NamePattern, D::Error> {
        NamePattern::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// Why an invitation does not let a machine in, and never will.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// All its uses are used up.
    #[error("it was {}used already: by {} ({}) at {at}, from {from}; if that was not you, tell the cluster's administrator at once", of_many(*uses), name, id52)]
    Used {
        /// How many machines it was for.
        uses: u32,
        /// The machine that used it last.
        name: MachineName,
        /// Its key.
        id52: MachineId,
        /// When.
        at: Seconds,
        /// From where.
        from: String,
    },
    /// This machine used it, and was removed since.
    #[error(
        "this machine joined with it at {at}, as {name}, and was removed since; an invitation lets a machine in once"
    )]
    Removed {
        /// Its name then.
        name: MachineName,
        /// When it joined.
        at: Seconds,
    },
    /// It is too late.
    #[error("it expired at {at}, by the manager's clock")]
    Expired {
        /// When.
        at: Seconds,
    },
    /// It was revoked.
    #[error("it was revoked at {at}{}", because.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Revoked {
        /// When.
        at: Seconds,
        /// Why, if not by the administrator.
        because: Option<String>,
    },
}

fn of_many(uses: u32) -> String {
    match uses {
        1 => String::new(),
        uses => format!("for {uses} machines, and all of them have "),
    }
}

/// A time without its milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds(Timestamp);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let (seconds, _) = text.split_once('.').unwrap_or((&text, ""));
        write!(f, "{seconds}Z")
    }
}

impl Invited {
    /// Whether it lets this machine in now. Returns the machine's own use, if it has begun one that was not finished:
    /// finishing it uses nothing up.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub(crate) fn judge(&self, machine: &MachineId, now: Timestamp) -> Result<Option<&Use>, Unfit> {
        let own = self.used.iter().find(|used| used.id52 == *machine);
        if let Some(Use { name, at, .. }) = own.filter(|own| own.joined) {
            let (name, at) = (name.clone(), Seconds(*at));
            return Err(Unfit::Removed { name, at });
        }
        if let Some(at) = self.revoked {
            let because = self.revoked_because.clone();
            let at = Seconds(at);
            return Err(Unfit::Revoked { at, because });
        }
        if own.is_some() {
            return Ok(own);
        }
        if let Some(last) = self.used.last().filter(|_| self.left() == 0) {
            return Err(Unfit::Used {
                uses: self.uses,
                name: last.name.clone(),
                id52: last.id52,
                at: Seconds(last.at),
                from: last.from.clone(),
            });
        }
        if self.expires <= now {
            let at = Seconds(self.expires);
            return Err(Unfit::Expired { at });
        }
        Ok(None)
    }

    /// How many more machines it lets in, if it is not revoked or expired.
    pub fn left(&self) -> u32 {
        let used = u32::try_from(self.used.len()).unwrap_or(u32::MAX);
        self.uses.saturating_sub(used)
    }

    /// Whether it may let a new machine in at this time.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.left() > 0 && now < self.expires
    }

    fn ended(&self) -> Timestamp {
        let last = self.used.last().map(|used| used.at);
        let ends = [self.revoked, Some(self.expires), last];
        ends.into_iter().flatten().max().unwrap_or(self.expires)
    }
}

/// Why an invitation cannot be made, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum InvitationFailure {
    /// There is no such invitation.
    #[error("there is no invitation {id} to {alias}: malai cluster invites {alias} lists them")]
    Unknown {
        /// Its short name, as typed.
        id: String,
        /// The cluster.
        alias: String,
    },
    /// Its file cannot be parsed.
    #[error(
        "{}: {why}; revoke the invitation by deleting the file",
        fs::display_path(path)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There are too many.
    #[error(
        "there are {MAX_INVITATIONS} invitations already: delete files of old ones in {}",
        fs::display_path(folder)
    )]
    TooMany {
        /// Where they are.
        folder: PathBuf,
    },
    /// The folder cannot be locked.
    #[error(transparent)]
    Edit(#[from] EditFailure),
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A secret that nobody can guess.
pub fn new_secret() -> [u8; SECRET_BYTES] {
    rand::random()
}

/// The current time by this computer's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.map_or(0, |since| since.as_millis());
    Timestamp(u64::try_from(since).unwrap_or(u64::MAX))
}

/// The first line of each file.
const HEAD: &str = "# An invitation, written by malai: malai cluster revoke-invite ends it.\n";

fn path_of(dir: &ClusterDir, id: InvitationId) -> PathBuf {
    dir.invitations().join(format!("{id}.toml"))
}

/// Stores a new invitation, and deletes those that ended long ago.
///
/// # Errors
///
/// There are too many, or it cannot be stored.
pub fn create(dir: &ClusterDir, invited: &Invited) -> Result<InvitationId, InvitationFailure> {
    let folder = dir.invitations();
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StoreError::io("create", &folder)(error).into());
        }
        _ => fs::sync_folder(&dir.path)?,
    }
    let _lock = edit::lock(dir)?;
    let all = list(dir)?;
    let mut kept = all.len();
    for (id, old) in all {
        let is_old = |old: Invited| old.ended().0 + KEPT_MS < invited.created.0;
        if old.is_ok_and(is_old) && std::fs::remove_file(path_of(dir, id)).is_ok() {
            kept -= 1;
        }
    }
    if kept >= MAX_INVITATIONS {
        return Err(InvitationFailure::TooMany { folder });
    }
    let id = InvitationId::of(&invited.key);
    fs::create_atomic(&path_of(dir, id), to_file(invited).as_bytes(), 0o600)?;
    Ok(id)
}

fn to_file(invited: &Invited) -> String {
    let body = toml::to_string(invited).unwrap_or_default();
    format!("{HEAD}{body}")
}

fn store(dir: &ClusterDir, id: InvitationId, invited: &Invited) -> Result<(), StoreError> {
    fs::write_atomic(&path_of(dir, id), to_file(invited).as_bytes(), 0o600)
}

/// One invitation; `None` if there is none of that name.
///
/// # Errors
///
/// Its file cannot be read.
pub(crate) fn load(
    dir: &ClusterDir,
    id: InvitationId,
) -> Result<Option<Invited>, InvitationFailure> {
    let path = path_of(dir, id);
    let Some(text) = fs::read_text(&path, MAX_FILE)? else {
        return Ok(None);
    };
    let damaged = |why: String| InvitationFailure::Damaged {
        path: path.clone(),
        why,
    };
    let invited: Invited =
        toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    match InvitationId::of(&invited.key) == id {
        true => Ok(Some(invited)),
        false => Err(damaged("its key is another invitation's".to_owned())),
    }
}

/// Invitations and their names. Each may be damaged.
pub type Listed = Vec<(InvitationId, Result<Invited, InvitationFailure>)>;

/// All invitations, oldest first.
///
/// # Errors
///
/// The folder cannot be read.
pub fn list(dir: &ClusterDir) -> Result<Listed, InvitationFailure> {
    let folder = dir.invitations();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("list", &folder)(error).into()),
    };
    let mut all = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".toml"));
        if let Some(id) = id.and_then(InvitationId::parse)
            && let Some(invited) = load(dir, id).transpose()
        {
            all.push((id, invited));
        }
    }
    all.sort_by_key(|(id, invited)| (invited.as_ref().ok().map(|invited| invited.created), *id));
    Ok(all)
}

/// Changes one invitation, while nobody else does.
///
/// # Errors
///
/// There is no such invitation, or it cannot be read or written; it is unchanged then.
fn change<T>(
    dir: &ClusterDir,
    id: InvitationId,
    change: impl FnOnce(&mut Invited) -> T,
) -> Result<T, InvitationFailure> {
    let _lock = edit::lock(dir)?;
    let Some(mut invited) = load(dir, id)? else {
        let (id, alias) = (id.to_string(), dir.alias.to_string());
        return Err(InvitationFailure::Unknown { id, alias });
    };
    let before = invited.clone();
    let done = change(&mut invited);
    if invited != before {
        store(dir, id, &invited)?;
    }
    Ok(done)
}

/// Revokes an invitation. Returns it as it is then; one that was revoked before keeps its time.
///
/// # Errors
///
/// There is no such invitation, or it cannot be written.
pub fn revoke(
    dir: &ClusterDir,
    id: &str,
    now: Timestamp,
    because: Option<&str>,
) -> Result<Invited, InvitationFailure> {
    let Some(id) = InvitationId::parse(id) else {
        let (id, alias) = (malai_cluster::escape(id), dir.alias.to_string());
        return Err(InvitationFailure::Unknown { id, alias });
    };
    change(dir, id, |invited| {
        if invited.revoked.is_none() {
            invited.revoked = Some(now);
            invited.revoked_because = because.map(str::to_owned);
        }
        invited.clone()
    })
}

/// Revokes all invitations, after it was noticed that this manager was restored from a backup: uses that the backup does not
/// know must not be repeated.
pub(crate) fn revoke_restored(dir: &ClusterDir, now: Timestamp) {
    for (id, invited) in list(dir).unwrap_or_default() {
        let is_open = invited.is_ok_and(|invited| invited.revoked.is_none());
        if is_open && let Err(error) = revoke(dir, &id.to_string(), now, Some(RESTORED)) {
            tracing::error!(cluster = %dir.alias, invitation = %id, "an invitation that a backup may have revived cannot be revoked: {error}");
        }
    }
}

/// Records a use durably, before it lets the machine in. What has changed since the invitation was read is judged again.
///
/// # Errors
///
/// It cannot be recorded. Inside: it does not let the machine in any more.
pub(crate) fn record_use(
    dir: &ClusterDir,
    id: InvitationId,
    new: &Use,
) -> Result<Result<(), Unfit>, InvitationFailure> {
    change(dir, id, |invited| {
        let is_begun = invited.judge(&new.id52, new.at)?.is_some();
        if is_begun {
            invited.used.retain(|used| used.id52 != new.id52);
        }
        invited.used.push(new.clone());
        Ok(())
    })
}

/// Records that these machines are in a published configuration, so that their uses are finished: a machine that is
/// removed later is not let in again.
pub(crate) fn finish_uses(dir: &ClusterDir, published: &Cluster) {
    for (id, invited) in list(dir).unwrap_or_default() {
        let has_new = invited.is_ok_and(|invited| {
            let mut open = invited.used.iter().filter(|used| !used.joined);
            open.any(|used| published.is_member(&used.id52))
        });
        if !has_new {
            continue;
        }
        let finish = |invited: &mut Invited| {
            for used in &mut invited.used {
                used.joined |= published.is_member(&used.id52);
            }
        };
        if let Err(error) = change(dir, id, finish) {
            tracing::error!(cluster = %dir.alias, invitation = %id, "cannot record that a machine has joined: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
