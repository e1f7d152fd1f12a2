//! What help says beside the declarations, and in which order: what it is for, examples, the rest.

use std::sync::LazyLock;

use malai_cluster::FORMAT;
use malai_wire::control;
use malai_wire::version::Versions;

/// What `malai --version` says.
pub static VERSION: LazyLock<String> = LazyLock::new(|| {
    let Versions { lowest, highest } = Versions::OURS;
    let peers = match lowest == highest {
        true => format!("{highest}"),
        false => format!("{lowest} to {highest}"),
    };
    format!(
        "{}\npeer protocol {peers}, control socket {}, configuration format {FORMAT}",
        env!("CARGO_PKG_VERSION"),
        control::VERSION,
    )
});

/// What a newcomer and a forgetful expert look for.
pub(super) const EXAMPLES: &str = "\
Examples:
  malai web01.company ps aux               run a command on a machine
  malai web01.company                      open a shell there
  malai @web.company uptime                run it on all of a group; 'web*.company' is a pattern
  malai cluster init company               create a cluster, managed here
  malai machine init <manager-id52> work   join one that is managed elsewhere
  malai daemon                             serve, in the background
  malai status                             see how things are";

/// What is true of all commands.
pub(super) const ENDING: &str = "\
A command on a target exits with its own code; 255 is malai's own failure or refusal.
Everything malai keeps is in $MALAI_HOME, by default ~/.malai.";

const TEMPLATE: &str =
    "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Gives the declaration and all below it the one order of help.
pub(super) fn in_order(command: clap::Command) -> clap::Command {
    command.help_template(TEMPLATE).mut_subcommands(in_order)
}
