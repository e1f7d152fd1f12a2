//! `malai cp`: files to machines, from machines, and from one machine to another.

mod report;
mod session;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use anyhow::{Context, bail};
use malai_cluster::escape;
use malai_node::Home;
use malai_node::copy::{self, CopyError, Destination, Sources};
use malai_wire::copy::{Options, name_of};

use crate::cli::CpArgs;
use crate::cli::cp::Location;
use crate::commands::targets;
use crate::exec::request;
use crate::fanout::PARALLEL;
use crate::fanout::route::Backend;
use crate::output::Printer;
use crate::output::exit::Exit;
use report::{Progress, Style};
use session::Session;

/// Paths on one machine.
#[derive(Debug, Clone)]
struct There {
    /// `[user@]target`.
    target: String,
    /// The machine's name, where it is one of several that were named together.
    one_of: Option<String>,
    paths: Vec<Vec<u8>>,
}

impl There {
    fn shown(&self) -> Vec<Location> {
        let one = |path: &Vec<u8>| Location::There {
            target: self.target.clone(),
            path: path.clone(),
        };
        self.paths.iter().map(one).collect()
    }

    /// Each path's name at the destination, with the machine's appended if there are several.
    fn names(&self) -> Vec<Vec<u8>> {
        let name = |path: &Vec<u8>| {
            let name = name_of(path).unwrap_or_default();
            match &self.one_of {
                None => name.to_vec(),
                Some(machine) if name.is_empty() => machine.clone().into_bytes(),
                Some(machine) => [name, b".", machine.as_bytes()].concat(),
            }
        };
        self.paths.iter().map(name).collect()
    }
}

/// One copy of those that a command line asks for.
enum Copy<'a> {
    Put(&'a [PathBuf], There),
    PutStream(There),
    Get(There, &'a Location),
    Between(There, There),
}

/// Copies.
pub fn run(home: &Home, args: &CpArgs, printer: &Printer) -> anyhow::Result<Exit> {
    let mut locations = Vec::new();
    for word in &args.paths {
        locations.push(Location::parse(word).map_err(anyhow::Error::msg)?);
    }
    let Some(target) = locations.pop() else {
        bail!("where to? malai cp <source>… <destination>");
    };
    let options = args.options();
    let has_stream = locations.contains(&Location::Stream);
    if has_stream && locations.len() > 1 {
        bail!("standard input must be the only source: copy the others separately");
    }
    if args.json && target == Location::Stream {
        bail!("--json and the file would both be on standard output");
    }
    let mut here: Vec<PathBuf> = Vec::new();
    let mut there: Vec<There> = Vec::new();
    for location in &locations {
        match location {
            Location::Stream => {}
            Location::Here(path) => here.push(path.clone()),
            Location::There { target, path } => {
                for (target, one_of) in machines(home, target, printer)? {
                    let same =
                        |known: &&mut There| known.target == target && known.one_of == one_of;
                    match there.iter_mut().find(same) {
                        Some(known) => known.paths.push(path.clone()),
                        None => there.push(There {
                            target,
                            one_of,
                            paths: vec![path.clone()],
                        }),
                    }
                }
            }
        }
    }
    let mut copies = Vec::new();
    match &target {
        Location::There { target, path } => {
            let targets = machines(home, target, printer)?;
            if has_stream && targets.len() > 1 {
                bail!(
                    "standard input can be read once: save it in a file, and copy that to several machines"
                );
            }
            if there.len() > 1 || !there.is_empty() && !here.is_empty() {
                bail!("the sources are in several places: copy from one at a time");
            }
            for (target, one_of) in targets {
                let to = There {
                    target,
                    one_of,
                    paths: vec![path.clone()],
                };
                copies.push(match there.first() {
                    Some(from) => Copy::Between(from.clone(), to),
                    None if has_stream => Copy::PutStream(to),
                    None => Copy::Put(&here, to),
                });
            }
        }
        Location::Here(_) | Location::Stream => {
            if !here.is_empty() || has_stream {
                bail!("none of these paths is on a machine: use cp, or write <target>:<path>");
            }
            let count: usize = there.iter().map(|there| there.paths.len()).sum();
            let into_folder = matches!(&target, Location::Here(path) if path.is_dir());
            if there.len() > 1 && !into_folder {
                printer.say(&format!(
                    "{}: {count} sources can only be copied into an existing folder",
                    escape(&String::from_utf8_lossy(&target.shown()))
                ));
                return Ok(Exit::FAILED);
            }
            copies.extend(there.into_iter().map(|from| Copy::Get(from, &target)));
        }
    }
    let progress = Progress::new(Style::of(args.json), copies.len() as u64);
    let code = all(&copies, options, &progress)?;
    let has_failed = progress.end();
    Ok(match (code, has_failed) {
        (0, true) => Exit::FAILED,
        (code, _) => Exit(code),
    })
}

/// Runs all copies, some in parallel. Returns the worst exit code, apart from single entries.
fn all(copies: &[Copy<'_>], options: Options, progress: &Progress) -> anyhow::Result<u8> {
    if let [copy] = copies {
        return one(copy, options, progress);
    }
    let (next, worst) = (AtomicUsize::new(0), AtomicU8::new(0));
    std::thread::scope(|scope| {
        for _ in 0..copies.len().min(PARALLEL) {
            scope.spawn(|| {
                while let Some(copy) = copies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let code = one(copy, options, progress).unwrap_or_else(|error| {
                        progress.say(&format!("{error:#}"));
                        Exit::MALAI.0
                    });
                    worst.fetch_max(code, Ordering::Relaxed);
                }
            });
        }
    });
    Ok(worst.into_inner())
}

/// Makes one copy.
fn one(copy: &Copy<'_>, options: Options, progress: &Progress) -> anyhow::Result<u8> {
    match copy {
        Copy::Put(paths, to) => {
            let sources: Vec<_> = paths.iter().cloned().map(Location::Here).collect();
            put(
                copy::local_sources(paths.to_vec()),
                &sources,
                to,
                options,
                progress,
            )
        }
        Copy::PutStream(to) => {
            let sources = Sources::stream("stdin".into(), Box::new(io::stdin()));
            put(sources, &[Location::Stream], to, options, progress)
        }
        Copy::Get(from, target) => {
            let destination = match destination(target, &from.names(), options) {
                Ok(destination) => destination,
                Err(why) => {
                    let shown = escape(&String::from_utf8_lossy(&target.shown()));
                    progress.say(&format!("{shown}: {why}"));
                    return Ok(Exit::FAILED.0);
                }
            };
            let mut report = progress.report(None, &from.shown());
            let mut session = Session::open(&from.target)?;
            let (input, output) = session.streams()?;
            let paths = from.paths.clone();
            let result = copy::get(input, output, paths, destination, options, &mut report);
            let has_failed = session.has_failed()?;
            Ok(end(result, has_failed, &from.shown()[0], progress))
        }
        Copy::Between(from, to) => {
            let mut report = progress.report(Some(to), &from.shown());
            let (mut source, mut destination) =
                (Session::open(&from.target)?, Session::open(&to.target)?);
            let streams = (source.streams()?, destination.streams()?);
            let paths = from.paths.clone();
            let (at, target) = (&to.shown()[0], &to.paths[0]);
            let result = copy::between(streams.0, streams.1, paths, target, options, &mut report);
            let has_failed = source.has_failed()? | destination.has_failed()?;
            Ok(end(result, has_failed, at, progress))
        }
    }
}

fn put(
    sources: Sources,
    shown: &[Location],
    to: &There,
    options: Options,
    progress: &Progress,
) -> anyhow::Result<u8> {
    let mut report = progress.report(Some(to), shown);
    let mut session = Session::open(&to.target)?;
    let (input, output) = session.streams()?;
    let result = copy::put(input, output, sources, &to.paths[0], options, &mut report);
    let has_failed = session.has_failed()?;
    Ok(end(result, has_failed, &to.shown()[0], progress))
}

/// The machines that a target means, and whether each is one of several.
fn machines(
    home: &Home,
    target: &str,
    printer: &Printer,
) -> anyhow::Result<Vec<(String, Option<String>)>> {
    let (user, rest) = request::user_of(target);
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let targets = targets::parse(home, rest)?;
    if let Some(one) = targets.plain() {
        return Ok(vec![(format!("{user}{one}"), None)]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let resolved = runtime.block_on(async {
        let (backend, resolved) = Backend::open(home, &targets).await?;
        backend.close(true).await;
        anyhow::Ok(resolved)
    })?;
    for note in &resolved.notes {
        printer.say(note);
    }
    let named = resolved.machines.into_iter().map(|named| {
        let target = format!("{user}{}.{}", named.machine, named.cluster);
        (target, Some(named.machine))
    });
    Ok(named.collect())
}

/// Where files go here.
fn destination(
    target: &Location,
    names: &[Vec<u8>],
    options: Options,
) -> Result<Destination, String> {
    match target {
        Location::Here(path) => copy::local_goal(path, names, options),
        _ if names.len() > 1 => Err("standard output takes one file at a time".to_owned()),
        _ => Ok(Destination::stream(Box::new(io::stdout()))),
    }
}

/// Says how a copy ended as a whole. Returns its exit code.
fn end(
    result: Result<(), CopyError>,
    has_said_why: bool,
    at: &Location,
    progress: &Progress,
) -> u8 {
    let shown = escape(&String::from_utf8_lossy(&at.shown()));
    match result {
        Ok(()) => return Exit::OK.0,
        Err(CopyError::NotOpened) if has_said_why => {}
        Err(CopyError::Refused(why)) => {
            progress.say(&format!("{shown}: {}", escape(&why)));
            return Exit::FAILED.0;
        }
        Err(error @ CopyError::Lost(_)) => progress.say(&format!(
            "{shown}: {error}\n  to continue from there, run the same command again"
        )),
        Err(error) => progress.say(&format!("{shown}: {}", escape(&error.to_string()))),
    }
    Exit::MALAI.0
}
