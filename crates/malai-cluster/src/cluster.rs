//! A cluster's checked configuration.

mod changes;
mod check;
mod content;
mod document;
mod edit;
mod limits;
mod locate;
mod render;

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, nearest};
use crate::folder::Folder;
use crate::group::{Group, GroupIndex, Member};
use crate::identity::{ClusterId, MachineId};
use crate::machine::Machine;
use crate::name::MachineName;
use crate::network::Network;
use crate::service::Service;

pub use self::check::without_consequences;
pub use changes::{Change, changes};
pub use edit::{
    EditError, ListChange, MachineChange, UserChange, add_machine, change_machine, follow_alias,
    forget_alias, remove_machine, rename_machine,
};
pub use limits::{
    MAX_COMMAND_LINE, MAX_COMMANDS, MAX_CONTENT, MAX_ENTRIES, MAX_ENV_PATTERNS, MAX_FOLDERS,
    MAX_FOREIGN_IDS, MAX_GROUP_DEPTH, MAX_GROUPS, MAX_MACHINES, MAX_RELAYS, MAX_SERVICES,
    MAX_USERS,
};
pub use locate::{Location, locate, locate_in_content, locate_span};
pub(crate) use render::key;
pub use render::{initial_document, machine_section};

/// The newest format of content that this version reads. It writes the lowest that suffices.
pub const FORMAT: u32 = 2;

/// Checks a `cluster.toml`; `file` is its name for the diagnostics.
///
/// It reports every problem, not just the first.
pub fn check(file: &str, source: &str) -> Checked {
    check::file(file, source)
}

/// The result of checking a `cluster.toml`.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The cluster, if there are no errors.
    pub cluster: Option<Cluster>,
    /// Errors, then warnings, each in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads content that a manager rendered, as [`Cluster::render`] writes it; other spellings are refused.
///
/// Time and memory are bounded whatever the manager has signed: by the length of the content and by
/// [`MAX_MACHINES`], [`MAX_GROUPS`], [`MAX_COMMANDS`], [`MAX_SERVICES`], [`MAX_FOLDERS`], [`MAX_ENTRIES`] and
/// [`MAX_GROUP_DEPTH`].
///
/// # Errors
///
/// [`ContentError::TooNew`] if this version does not know the format, otherwise [`ContentError::Invalid`] with
/// the first problems.
pub fn read_content(content: &str) -> Result<Cluster, ContentError> {
    check::content("machine.toml", content)
}

/// Why content cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// A newer malai wrote it.
    #[error(
        "the configuration is in format {format}, this malai knows up to {FORMAT}: install a newer malai here"
    )]
    TooNew {
        /// Its format.
        format: u32,
    },
    /// Not a valid configuration.
    #[error("the configuration is not valid: {}", .0.first().map_or("", |first| &first.message))]
    Invalid(Vec<Diagnostic>),
}

/// A cluster's configuration, checked as a whole and immutable. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Cluster(Arc<ClusterInner>);

#[derive(Debug)]
struct ClusterInner {
    id: ClusterId,
    name: Box<str>,
    /// Sorted by name.
    machines: Box<[Machine]>,
    /// Sorted by name.
    groups: Box<[Group]>,
    /// Sorted by name.
    services: Box<[Service]>,
    /// Sorted by name.
    folders: Box<[Folder]>,
    network: Network,
    /// Includes the manager, at `machines.len()` if no machine has its key.
    members: HashMap<MachineId, Member>,
}

impl Cluster {
    /// `machines`, `groups`, `services` and `folders` must be sorted by name; the members' positions depend on it.
    fn new(
        id: ClusterId,
        name: &str,
        machines: Vec<Machine>,
        groups: Vec<Group>,
        services: Vec<Service>,
        folders: Vec<Folder>,
        network: Network,
    ) -> Self {
        let mut members: HashMap<_, _> = machines
            .iter()
            .enumerate()
            .map(|(index, machine)| (machine.id, index as Member))
            .collect();
        members
            .entry(id.manager())
            .or_insert(machines.len() as Member);
        Cluster(Arc::new(ClusterInner {
            id,
            name: name.into(),
            machines: machines.into(),
            groups: groups.into(),
            services: services.into(),
            folders: folders.into(),
            network,
            members,
        }))
    }

    /// The identity of the cluster.
    pub fn id(&self) -> ClusterId {
        self.0.id
    }

    /// `cluster_name`, for display only; empty if there is none.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The manager's key.
    pub fn manager(&self) -> MachineId {
        self.0.id.manager()
    }

    /// Whether the key is the manager's or a machine's.
    pub fn is_member(&self, id: &MachineId) -> bool {
        self.0.members.contains_key(id)
    }

    /// The manager if it is not listed as a machine, then every machine by name.
    pub fn members(&self) -> impl Iterator<Item = MachineId> {
        let unlisted = self.machine(&self.manager()).is_none();
        let manager = unlisted.then(|| self.manager());
        manager.into_iter().chain(self.machines().map(Machine::id))
    }

    /// The machines, by name.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.0.machines.iter()
    }

    /// The machine with this key.
    pub fn machine(&self, id: &MachineId) -> Option<&Machine> {
        self.0.machines.get(self.member(id)? as usize)
    }

    /// The machine with this name.
    pub fn machine_named(&self, name: &str) -> Option<&Machine> {
        self.0
            .machines
            .binary_search_by(|machine| machine.name.as_str().cmp(name))
            .ok()
            .map(|index| &self.0.machines[index])
    }

    /// The groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.0.groups.iter()
    }

    /// The group with this name.
    pub fn group_named(&self, name: &str) -> Option<&Group> {
        let index = self.group_index(name)?;
        self.0.groups.get(index as usize)
    }

    /// The services, by name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.0.services.iter()
    }

    /// The service with this name.
    pub fn service_named(&self, name: &str) -> Option<&Service> {
        let services = &self.0.services;
        let found = services.binary_search_by(|service| service.name.as_str().cmp(name));
        found.ok().map(|index| &services[index])
    }

    /// The folders, by name.
    pub fn folders(&self) -> impl Iterator<Item = &Folder> {
        self.0.folders.iter()
    }

    /// The folder with this name.
    pub fn folder_named(&self, name: &str) -> Option<&Folder> {
        let folders = &self.0.folders;
        let found = folders.binary_search_by(|folder| folder.name.as_str().cmp(name));
        found.ok().map(|index| &folders[index])
    }

    /// How members find and reach each other.
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// All members of a group, including those of groups inside it: machines by name, then the manager if it is
    /// not a machine.
    pub fn members_of<'c>(&'c self, group: &'c Group) -> impl Iterator<Item = MachineId> + 'c {
        let machine = |member| self.0.machines.get(member as usize);
        group
            .all()
            .map(move |member| machine(member).map_or(self.manager(), Machine::id))
    }

    /// The machine with the name most similar to a mistyped one.
    pub fn nearest_machine(&self, name: &str) -> Option<&MachineName> {
        let names = self.machines().map(|machine| machine.name.as_str());
        let found = nearest(name, names)?;
        self.machine_named(found).map(Machine::name)
    }

    /// The content to be signed: `format` first, comments dropped, keys sorted, lists as arrays.
    ///
    /// The same configuration has the same bytes, however its file is laid out.
    pub fn render(&self) -> String {
        render::render(self)
    }

    pub(crate) fn member(&self, id: &MachineId) -> Option<Member> {
        self.0.members.get(id).copied()
    }

    pub(crate) fn group_index(&self, name: &str) -> Option<GroupIndex> {
        let groups = &self.0.groups;
        let found = groups.binary_search_by(|group| group.name().as_str().cmp(name));
        found.ok().map(|index| index as GroupIndex)
    }

    pub(crate) fn group_table(&self) -> &[Group] {
        &self.0.groups
    }
}

/// Equal when they render to the same content.
impl PartialEq for Cluster {
    fn eq(&self, other: &Self) -> bool {
        let (this, that) = (&*self.0, &*other.0);
        this.id == that.id
            && this.name == that.name
            && this.machines == that.machines
            && this.groups == that.groups
            && this.services == that.services
            && this.folders == that.folders
            && this.network == that.network
    }
}

impl Eq for Cluster {}

#[cfg(test)]
mod tests;
