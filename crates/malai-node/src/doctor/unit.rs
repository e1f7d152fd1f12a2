//! The systemd unit, if there is one: whether it serves this home and lets the daemon work.
//!
//! It asks systemd for the effective values, so drop-ins count.

use std::path::{Path, PathBuf};
use std::process::Command;

use malai_cluster::{escape, split_command};

use super::{Context, Finding};
use crate::home::keystore::quoted;
use crate::os::fs::display_path;

const CHECK: &str = "systemd";

/// The unit's name.
const NAME: &str = "malai.service";

/// The properties requested from systemd.
const PROPERTIES: &str = "LoadState,ActiveState,ExecStart,User,Environment,NoNewPrivileges,ProtectSystem,\
    ProtectHome,ReadWritePaths,StateDirectory";

/// How to change the unit: in a drop-in, which upgrades of the package do not touch.
const EDIT: &str = "sudo systemctl edit malai";

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let home = context.home.root();
    let Some(unit) = ask().filter(|unit| unit.is_loaded) else {
        return Vec::new();
    };
    let mut found = judge(&unit, home, Path::exists);
    if unit.serves(home) {
        found.push(state(&unit, context.is_held()));
    }
    found
}

/// Asks systemd; `None` if it is not running.
fn ask() -> Option<Unit> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let output = Command::new("systemctl")
        .args(["show", "--no-pager", "--property", PROPERTIES, NAME])
        // Names of states are never translated, but messages are.
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| Unit::parse(&text))
}

/// Whether the unit is active, compared with whether a daemon runs.
fn state(unit: &Unit, is_held: bool) -> Finding {
    let state = escape(&unit.active);
    match (unit.active.as_str(), is_held) {
        ("active" | "reloading", _) => Finding::fine(CHECK, "the unit is active"),
        (_, true) => Finding::warning(
            CHECK,
            format!("the unit is {state}, although a daemon runs"),
        )
        .because("it was started by hand, so it will not be restarted after a crash or a reboot")
        .fix("malai stop; sudo systemctl enable --now malai"),
        (_, false) => Finding::warning(CHECK, format!("the unit is {state}"))
            .because("commands cannot be run on this computer")
            .fix("sudo systemctl enable --now malai; journalctl -u malai -n 50"),
    }
}

/// The properties of a unit that matter to malai.
#[derive(Debug, Default)]
struct Unit {
    is_loaded: bool,
    active: String,
    program: Option<PathBuf>,
    is_foreground: bool,
    home: Option<PathBuf>,
    user: Option<String>,
    writable: Vec<PathBuf>,
    is_strict: bool,
    hides_homes: bool,
    no_new_privileges: bool,
}

impl Unit {
    /// Parses the output of `systemctl show`: one property per line, like `User=malai`.
    fn parse(shown: &str) -> Self {
        let mut unit = Self::default();
        for line in shown.lines() {
            let Some((property, value)) = line.split_once('=') else {
                continue;
            };
            match property {
                "LoadState" => unit.is_loaded = value == "loaded",
                "ActiveState" => unit.active = value.to_owned(),
                "ExecStart" => unit.read_command(value),
                "User" => unit.user = Some(value.to_owned()).filter(|user| !user.is_empty()),
                "Environment" => {
                    let mut home = words(value)
                        .into_iter()
                        .filter_map(|word| word.strip_prefix("MALAI_HOME=").map(PathBuf::from));
                    unit.home = home.next_back();
                }
                "NoNewPrivileges" => unit.no_new_privileges = value == "yes",
                "ProtectSystem" => unit.is_strict = value == "strict",
                "ProtectHome" => unit.hides_homes = ["yes", "tmpfs"].contains(&value),
                "ReadWritePaths" => {
                    let paths = words(value).into_iter();
                    // A path that may be missing has a `-`, one that is within a RootDirectory= a `+`.
                    let paths = paths.map(|path| path.trim_start_matches(['-', '+']).into());
                    unit.writable.extend(paths);
                }
                "StateDirectory" => {
                    let names = words(value).into_iter();
                    let folders = names.map(|name| Path::new("/var/lib").join(name));
                    unit.writable.extend(folders);
                }
                _ => {}
            }
        }
        unit
    }

    /// Parses `{ path=/usr/bin/malai ; argv[]=/usr/bin/malai daemon --foreground ; ignore_errors=no ; … }`.
    fn read_command(&mut self, value: &str) {
        let inner = value.trim().trim_start_matches('{').trim_end_matches('}');
        for field in inner.split(" ; ").map(str::trim) {
            if let Some(path) = field.strip_prefix("path=") {
                self.program = Some(path.into());
            } else if let Some(arguments) = field.strip_prefix("argv[]=") {
                self.is_foreground = words(arguments).iter().any(|word| word == "--foreground");
            }
        }
    }

    fn serves(&self, home: &Path) -> bool {
        self.home.as_deref() == Some(home)
    }
}

/// The words of a value. Those with spaces are quoted as in a shell.
fn words(value: &str) -> Vec<String> {
    split_command(value).unwrap_or_else(|_| value.split_whitespace().map(str::to_owned).collect())
}

fn judge(unit: &Unit, home: &Path, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
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
                    format!("{NAME} starts {program}, which does not exist"),
                )
                .because("the service cannot start")
                .fix(EDIT),
            );
        }
    }
    if !unit.is_foreground {
        found.push(
            Finding::error(CHECK, format!("{NAME} does not start it with --foreground"))
                .because(
                    "systemd takes the exit of the starting process for the end of the service",
                )
                .fix(EDIT),
        );
    }
    let of_unit = match &unit.home {
        Some(of_unit) if of_unit != home => {
            let (theirs, ours) = (display_path(of_unit), display_path(home));
            found.push(
                Finding::note(
                    CHECK,
                    format!("{NAME} serves {theirs}, but this home is {ours}"),
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
    let shown = display_path(of_unit);
    if unit.is_strict && !unit.writable.iter().any(|path| of_unit.starts_with(path)) {
        found.push(
            Finding::error(
                CHECK,
                format!("{NAME} makes {shown} read-only (ProtectSystem=strict)"),
            )
            .because("the daemon cannot take its lock there or write anything")
            .fix(format!("{EDIT}   # ReadWritePaths={}", quoted(of_unit))),
        );
    }
    let homes = ["/home", "/root", "/run/user"];
    if unit.hides_homes && homes.iter().any(|hidden| of_unit.starts_with(hidden)) {
        found.push(
            Finding::error(
                CHECK,
                format!("{NAME} hides {shown} from the daemon (ProtectHome)"),
            )
            .because("the daemon sees an empty home, or none")
            .fix(format!("{EDIT}   # another MALAI_HOME, as /opt/malai")),
        );
    }
    if unit.no_new_privileges {
        found.push(
            Finding::note(
                CHECK,
                format!("{NAME} has NoNewPrivileges: commands cannot use sudo"),
            )
            .because("a command entry as `sudo systemctl restart nginx` fails under it"),
        );
    }
    if found.is_empty() {
        found.push(Finding::fine(CHECK, format!("{NAME} serves this home")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    /// What systemd 257 shows of the tutorial's unit.
    const SHOWN: &str = "\
ExecStart={ path=/usr/local/bin/malai ; argv[]=/usr/local/bin/malai daemon --foreground ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
Environment=MALAI_HOME=/opt/malai RUST_LOG=malai=info
ReadWritePaths=/opt/malai
StateDirectory=
User=malai
ProtectHome=yes
ProtectSystem=strict
NoNewPrivileges=yes
LoadState=loaded
ActiveState=active
";

    fn states(shown: &str, home: &str) -> Vec<(State, String)> {
        let found = judge(&Unit::parse(shown), Path::new(home), |_| true);
        found
            .into_iter()
            .map(|finding| (finding.state, finding.what))
            .collect()
    }

    #[test]
    fn the_tutorials_unit_works_but_for_what_it_takes_away() {
        let found = states(SHOWN, "/opt/malai");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].0 == State::Note && found[0].1.contains("sudo"),
            "{found:?}"
        );
        assert_eq!(Unit::parse(SHOWN).user.as_deref(), Some("malai"));
    }

    /// As packaging/systemd/sudo.conf changes it: systemd shows what a drop-in has given back.
    #[test]
    fn a_drop_in_counts() {
        let shown = SHOWN.replace("NoNewPrivileges=yes", "NoNewPrivileges=no");
        assert_eq!(states(&shown, "/opt/malai")[0].0, State::Fine);
    }

    #[test]
    fn what_keeps_a_daemon_from_its_work_is_an_error() {
        for (old, new, words) in [
            ("ReadWritePaths=/opt/malai", "ReadWritePaths=", "read-only"),
            (
                "ReadWritePaths=/opt/malai",
                "ReadWritePaths=/opt/malai2",
                "read-only",
            ),
            (" --foreground", "", "--foreground"),
            ("/opt/malai", "/home/malai", "hides"),
            (
                "path=/usr/local/bin/malai",
                "path=/nowhere",
                "which does not exist",
            ),
            ("ExecStart=", "Exec=", "nothing, which does not exist"),
        ] {
            let shown = SHOWN.replace(old, new);
            let home = if new == "/home/malai" {
                new
            } else {
                "/opt/malai"
            };
            let found = judge(&Unit::parse(&shown), Path::new(home), |program| {
                program == Path::new("/usr/local/bin/malai")
            });
            let finding = found.iter().find(|finding| finding.what.contains(words));
            let finding = finding.unwrap_or_else(|| panic!("no {words:?} in {found:?}"));
            assert_eq!(finding.state, State::Error, "{finding:?}");
            assert!(finding.remedy.is_some());
        }
    }

    #[test]
    fn another_home_is_named_with_the_user_who_may_look_at_it() {
        let found = judge(&Unit::parse(SHOWN), Path::new("/root/.malai"), |_| true);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].state, State::Note);
        assert_eq!(
            found[0].remedy.as_deref(),
            Some("sudo -u malai env MALAI_HOME=/opt/malai malai doctor")
        );
    }

    #[test]
    fn values_with_blanks_prefixes_and_state_folders() {
        let shown = SHOWN
            .replace("MALAI_HOME=/opt/malai", "\"MALAI_HOME=/srv/my home\" A=b")
            .replace(
                "ReadWritePaths=/opt/malai",
                "ReadWritePaths=-/tmp \"+/srv/my home\"",
            );
        let unit = Unit::parse(&shown);
        assert!(unit.serves(Path::new("/srv/my home")), "{unit:?}");
        assert_eq!(states(&shown, "/srv/my home")[0].0, State::Note);
        let shown = SHOWN
            .replace("ReadWritePaths=/opt/malai", "ReadWritePaths=")
            .replace("StateDirectory=", "StateDirectory=malai")
            .replace("/opt/malai", "/var/lib/malai");
        assert_eq!(states(&shown, "/var/lib/malai").len(), 1);
    }

    #[test]
    fn a_unit_that_is_not_there_is_not_loaded() {
        let shown = "LoadState=not-found\nActiveState=inactive\nUser=\n";
        let unit = Unit::parse(shown);
        assert!(!unit.is_loaded && unit.user.is_none());
    }

    #[test]
    fn the_state_of_the_unit_next_to_the_daemons() {
        for (active, is_held, expected) in [
            ("active", true, State::Fine),
            ("inactive", true, State::Warning),
            ("failed", false, State::Warning),
        ] {
            let shown = SHOWN.replace("ActiveState=active", &format!("ActiveState={active}"));
            assert_eq!(state(&Unit::parse(&shown), is_held).state, expected);
        }
    }
}
