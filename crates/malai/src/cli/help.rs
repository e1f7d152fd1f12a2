//! The parts of help that are not in the declarations, and their order: purpose, examples, the rest.

use std::sync::LazyLock;

use malai_cluster::FORMAT;
use malai_wire::control;
use malai_wire::version::Versions;

/// The output of `malai --version`.
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

/// Examples for newcomers and for experts who forgot the syntax.
pub(super) const EXAMPLES: &str = "\
Examples:
  malai web01.company ps aux               run a command on a machine, without a shell; 'ps aux' is the same
  malai web01.company                      open a shell there
  malai @web.company uptime                run a command on a whole group; 'web*.company' is a pattern
  malai cluster init company               create a cluster, managed here
  malai join <invitation>                  join a cluster that another machine manages
  malai daemon                             serve in the background
  malai status                             show the state of daemon and clusters";

/// Notes that apply to all commands.
pub(super) const ENDING: &str = "\
malai exits with the exit code of the command on the target, or with 255 if malai itself failed or refused.
malai keeps everything in $MALAI_HOME (default: ~/.malai).";

const TEMPLATE: &str =
    "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Gives the declaration and all its subcommands the same order of help.
pub(super) fn in_order(command: clap::Command) -> clap::Command {
    command.help_template(TEMPLATE).mut_subcommands(in_order)
}
