//! The arguments of `cluster`. The doc comments are the help text.

use std::time::Duration;

use clap::Subcommand;

use malai_node::invitations::MAX_USES;

use crate::cli::number;
use crate::output::duration;

pub(super) const EXAMPLES: &str = "\
Examples:
  malai cluster init company
  malai cluster list
  malai cluster add company web01 <id52> --allow-from admins
  malai cluster set company web01 --allow-from admins,laptop
  malai cluster edit company";

/// Subcommands of `malai cluster`.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Create a cluster; this computer becomes its manager
    #[command(before_help = "Example:\n  malai cluster init company")]
    Init {
        /// Its local name: lowercase letters, digits and -
        alias: String,
    },
    /// List the clusters that this computer is in
    #[command(before_help = "Examples:\n  malai cluster list\n  malai cluster list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a cluster's configuration: machines, who may do what on them, and groups
    #[command(
        before_help = "Examples:\n  malai cluster show company\n  malai cluster show company web01"
    )]
    Show {
        /// The cluster's local name
        alias: String,
        /// Only this machine or group
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Edit cluster.toml in $VISUAL or $EDITOR; changes are shown, and take effect only if the file is valid
    #[command(
        before_help = "Examples:\n  malai cluster edit company\n  EDITOR=nano malai cluster edit company"
    )]
    Edit {
        /// The cluster's local name
        alias: String,
        /// Publish without asking
        #[arg(short, long)]
        yes: bool,
    },
    /// Add a machine to a cluster managed here, and publish the change
    #[command(
        before_help = "Example:\n  malai cluster add company web01 <id52> --allow-from admins,laptop"
    )]
    Add(NewMachineArgs),
    /// List the keys that ask to join a cluster managed here, or admit one of them
    #[command(
        before_help = "Examples:\n  malai cluster approve company\n  malai cluster approve company web01 <id52> --allow-from admins"
    )]
    Approve {
        /// The cluster's local name
        alias: String,
        /// The machine's new name: lowercase letters, digits and -
        #[arg(requires = "id52")]
        name: Option<String>,
        /// The machine's id52: compare it with what `malai machine init` printed there
        id52: Option<String>,
        /// Who may run commands on it: machines, id52s, groups, or "*" for every member
        #[arg(long, value_name = "LIST")]
        allow_from: Vec<String>,
        /// A group to add it to; may be given several times
        #[arg(long, value_name = "GROUP")]
        group: Vec<String>,
    },
    /// Invite a machine: print a line with which `malai join` lets it in
    #[command(
        before_help = "Examples:\n  malai cluster invite company --name web03 --allow-from admins\n  malai cluster invite company --name 'web*' --group web --uses 10 --expires 1d"
    )]
    Invite(InviteArgs),
    /// List invitations: for whom they are, until when, and who used them
    #[command(
        before_help = "Examples:\n  malai cluster invites company\n  malai cluster invites company --json"
    )]
    Invites {
        /// The cluster's local name
        alias: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke an invitation; machines that joined with it stay
    #[command(before_help = "Example:\n  malai cluster revoke-invite company 7k3m9p2q")]
    RevokeInvite {
        /// The cluster's local name
        alias: String,
        /// The invitation, as `malai cluster invites` lists it
        id: String,
    },
    /// Change a machine's section or its groups, keeping the comments in cluster.toml, and publish the change
    #[command(before_help = "\
Examples:
  malai cluster set company web01 --allow-from admins,laptop
  malai cluster set company web01 --username web --unset allow-shell
  malai cluster set company web01 --add-group web --remove-group staging")]
    Set(SetArgs),
    /// Rename a machine; with only two names, change a cluster's local name on this computer
    #[command(
        before_help = "Examples:\n  malai cluster rename company web01 www\n  malai cluster rename company corp"
    )]
    Rename {
        /// The cluster's local name
        alias: String,
        /// The machine's name; or the cluster's new local name, if it is the last argument
        name: String,
        /// The machine's new name
        new: Option<String>,
    },
    /// Remove a machine from a cluster managed here: it is cut off everywhere
    #[command(before_help = "Example:\n  malai cluster remove company web01")]
    Remove {
        /// The cluster's local name
        alias: String,
        /// The machine's name
        name: String,
    },
    /// Give up a cluster managed here; its folder, with the key, is moved to $MALAI_HOME/removed
    #[command(before_help = "Example:\n  malai cluster delete company")]
    Delete {
        /// The cluster's local name
        alias: String,
        #[command(flatten)]
        end: EndArgs,
    },
    /// Leave a cluster; its folder, with the key, is moved to $MALAI_HOME/removed
    #[command(before_help = "Example:\n  malai cluster leave company")]
    Leave {
        /// The cluster's local name
        alias: String,
        #[command(flatten)]
        end: EndArgs,
    },
}

/// A new machine.
#[derive(Debug, clap::Args)]
pub struct NewMachineArgs {
    /// The cluster's local name
    pub alias: String,
    /// The machine's new name: lowercase letters, digits and -
    pub name: String,
    /// The machine's id52, as `malai machine init` printed it there
    pub id52: String,
    /// Who may run commands on it: machines, id52s, groups, or "*" for every member
    #[arg(long, value_name = "LIST")]
    pub allow_from: Vec<String>,
    /// A group to add it to; may be given several times
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
}

/// The arguments of `cluster invite`.
#[derive(Debug, clap::Args)]
pub struct InviteArgs {
    /// The cluster's local name
    pub alias: String,
    /// The machine's name, or a pattern of names: * is any characters, ? is one
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// A group to add it to; may be given several times
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// Who may run commands on it: machines, id52s, groups, or "*" for every member
    #[arg(long, value_name = "LIST")]
    pub allow_from: Vec<String>,
    /// How many machines it lets in
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = number::within::<u32>(1..=u64::from(MAX_USES)))]
    pub uses: u32,
    /// For how long it is good: 10m, 1h, 7d; at most 90 days
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration::parse)]
    pub expires: Duration,
}

/// The arguments of `cluster set`.
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// The cluster's local name
    pub alias: String,
    /// The machine's name
    pub name: String,
    /// Who may run commands on it: machines, id52s, groups, or "*" for every member; "" for no one
    #[arg(long, value_name = "LIST")]
    pub allow_from: Option<String>,
    /// Who may open a shell on it
    #[arg(long, value_name = "LIST")]
    pub allow_shell: Option<String>,
    /// Who may copy files to and from it
    #[arg(long, value_name = "LIST")]
    pub allow_files: Option<String>,
    /// Who may forward ports through it: malai ssh -L, malai forward <machine>:<host>:<port>
    #[arg(long, value_name = "LIST")]
    pub allow_forward: Option<String>,
    /// The user that commands run as there, or several: the first is the default
    #[arg(long, value_name = "USERS")]
    pub username: Option<String>,
    /// Its new key after a reinstall; the machine keeps its name and its place in every list
    #[arg(long, value_name = "ID52")]
    pub id52: Option<String>,
    /// A group to add it to, which is created if it does not exist; may be given several times
    #[arg(long, value_name = "GROUP")]
    pub add_group: Vec<String>,
    /// A group to remove it from; may be given several times
    #[arg(long, value_name = "GROUP")]
    pub remove_group: Vec<String>,
    /// Remove a key from its section, so that the default applies; may be given several times
    #[arg(long, value_enum, value_name = "KEY")]
    pub unset: Vec<Unset>,
}

/// A key that can be removed from a machine's section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Unset {
    /// No member may run commands
    AllowFrom,
    /// Members that may run commands may also open a shell
    AllowShell,
    /// Members that may open a shell may also copy files
    AllowFiles,
    /// Members that may open a shell may also forward ports
    AllowForward,
    /// Commands run as the daemon's own user
    Username,
}

/// What happens to a cluster's folder.
#[derive(Debug, clap::Args)]
pub struct EndArgs {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Delete the folder instead of moving it, including malai's only copy of the key
    #[arg(long)]
    pub destroy_key: bool,
}
