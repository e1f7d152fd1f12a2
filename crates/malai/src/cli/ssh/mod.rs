//! ssh's command line: turns an argument list into what it means, without side effects.

pub mod forwards;
pub mod options;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use malai_cluster::{escape, nearest};
use malai_node::forward::listen::Listen;

use forwards::{LocalForward, Reach};
use options::{KEYWORDS, LETTERS, Letter, Meaning, Setting, asks_for_nothing};

use super::TtyMode;
use crate::terminal::tilde::EscapeChar;

/// The meaning of an ssh command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshInvocation {
    /// The host as written, without user, scheme, port and brackets.
    pub host: OsString,
    /// The user, from `user@host`, `-l` or `User`; the first one given applies.
    pub user: Option<String>,
    /// The words after the host, joined with spaces; `None` for a shell.
    pub line: Option<Vec<u8>>,
    /// Whether the line is the name of a subsystem.
    pub subsystem: bool,
    /// Whether to allocate a terminal.
    pub tty: TtyMode,
    /// Whether standard input is not read: `-n`, `-f`.
    pub no_input: bool,
    /// Whether it goes to the background once the session has started: `-f`.
    pub background: bool,
    /// Whether there is only a connection and no session: `-N`.
    pub no_command: bool,
    /// What starts an escape on a terminal: `-e`.
    pub escape: EscapeChar,
    /// Whether malai's own messages are dropped: `-q`.
    pub quiet: bool,
    /// Whether malai says which options it ignored: `-v`.
    pub verbose: bool,
    /// What is forwarded meanwhile: `-L`, `-D`.
    pub forwards: Vec<LocalForward>,
    /// Where standard input and output go, and nothing else happens: `-W`.
    pub standard_to: Option<Reach>,
    /// Whether nothing happens if one of the forwardings cannot be set up: `ExitOnForwardFailure`.
    pub needs_forwards: bool,
    /// Whether what is forwarded without an address is for other computers as well: `-g`.
    pub for_others: bool,
    /// What to do instead of a session.
    pub instead: Option<Instead>,
    /// The names of variables to send; a trailing `*` matches any ending.
    pub send_env: Vec<String>,
    /// Variables to set.
    pub set_env: Vec<(String, Vec<u8>)>,
    /// The command that the local shell runs once the session has started, if that is permitted.
    pub local_command: Option<Vec<u8>>,
    /// Options that are accepted but ignored, each with the reason.
    pub ignored: Vec<String>,
}

/// What ssh can do instead of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Print the version: `-V`.
    Version,
    /// Print the configuration: `-G`.
    PrintConfig,
    /// Check for a connection: `-O check`.
    Check,
    /// End the shared connection: `-O exit`, `-O stop`. malai accepts this but keeps the connection.
    Stop,
}

/// Why a command line cannot be run, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshError(pub String);

/// Parses the arguments after the program's name.
///
/// # Errors
///
/// An option is unknown or unsupported; the error says what to do instead.
pub fn parse(arguments: &[OsString]) -> Result<SshInvocation, SshError> {
    let mut parser = Parser::default();
    let mut words = Vec::new();
    let mut has_host = false;
    for argument in scan(arguments) {
        match argument {
            Argument::Letter(letter, value) => parser.letter(letter, value)?,
            Argument::Host(host) => {
                has_host = true;
                parser.destination(host)?;
            }
            Argument::Word(word) => words.push(word),
        }
    }
    parser.finish(has_host, &words)
}

/// The host in an argument list, even an invalid one, without user, scheme, port and brackets.
pub fn host(arguments: &[OsString]) -> Option<OsString> {
    let host = scan(arguments)
        .into_iter()
        .find_map(|argument| match argument {
            Argument::Host(host) => Some(host),
            _ => None,
        });
    let mut parser = Parser::default();
    parser.destination(host?).ok()?;
    Some(parser.found.host)
}

/// One argument, or one letter of it.
enum Argument<'a> {
    /// An option, with its value if it takes one and there is one.
    Letter(char, Option<&'a OsStr>),
    /// The host.
    Host(&'a OsStr),
    /// A word of the command.
    Word(&'a OsStr),
}

/// Splits an argument list as ssh does: options may come before the host, and after it up to the first word.
fn scan(arguments: &[OsString]) -> Vec<Argument<'_>> {
    let mut found = Vec::new();
    let mut left = arguments.iter().map(OsString::as_os_str);
    let (mut has_host, mut options_ended) = (false, false);
    while let Some(word) = left.next() {
        match word.as_bytes() {
            b"--" if !options_ended => options_ended = true,
            [b'-', letters @ ..] if !options_ended && !letters.is_empty() => {
                let mut rest = letters;
                while let [first, behind @ ..] = rest {
                    let letter = char::from(*first);
                    let takes_value = known(letter).is_some_and(|known| known.takes_value);
                    let value = match (takes_value, behind) {
                        (false, _) => None,
                        (true, []) => left.next(),
                        (true, behind) => Some(OsStr::from_bytes(behind)),
                    };
                    found.push(Argument::Letter(letter, value));
                    rest = if takes_value { &[] } else { behind };
                }
            }
            _ if !has_host => {
                has_host = true;
                found.push(Argument::Host(word));
            }
            _ => {
                // The first word of the command ends the options.
                found.push(Argument::Word(word));
                found.extend(left.by_ref().map(Argument::Word));
            }
        }
    }
    found
}

fn known(letter: char) -> Option<&'static Letter> {
    LETTERS.iter().find(|known| known.letter == letter)
}

/// The help of `malai ssh`: every option and its meaning in malai.
pub fn help() -> String {
    let mut out = "Runs a line on a target by ssh's command line, for the tools that call ssh.\n\n\
Examples:\n  \
  malai ssh web@web01.company 'cd /srv && ls *.log | wc -l'\n  \
  rsync -a -e 'malai ssh' src/ web01.company:/srv/\n  \
  GIT_SSH_COMMAND='malai ssh' git clone web01.company:/srv/repo.git\n  \
  malai ssh -N -L 5433:localhost:5432 db01.company\n\n\
Usage: malai ssh [OPTIONS] [user@]<TARGET> [WORDS...]\n       malai ssh --shim <FOLDER>\n\nOptions:\n"
        .to_owned();
    for known in LETTERS {
        let name = match known.takes_value {
            true => format!("-{} <value>", known.letter),
            false => format!("-{}", known.letter),
        };
        out.push_str(&format!("  {name:<12}{}\n", explained(known.meaning)));
    }
    out.push_str("  --shim <folder>  put a link named ssh there, for tools whose program cannot be chosen\n\nOptions of -o:\n");
    for known in KEYWORDS {
        out.push_str(&format!(
            "  {:<34}{}\n",
            known.name,
            explained(known.meaning)
        ));
    }
    out
}

fn explained(meaning: Meaning) -> String {
    match meaning {
        Meaning::Obeyed(_, what) => what.to_owned(),
        Meaning::Ignored(why) => format!("(no effect here: {why})"),
        Meaning::Refused(why) => format!("(refused: {why})"),
    }
}

#[derive(Default)]
struct Parser {
    found: SshInvocation,
    remote_command: Option<Vec<u8>>,
    local_command: Option<Vec<u8>>,
    permit_local_command: Option<bool>,
    escape: Option<EscapeChar>,
    tty: u8,
    no_tty: bool,
    clears_forwards: bool,
}

impl Parser {
    fn letter(&mut self, letter: char, value: Option<&OsStr>) -> Result<(), SshError> {
        match known(letter) {
            None => Err(SshError(format!(
                "unknown option -{}; malai ssh takes ssh's options (malai ssh --help)",
                escape(&letter.to_string())
            ))),
            Some(known) if known.takes_value && value.is_none() => {
                Err(SshError(format!("option -{letter} needs a value")))
            }
            Some(known) => self.apply(&format!("-{letter}"), known.meaning, value),
        }
    }

    /// Parses `Key=value` or `Key value`; the value may be in double quotes.
    fn option(&mut self, text: &OsStr) -> Result<(), SshError> {
        let bytes = text.as_bytes().trim_ascii();
        let split = bytes
            .iter()
            .position(|byte| *byte == b'=' || byte.is_ascii_whitespace());
        let (name, value) = bytes.split_at(split.unwrap_or(bytes.len()));
        let value = value.trim_ascii_start();
        let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
        let value = match value {
            [b'"', inner @ .., b'"'] => inner,
            value => value,
        };
        let name = String::from_utf8_lossy(name);
        let known = KEYWORDS
            .iter()
            .find(|known| known.name.eq_ignore_ascii_case(&name));
        let Some(known) = known else {
            let near = nearest(&name, KEYWORDS.iter().map(|known| known.name));
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return Err(SshError(format!(
                "unknown option -o {}{near}",
                escape(&name)
            )));
        };
        if value.is_empty() {
            return Err(SshError(format!("option -o {} needs a value", known.name)));
        }
        self.apply(known.name, known.meaning, Some(OsStr::from_bytes(value)))
    }

    fn apply(
        &mut self,
        name: &str,
        meaning: Meaning,
        value: Option<&OsStr>,
    ) -> Result<(), SshError> {
        let text = value.unwrap_or_default().to_string_lossy();
        match meaning {
            Meaning::Ignored(why) => {
                let value = value.map_or_else(String::new, |_| format!(" {}", escape(&text)));
                self.found.ignored.push(format!("{name}{value} ({why})"));
                Ok(())
            }
            Meaning::Refused(_) if value.is_some() && asks_for_nothing(&text) => Ok(()),
            Meaning::Refused(instead) => Err(SshError(format!("{name}: {instead}"))),
            Meaning::Obeyed(setting, _) => {
                self.set(name, setting, value.unwrap_or_default(), &text)
            }
        }
    }

    fn set(
        &mut self,
        name: &str,
        setting: Setting,
        value: &OsStr,
        text: &str,
    ) -> Result<(), SshError> {
        let found = &mut self.found;
        let yes = || yes(name, text);
        match setting {
            Setting::User => drop(found.user.get_or_insert_with(|| text.to_owned())),
            Setting::Tty => self.tty = self.tty.saturating_add(1),
            Setting::NoTty => self.no_tty = true,
            Setting::RequestTty => match text {
                "force" => self.tty = self.tty.max(2),
                "auto" => {}
                _ if yes()? => self.tty = self.tty.max(1),
                _ => self.no_tty |= self.tty == 0,
            },
            Setting::Subsystem => found.subsystem = true,
            Setting::SessionType => match text {
                "none" => found.no_command = true,
                "subsystem" => found.subsystem = true,
                "default" => {}
                _ => return Err(wrong(name, text, "none, subsystem or default")),
            },
            Setting::StdinNull if name == "-n" => found.no_input = true,
            Setting::StdinNull => found.no_input |= yes()?,
            Setting::Background if name == "-f" => found.background = true,
            Setting::Background => found.background |= yes()?,
            Setting::NoCommand => found.no_command = true,
            Setting::EscapeChar => {
                let escape = EscapeChar::parse(value.as_bytes());
                let wanted = "a character, ^ and a letter, or none";
                let escape = escape.ok_or_else(|| wrong(name, text, wanted))?;
                // As in ssh, the first value applies.
                self.escape.get_or_insert(escape);
            }
            Setting::Quiet => found.quiet = true,
            Setting::Verbose => found.verbose = true,
            Setting::Version => found.instead = Some(Instead::Version),
            Setting::PrintConfig => found.instead = Some(Instead::PrintConfig),
            Setting::Control => {
                found.instead = Some(match text {
                    "check" => Instead::Check,
                    "exit" | "stop" => Instead::Stop,
                    "forward" | "cancel" => {
                        return Err(SshError(format!(
                            "-O {text}: start another `malai ssh -N` with the forwarding, and end it; both share the connection"
                        )));
                    }
                    _ => return Err(wrong(name, text, "check, exit or stop")),
                });
            }
            Setting::Option => return self.option(value),
            Setting::SendEnv => {
                found
                    .send_env
                    .extend(text.split_ascii_whitespace().map(str::to_owned));
            }
            Setting::SetEnv => {
                for pair in words(value.as_bytes()) {
                    let split = pair.iter().position(|byte| *byte == b'=');
                    let Some(split) = split.filter(|at| *at > 0) else {
                        return Err(wrong(name, text, "NAME=value"));
                    };
                    let variable = String::from_utf8_lossy(&pair[..split]).into_owned();
                    found.set_env.push((variable, pair[split + 1..].to_vec()));
                }
            }
            Setting::RemoteCommand => {
                if text != "none" {
                    self.remote_command = Some(value.as_bytes().to_vec());
                }
            }
            // As in ssh, the first value applies.
            Setting::LocalCommand => {
                let command = || value.as_bytes().to_vec();
                self.local_command.get_or_insert_with(command);
            }
            Setting::PermitLocalCommand => {
                let permitted = yes()?;
                self.permit_local_command.get_or_insert(permitted);
            }
            Setting::LocalForward => {
                found.forwards.push(LocalForward::local(name, text)?);
            }
            Setting::DynamicForward => {
                found.forwards.push(LocalForward::dynamic(name, text)?);
            }
            Setting::StandardForward => {
                found.standard_to = Some(forwards::standard(name, text)?);
            }
            Setting::ExitOnForwardFailure => found.needs_forwards = yes()?,
            Setting::GatewayPorts if name == "-g" => found.for_others = true,
            Setting::GatewayPorts => found.for_others = yes()?,
            Setting::ClearForwards => self.clears_forwards = yes()?,
            Setting::LogLevel => {
                let level = text.to_ascii_uppercase();
                found.verbose |= level == "VERBOSE" || level.starts_with("DEBUG");
                found.quiet |= level == "QUIET";
            }
        }
        Ok(())
    }

    fn finish(mut self, has_host: bool, words: &[&OsStr]) -> Result<SshInvocation, SshError> {
        self.found.tty = match (self.no_tty, self.tty) {
            (true, _) => TtyMode::Never,
            (false, 0) => TtyMode::Auto,
            (false, 1) => TtyMode::Request,
            (false, _) => TtyMode::Force,
        };
        if self.found.instead == Some(Instead::Version) {
            return Ok(self.found);
        }
        if !has_host {
            return Err(SshError(
                "no machine given; usage: malai ssh [options] [user@]<machine>.<cluster> [command...]"
                    .to_owned(),
            ));
        }
        let joined = words
            .iter()
            .map(|word| word.as_bytes())
            .collect::<Vec<_>>()
            .join(&b' ');
        self.found.line = match (words.is_empty(), self.remote_command) {
            (false, Some(_)) => {
                return Err(SshError(
                    "there is a command, and RemoteCommand as well".to_owned(),
                ));
            }
            (true, remote_command) => remote_command,
            (false, None) => Some(joined),
        };
        self.found.escape = self.escape.unwrap_or_default();
        // As in ssh: -W is all that happens.
        if self.clears_forwards || self.found.standard_to.is_some() {
            self.found.forwards.clear();
        }
        if self.found.standard_to.is_some() && !words.is_empty() {
            return Err(SshError(
                "-W: standard input and output are the connection, so no command can run"
                    .to_owned(),
            ));
        }
        for forward in &mut self.found.forwards {
            if let Listen::Tcp { host, .. } = &mut forward.listen
                && self.found.for_others
                && !forward.has_address
            {
                "*".clone_into(host);
            }
        }
        self.found.no_input |= self.found.background;
        let has_nothing = self.found.line.is_none() && !self.found.no_command;
        if self.found.background && has_nothing && self.found.instead.is_none() {
            return Err(SshError(
                "-f: there is no command to run in the background".to_owned(),
            ));
        }
        if let (Some(true), Some(command)) = (self.permit_local_command, self.local_command)
            && command != b"none"
        {
            self.found.local_command = Some(expanded(&command, &self.found)?);
        }
        Ok(self.found)
    }

    /// Parses `[user@]host`, where the host may be in brackets, or `ssh://[user@]host[:port]`.
    fn destination(&mut self, host: &OsStr) -> Result<(), SshError> {
        let mut rest = host.as_bytes();
        let uri = rest.strip_prefix(b"ssh://");
        rest = uri.unwrap_or(rest);
        // As in ssh, the last @ separates, since user names may contain one.
        if let Some(at) = rest.iter().rposition(|byte| *byte == b'@') {
            let user = String::from_utf8_lossy(&rest[..at]).into_owned();
            if user.is_empty() {
                return Err(SshError("there is no user before the @".to_owned()));
            }
            // As in ssh, the first one given applies: -l before the host, or the host.
            self.found.user.get_or_insert(user);
            rest = &rest[at + 1..];
        }
        if uri.is_some() {
            rest = rest.strip_suffix(b"/").unwrap_or(rest);
            if let Some(colon) = rest.iter().rposition(|byte| *byte == b':') {
                let port = String::from_utf8_lossy(&rest[colon + 1..]).into_owned();
                self.found.ignored.push(format!(
                    "port {} (malai finds the machine by its key)",
                    escape(&port)
                ));
                rest = &rest[..colon];
            }
        }
        if let [b'[', inner @ .., b']'] = rest {
            rest = inner;
        }
        if rest.is_empty() {
            return Err(SshError("the host is empty".to_owned()));
        }
        self.found.host = OsString::from_vec(rest.to_vec());
        Ok(())
    }
}

/// Expands the tokens of a local command: `%h` and `%n` are the host, `%r` the user, `%%` a percent sign.
fn expanded(command: &[u8], found: &SshInvocation) -> Result<Vec<u8>, SshError> {
    let mut out = Vec::new();
    let mut left = command.iter();
    while let Some(byte) = left.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        match left.next() {
            Some(b'%') => out.push(b'%'),
            Some(b'h' | b'n') => out.extend(found.host.as_bytes()),
            Some(b'r') => out.extend(found.user.as_deref().unwrap_or_default().bytes()),
            _ => {
                return Err(SshError(
                    "LocalCommand: of ssh's tokens malai knows %h, %n, %r and %%".to_owned(),
                ));
            }
        }
    }
    Ok(out)
}

/// Splits the value of `SetEnv` into words at blanks outside of double quotes.
fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut word, mut quoted) = (Vec::new(), Vec::new(), false);
    for byte in text {
        match byte {
            b'"' => quoted = !quoted,
            blank if blank.is_ascii_whitespace() && !quoted => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
            }
            other => word.push(*other),
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}

fn yes(name: &str, text: &str) -> Result<bool, SshError> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(wrong(name, text, "yes or no")),
    }
}

fn wrong(name: &str, text: &str, wanted: &str) -> SshError {
    SshError(format!(
        "option {name}: \"{}\" is not {wanted}",
        escape(text)
    ))
}

#[cfg(test)]
mod tests;
