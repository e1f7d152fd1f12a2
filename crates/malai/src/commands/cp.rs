//! `malai cp`: files to a machine and from one. As scp calls ssh, this program calls itself for the connection: what
//! `malai ssh -s <target> malai-cp` reads and writes are this process's pipes.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use malai_cluster::escape;
use malai_node::copy::{self, CopyError, Goal, Observer, Sources};
use malai_wire::copy::{Options, name_of};

use crate::cli::CpArgs;
use crate::cli::cp::Location;
use crate::output::Printer;
use crate::output::exit::Exit;

/// Copies.
pub fn run(args: &CpArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let mut locations = Vec::new();
    for word in &args.paths {
        locations.push(Location::parse(word).map_err(anyhow::Error::msg)?);
    }
    let Some(target) = locations.pop() else {
        bail!("where to? malai cp <source>… <destination>");
    };
    let options = args.options();
    if locations.contains(&Location::Stream) && locations.len() > 1 {
        bail!("standard input is one source: copy the others by themselves");
    }
    let (mut failed, mut exit) = (false, None);
    match &target {
        Location::There {
            target: machine,
            path,
        } => {
            let sources = here(&locations)?;
            let mut report = Report::new(&locations, printer);
            let mut session = Session::open(machine)?;
            let (input, output) = session.streams()?;
            let result = copy::put(input, output, sources, path, options, &mut report);
            failed |= report.failed;
            exit = exit.or(finish(session, result, &target, printer)?);
        }
        Location::Here(_) | Location::Stream => {
            let mut goal_names = Vec::new();
            let mut groups: Vec<(String, Vec<Vec<u8>>, Vec<Location>)> = Vec::new();
            for location in &locations {
                let Location::There { target, path } = location else {
                    bail!(
                        "nothing of this is on a machine: use cp, or name one as <target>:<path>"
                    );
                };
                goal_names.push(name_of(path).unwrap_or_default().to_vec());
                match groups.last_mut().filter(|(machine, ..)| machine == target) {
                    Some((_, paths, shown)) => {
                        paths.push(path.clone());
                        shown.push(location.clone());
                    }
                    None => {
                        groups.push((target.clone(), vec![path.clone()], vec![location.clone()]))
                    }
                }
            }
            if target == Location::Stream && goal_names.len() > 1 {
                bail!("standard output takes one file at a time");
            }
            for (machine, paths, shown) in groups {
                let goal = match goal(&target, &goal_names, &paths, options) {
                    Ok(goal) => goal,
                    Err(error) => {
                        printer.say(&error.to_string());
                        failed = true;
                        break;
                    }
                };
                let mut report = Report::new(&shown, printer);
                let mut session = Session::open(&machine)?;
                let (input, output) = session.streams()?;
                let result = copy::get(input, output, paths, goal, options, &mut report);
                failed |= report.failed;
                exit = exit.or(finish(session, result, &shown[0], printer)?);
            }
        }
    }
    Ok(exit.unwrap_or(if failed { Exit::FAILED } else { Exit::OK }))
}

/// Sources on this computer.
fn here(locations: &[Location]) -> anyhow::Result<Sources> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for location in locations {
        match location {
            Location::Here(path) => paths.push(path.clone()),
            Location::Stream => {
                return Ok(Sources::stream("stdin".into(), Box::new(io::stdin())));
            }
            Location::There { .. } => bail!("from a machine to a machine is not possible yet"),
        }
    }
    Ok(copy::local_sources(paths))
}

/// Where files of one machine go here. Whether several are copied is a question of all machines together.
fn goal(
    target: &Location,
    all: &[Vec<u8>],
    paths: &[Vec<u8>],
    options: Options,
) -> anyhow::Result<Goal> {
    let Location::Here(path) = target else {
        return Ok(Goal::stream(Box::new(io::stdout())));
    };
    let names: Vec<_> = paths
        .iter()
        .map(|path| name_of(path).unwrap_or_default().to_vec())
        .collect();
    let shown = escape(&path.to_string_lossy());
    if all.len() > names.len() && !path.is_dir() {
        bail!("{shown}: several things can only be copied into a folder");
    }
    copy::local_goal(path, &names, options).map_err(|why| anyhow::anyhow!("{shown}: {why}"))
}

/// A connection to a machine's `malai cp-server`.
struct Session(Child);

impl Session {
    fn open(target: &str) -> anyhow::Result<Self> {
        let child = Command::new("/proc/self/exe")
            .arg0("malai")
            .args(["ssh", "-s", target, "malai-cp"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start this program once more")?;
        Ok(Self(child))
    }

    fn streams(&mut self) -> anyhow::Result<(ChildStdout, ChildStdin)> {
        let streams = self.0.stdout.take().zip(self.0.stdin.take());
        streams.context("the connection has no streams")
    }
}

/// Waits for a connection's end, and says what became of all. Returns an exit code that is not the entries'.
fn finish(
    mut session: Session,
    result: Result<(), CopyError>,
    at: &Location,
    printer: &Printer,
) -> anyhow::Result<Option<Exit>> {
    let status = session.0.wait().context("cannot wait for the connection")?;
    let shown = escape(&String::from_utf8_lossy(&at.shown()));
    match result {
        Ok(()) => return Ok(None),
        // The connection has said itself why.
        Err(CopyError::NotOpened) if status.code() == Some(255) => {}
        Err(CopyError::Refused(why)) => {
            printer.say(&format!("{shown}: {}", escape(&why)));
            return Ok(Some(Exit::FAILED));
        }
        Err(error @ CopyError::Lost(_)) => printer.say(&format!(
            "{shown}: {error}\n  the same command goes on from there"
        )),
        Err(error) => printer.say(&format!("{shown}: {}", escape(&error.to_string()))),
    }
    Ok(Some(Exit::MALAI))
}

/// Tells what was not copied.
struct Report<'a> {
    locations: &'a [Location],
    printer: &'a Printer,
    failed: bool,
}

impl<'a> Report<'a> {
    fn new(locations: &'a [Location], printer: &'a Printer) -> Self {
        Self {
            locations,
            printer,
            failed: false,
        }
    }
}

impl Observer for Report<'_> {
    fn problem(&mut self, source: u32, path: &[u8], why: &str) {
        self.failed = true;
        let mut shown = match self.locations.get(source as usize) {
            Some(location) => location.shown(),
            None => Vec::new(),
        };
        if !path.is_empty() {
            if !shown.ends_with(b"/") {
                shown.push(b'/');
            }
            shown.extend(path);
        }
        let shown = OsString::from_vec(shown);
        let (shown, why) = (escape(&shown.to_string_lossy()), escape(why));
        self.printer.say(&format!("{shown}: {why}"));
    }
}
