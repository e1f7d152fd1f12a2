//! One file per verb, and the dispatch from the parsed command line to them.

pub mod audit;
pub mod browse;
pub mod cluster;
pub mod completions;
mod container_init;
pub mod cp;
pub mod cp_server;
pub mod daemon;
pub mod doctor;
pub mod exec;
pub mod exec_many;
pub mod follow;
pub mod forward;
mod hold;
pub mod id;
pub mod join;
pub mod list;
pub mod logs;
pub mod machine;
pub mod man;
pub mod ping;
pub mod reaper;
pub mod relay;
pub mod reload;
pub mod rescan;
pub mod rescan_check;
pub mod restart;
pub mod sessions;
pub mod sftp_server;
pub mod shell;
pub mod ssh;
mod ssh_forward;
pub mod status;
pub mod stop;
pub mod target;
mod targets;
pub mod whois;
pub mod why;

use malai_node::Home;

use crate::cli::{self, Command, ExecCommand, Invocation, MachineCommand};
use crate::demo;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Runs the parsed command. [`Command::failure`] is the exit code of an error.
pub fn run(invocation: Invocation, printer: &Printer) -> anyhow::Result<Exit> {
    let home = Home::from_env()?;
    // `doctor` reports problems with the home; other verbs that need no home must work without one.
    let reads_home = !matches!(
        invocation.command,
        Command::Doctor(_)
            | Command::Completions(_)
            | Command::Man(_)
            | Command::Version
            | Command::Demo(_)
            | Command::Reaper(_)
    );
    if reads_home {
        home.require_trusted_owner()?;
    }
    match invocation.command {
        Command::Target(words) => target::run(&home, &words, &invocation.on, printer),
        command => run_verb(&home, command, printer),
    }
}

/// Runs every verb. Separate from a command on a target, which must not touch the stack pages that all the others need
/// together: each is a page fault, and there were thirty (bench/README.md).
#[inline(never)]
fn run_verb(home: &Home, command: Command, printer: &Printer) -> anyhow::Result<Exit> {
    match command {
        Command::Cluster(command) => cluster::run(home, &command, printer),
        Command::Machine(MachineCommand::Init {
            manager_id52,
            alias,
            replace,
            relay,
        }) => machine::run(home, [&manager_id52, &alias], replace, &relay, printer),
        Command::Join(args) => join::run(home, &args, printer),
        Command::Daemon(args) if args.foreground => daemon::run_foreground(home, &args, printer),
        Command::Daemon(args) => daemon::run_background(home, daemon::policy(&args), printer),
        Command::Relay(args) => relay::run(home, &args, printer),
        Command::Stop => stop::run(home, printer),
        Command::Restart(args) => restart::run(home, &args, printer),
        Command::Status(args) => status::run(home, &args, printer),
        Command::List(args) => list::run(home, &args, printer),
        Command::Ping(args) => ping::run(home, &args, printer),
        Command::Id(args) => id::run(home, &args, printer),
        Command::Sessions(args) => sessions::run(home, &args, printer),
        Command::Rescan(args) if args.check => {
            rescan_check::run(home, args.cluster.as_deref(), args.json, printer)
        }
        Command::Rescan(args) => rescan::run(home, &args, printer),
        Command::Audit(args) => audit::run(home, &args, printer),
        Command::Logs(args) => logs::run(home, &args, printer),
        Command::Doctor(args) => doctor::run(home, &args, printer),
        Command::Completions(args) => completions::run(home, &args, printer),
        Command::Man(args) => man::run(&args, printer),
        Command::Why(args) => why::run(home, &args, printer),
        Command::Version => {
            printer.out(&format!("malai {}\n", cli::help::VERSION.as_str()));
            Ok(Exit::OK)
        }
        Command::Exec(args) => {
            let ExecCommand::Target(words) = &args.command;
            exec::run(home, words, &args.on, printer)
        }
        Command::Ssh(args) => ssh::run(home, &args.arguments, args.is_shim, printer),
        Command::SftpServer(args) => sftp_server::run(args),
        Command::Cp(args) => cp::run(home, &args, printer),
        Command::Forward(args) => forward::run(home, &args, printer),
        Command::Browse(args) => browse::run(home, &args, printer),
        Command::Whois(args) => whois::run(home, &args, printer),
        Command::CpServer(args) => cp_server::run(args),
        Command::Shell(args) => shell::run(home, &args, printer),
        Command::Target(_) => unreachable!("a target is no verb"),
        Command::Demo(args) => demo::run(args.keep, printer),
        Command::Reaper(args) => reaper::run(home, args.in_background),
    }
}
