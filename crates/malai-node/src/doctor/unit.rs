//! The systemd unit, where there is one: whether it serves this home, and lets the daemon do its work.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Context, Finding};

use crate::home::keystore::quoted;
use crate::os::fs::{self, display_path};

const CHECK: &str = "systemd";

/// Where units are, the administrator's own first.
const FOLDERS: [&str; 3] = [
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The unit's name.
const NAME: &str = "malai.service";

/// The largest unit that is read, in bytes.
const MAX_UNIT: u64 = 64 * 1024;

pub(super) fn check(patient: &Context<'_>) -> Vec<Finding> {
    let units = FOLDERS.iter().map(|folder| Path::new(folder).join(NAME));
    let Some((path, text)) = units
        .filter_map(|path| Some((path.clone(), fs::read_text(&path, MAX_UNIT).ok()??)))
        .next()
    else {
        return Vec::new();
    };
    let unit = Unit::parse(&text);
    let mut found = judge(&unit, &path, patient.home.root(), |program| {
        program.exists()
    });
    if Path::new("/run/systemd/system").is_dir() && unit.serves(patient.home.root()) {
        found.extend(state(patient));
    }
    found
}

/// What systemd says of the unit.
fn state(patient: &Context<'_>) -> Option<Finding> {
    let output = Command::new("systemctl")
        .args(["is-active", NAME])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(match (said.as_str(), patient.is_held()) {
        ("active", _) => Finding::fine(CHECK, "the unit is active"),
        (_, true) => Finding::warning(CHECK, format!("the unit is {}, though a daemon runs", malai_cluster::escape(&said)))
            .because("it was started by hand: nobody starts it again after a crash or a restart of the computer")
            .fix("malai stop; sudo systemctl enable --now malai"),
        _ => Finding::warning(CHECK, format!("the unit is {}", malai_cluster::escape(&said)))
            .because("nobody can run commands on this computer")
            .fix("sudo systemctl enable --now malai; journalctl -u malai -n 50"),
    })
}

/// What of a unit concerns malai.
#[derive(Debug, Default)]
struct Unit {
    program: Option<PathBuf>,
    home: Option<PathBuf>,
    user: Option<String>,
    writable: Vec<PathBuf>,
    is_strict: bool,
    hides_homes: bool,
    foreground: bool,
    no_new_privileges: bool,
}

impl Unit {
    fn parse(text: &str) -> Self {
        let mut unit = Self::default();
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim) {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let is_yes = ["yes", "true", "on", "1"].contains(&value);
            match key.trim() {
                "ExecStart" => {
                    let mut words = value
                        .trim_start_matches(['-', '@', ':', '+', '!'])
                        .split_whitespace();
                    unit.program = words.next().map(PathBuf::from);
                    unit.foreground = words.any(|word| word == "--foreground");
                }
                "User" => unit.user = Some(value.to_owned()),
                "Environment" => {
                    let homes = value.split_whitespace().map(|word| word.trim_matches('"'));
                    let home = homes
                        .filter_map(|word| word.strip_prefix("MALAI_HOME="))
                        .next_back();
                    unit.home = home.map(PathBuf::from).or(unit.home);
                }
                "ReadWritePaths" => {
                    let paths = value.split_whitespace();
                    unit.writable.extend(
                        paths.map(|path| PathBuf::from(path.trim_start_matches(['-', '+']))),
                    );
                }
                "StateDirectory" => {
                    let names = value.split_whitespace();
                    unit.writable
                        .extend(names.map(|name| Path::new("/var/lib").join(name)));
                }
                "ProtectSystem" => unit.is_strict = value == "strict",
                "ProtectHome" => unit.hides_homes = is_yes || value == "tmpfs",
                "NoNewPrivileges" => unit.no_new_privileges = is_yes,
                _ => {}
            }
        }
        unit
    }

    fn serves(&self, home: &Path) -> bool {
        self.home.as_deref() == Some(home)
    }
}

fn judge(unit: &Unit, path: &Path, home: &Path, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let shown = display_path(path);
    let edit = "sudo systemctl edit --full malai";
    let mut found = Vec::new();
    match &unit.program {
        Some(program) if exists(program) => {}
        program => {
            let program = program
                .as_deref()
                .map_or_else(|| "nothing".to_owned(), display_path);
            found.push(
                Finding::error(
                    CHECK,
                    format!("{shown} starts {program}, which is not there"),
                )
                .because("the service cannot start")
                .fix(edit),
            );
        }
    }
    if !unit.foreground {
        found.push(
            Finding::error(
                CHECK,
                format!("{shown} does not start it with --foreground"),
            )
            .because("systemd takes the end of the starting process for the end of the service")
            .fix(edit),
        );
    }
    let of_unit = match &unit.home {
        Some(of_unit) if of_unit != home => {
            found.push(
                Finding::note(
                    CHECK,
                    format!(
                        "{shown} serves {}, and this is {}",
                        display_path(of_unit),
                        display_path(home)
                    ),
                )
                .fix(format!(
                    "sudo -u {} env MALAI_HOME={} malai doctor",
                    unit.user.as_deref().unwrap_or("root"),
                    quoted(of_unit)
                )),
            );
            return found;
        }
        Some(of_unit) => of_unit,
        None => return found,
    };
    if unit.is_strict && !unit.writable.iter().any(|path| of_unit.starts_with(path)) {
        found.push(
            Finding::error(
                CHECK,
                format!(
                    "{shown} makes {} read-only (ProtectSystem=strict)",
                    display_path(of_unit)
                ),
            )
            .because("the daemon cannot take its lock there, nor write anything")
            .fix(format!("{edit}   # ReadWritePaths={}", quoted(of_unit))),
        );
    }
    let homes = ["/home", "/root", "/run/user"];
    if unit.hides_homes && homes.iter().any(|hidden| of_unit.starts_with(hidden)) {
        found.push(
            Finding::error(
                CHECK,
                format!(
                    "{shown} hides {} from the daemon (ProtectHome)",
                    display_path(of_unit)
                ),
            )
            .because("the daemon finds an empty home, or none")
            .fix(format!("{edit}   # another MALAI_HOME, as /opt/malai")),
        );
    }
    if unit.no_new_privileges {
        found.push(
            Finding::note(
                CHECK,
                format!("{shown} has NoNewPrivileges: commands cannot use sudo"),
            )
            .because("a command entry as `sudo systemctl restart nginx` fails under it"),
        );
    }
    if found.is_empty() {
        found.push(Finding::fine(CHECK, format!("{shown} serves this home")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    /// The tutorial's.
    const UNIT: &str = "[Service]\nType=simple\nUser=malai\nEnvironment=MALAI_HOME=/opt/malai\n\
        Environment=RUST_LOG=malai=info\nExecStart=/usr/local/bin/malai daemon --foreground\n\
        NoNewPrivileges=true\nProtectSystem=strict\nProtectHome=true\nReadWritePaths=/opt/malai\n";

    fn states(unit: &str, home: &str) -> Vec<(State, String)> {
        let found = judge(
            &Unit::parse(unit),
            Path::new("/u/malai.service"),
            Path::new(home),
            |_| true,
        );
        found
            .into_iter()
            .map(|finding| (finding.state, finding.what))
            .collect()
    }

    #[test]
    fn the_tutorials_unit_is_in_order_but_for_what_it_takes_away() {
        let found = states(UNIT, "/opt/malai");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].0 == State::Note && found[0].1.contains("sudo"),
            "{found:?}"
        );
        let lax = UNIT.replace("NoNewPrivileges=true\n", "");
        assert_eq!(states(&lax, "/opt/malai")[0].0, State::Fine);
    }

    #[test]
    fn what_keeps_a_daemon_from_its_work_is_an_error() {
        for (change, to, words) in [
            ("ReadWritePaths=/opt/malai\n", "", "read-only"),
            ("--foreground", "", "--foreground"),
            ("/opt/malai", "/home/malai", "hides"),
            (
                "ExecStart=/usr/local/bin/malai",
                "ExecStart=",
                "which is not there",
            ),
        ] {
            let unit = UNIT.replace(change, to);
            let home = if to.is_empty() || words.contains("there") {
                "/opt/malai"
            } else {
                to
            };
            let judged = judge(
                &Unit::parse(&unit),
                Path::new("/u"),
                Path::new(home),
                |program| program == Path::new("/usr/local/bin/malai"),
            );
            let errors: Vec<_> = judged
                .iter()
                .filter(|finding| finding.state == State::Error)
                .collect();
            assert!(
                errors.iter().any(|error| error.what.contains(words)),
                "{words}: {judged:?}"
            );
            assert!(errors.iter().all(|error| error.remedy.is_some()));
        }
        let other = states(UNIT, "/root/.malai");
        assert!(
            other[0].0 == State::Note && other[0].1.contains("serves /opt/malai"),
            "{other:?}"
        );
        let state = Unit::parse(
            "StateDirectory=malai\nProtectSystem=strict\nEnvironment=\"MALAI_HOME=/var/lib/malai\"\nExecStart=/x daemon --foreground",
        );
        let found = judge(&state, Path::new("/u"), Path::new("/var/lib/malai"), |_| {
            true
        });
        assert_eq!(found[0].state, State::Fine, "{found:?}");
    }
}
