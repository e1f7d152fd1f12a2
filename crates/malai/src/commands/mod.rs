//! One file per verb, and the way from what was typed to the file that does it.

mod audit;
mod cluster_edit;
mod cluster_init;
mod completions;
mod daemon;
mod demo;
mod doctor;
mod exec;
pub mod keeper;
mod logs;
mod machine_init;
mod man;
mod many;
mod reading;
mod rescan;
mod rescan_check;
mod sessions;
mod shell;
mod status;
mod stop;
mod target;
mod tell;
mod why;

use malai_node::home::Home;

use crate::args::{ClusterCommand, Command, ExecCommand, MachineCommand, Typed};
use crate::exit::Exit;
use crate::printer::Printer;

/// Does what was typed. An error's exit code is [`Command::failure`].
pub fn run(typed: Typed, printer: &Printer) -> anyhow::Result<Exit> {
    let home = Home::from_env()?;
    match typed.command {
        Command::Target(words) => target::run(&home, &words, &typed.on, printer),
        command => run_verb(&home, command, printer),
    }
}

/// All that begins with a verb. Apart from the way of a command on a target, which must not touch the pages of the
/// stack that all the others need together: each is a page fault, and there were thirty (bench/README.md).
#[inline(never)]
fn run_verb(home: &Home, command: Command, printer: &Printer) -> anyhow::Result<Exit> {
    match command {
        Command::Cluster(ClusterCommand::Init { alias }) => {
            cluster_init::run(home, &alias, printer)
        }
        Command::Cluster(ClusterCommand::Add {
            alias,
            name,
            id52,
            allow_from,
        }) => cluster_edit::add(home, [&alias, &name, &id52], &allow_from, printer),
        Command::Cluster(ClusterCommand::Remove { alias, name }) => {
            cluster_edit::remove(home, [&alias, &name], printer)
        }
        Command::Machine(MachineCommand::Init {
            manager_id52,
            alias,
            replace,
        }) => machine_init::run(home, [&manager_id52, &alias], replace, printer),
        Command::Daemon(args) if args.foreground => {
            daemon::run_foreground(home, args.in_background, printer)
        }
        Command::Daemon(_) => daemon::run_background(home, printer),
        Command::Stop => stop::run(home, printer),
        Command::Status(args) => status::run(home, args.json, printer),
        Command::Sessions(args) => sessions::run(home, &args, printer),
        Command::Rescan(args) if args.check => {
            rescan_check::run(home, args.cluster.as_deref(), args.json, printer)
        }
        Command::Rescan(args) => rescan::run(home, args.cluster.as_deref(), printer),
        Command::Audit(args) => audit::run(home, &args, printer),
        Command::Logs(args) => logs::run(home, &args, printer),
        Command::Doctor(args) => doctor::run(home, &args, printer),
        Command::Completions(args) => completions::run(home, &args, printer),
        Command::Man(args) => man::run(&args, printer),
        Command::Why(args) => why::run(home, &args, printer),
        Command::Exec(args) => {
            let ExecCommand::Target(words) = &args.command;
            exec::run(home, words, &args.on, printer)
        }
        Command::Shell(args) => shell::run(home, &args, printer),
        Command::Target(_) => unreachable!("a target is no verb"),
        Command::Demo(args) => demo::run(args.keep, printer),
        Command::Keeper(args) => keeper::run(home, args.in_background),
    }
}
