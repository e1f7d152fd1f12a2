//! `[forward]` in `malai.toml`: what the daemon listens on, and where it passes connections on to.

use malai_cluster::{Target, Upstream, escape};
use malai_wire::control::ForwardTo;
use malai_wire::peer::connect::Destination;
use toml::Spanned;
use toml::de::DeValue;

use super::Reader;
use crate::os::listen::Listen;

/// One line of `[forward]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptForward {
    /// Where to listen.
    pub listen: Listen,
    /// The service, or the machine through which it goes.
    pub target: Target,
    /// What of the target is reached.
    pub to: ForwardTo,
}

impl KeptForward {
    /// Where connections go, as it is written.
    pub fn shown(&self) -> String {
        match &self.to {
            ForwardTo::Through(destination) => {
                format!("{}:{}", self.target, destination.shown())
            }
            ForwardTo::Service | ForwardTo::Socks => self.target.to_string(),
        }
    }
}

/// Reads `<service>.<cluster>`, `<machine>.<cluster>:<host>:<port>` or `<machine>.<cluster>:<path>`.
///
/// # Errors
///
/// What is wrong with the text.
pub(crate) fn destination(text: &str) -> Result<(Target, ForwardTo), String> {
    let target = |text: &str| Target::parse(text).map_err(|error| error.to_string());
    let (machine, to) = match text.split_once(':') {
        None => (text, ForwardTo::Service),
        Some((machine, rest)) => (machine, ForwardTo::Through(reached(rest)?)),
    };
    Ok((target(machine)?, to))
}

/// Reads what a machine reaches: `<host>:<port>` or the absolute path of a Unix socket.
///
/// # Errors
///
/// What is wrong with the text.
pub fn reached(text: &str) -> Result<Destination, String> {
    let wrong = |error| format!("`{}` {error}", escape(text));
    if text.starts_with('/') {
        Upstream::unix(text).map_err(wrong)?;
        let (path, user) = (text.to_owned(), None);
        return Ok(Destination::Unix { path, user });
    }
    let address = Upstream::tcp(text).map_err(|error| {
        let wrong = wrong(error);
        format!("{wrong}; write <machine>.<cluster>:<host>:<port>")
    })?;
    Ok(Destination::Tcp(address.to_string()))
}

impl Reader<'_> {
    /// The section's lines, in the order of the file.
    pub(super) fn forward(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<KeptForward> {
        let mut found: Vec<KeptForward> = Vec::new();
        let table = self.table(value, "forward");
        let mut lines: Vec<_> = table.into_iter().flatten().collect();
        lines.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in lines {
            let text = key.get_ref().as_ref();
            let place = self.place(text);
            if let Err((message, help)) = &place {
                self.problem(key.span(), message.clone(), Some((*help).to_owned()));
            }
            if value.get_ref().as_table().is_some() {
                let message = format!("\"{}\" is not one place to listen", escape(text));
                let help = "put an address with dots into double quotes: \"127.0.0.2:80\"";
                self.problem(key.span(), message, Some(help.to_owned()));
                continue;
            }
            let Some(to) = self.string(value, &format!("what {} leads to", escape(text))) else {
                continue;
            };
            match (place, destination(to)) {
                (Ok(listen), Ok((target, to))) => {
                    let kept = KeptForward { listen, target, to };
                    if found.iter().any(|other| other.listen == kept.listen) {
                        let message = format!("{} is in [forward] already", kept.listen);
                        let help = "a place to listen leads to one service";
                        self.problem(key.span(), message, Some(help.to_owned()));
                    }
                    found.push(kept);
                }
                (_, Err(why)) => {
                    let message = format!("this leads nowhere: {why}");
                    let help = "as in \"db.company\", a service, or \"web01.company:localhost:80\"";
                    self.problem(value.span(), message, Some(help.to_owned()));
                }
                (Err(_), Ok(_)) => {}
            }
        }
        found
    }

    /// Where a line listens, or what is wrong with it and what to write instead.
    #[expect(clippy::unused_self, reason = "it belongs to the reader")]
    fn place(&self, text: &str) -> Result<Listen, (String, &'static str)> {
        let shown = escape(text);
        let listen = Listen::parse(text).map_err(|_| {
            (
                format!("\"{shown}\" is no place to listen"),
                "write a port, \"address:port\", or the path of a Unix socket",
            )
        })?;
        match &listen {
            Listen::Standard => Err((
                "the daemon has no standard input to pass on".to_owned(),
                "use `malai forward -` where it is needed",
            )),
            Listen::Tcp { port: 0, .. } => Err((
                "nobody would know this port: 0 is any free one".to_owned(),
                "choose a port",
            )),
            Listen::Unix(path) if path.is_relative() => Err((
                format!("\"{shown}\" is a relative path"),
                "write it from / on: the daemon has no folder of its own",
            )),
            _ => Ok(listen),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn read(lines: &str) -> Result<Vec<String>, Vec<String>> {
        let parsed = Settings::parse("malai.toml", &format!("[forward]\n{lines}"));
        let shown = |settings: Settings| {
            let lines = settings.forward.iter();
            lines
                .map(|kept| format!("{} → {}", kept.listen, kept.shown()))
                .collect()
        };
        let told = |problems: Vec<malai_cluster::Diagnostic>| {
            let told = problems.iter();
            told.map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.message))
                .collect()
        };
        parsed.map(shown).map_err(told)
    }

    #[test]
    fn every_kind_of_line() {
        assert_eq!(
            read(
                "5432 = \"db.company\"\n\"[::1]:80\" = \"grafana.company\"\n\"/run/x.sock\" = \"cache.company\"\n8080 = \"web01.company:localhost:80\"\n8081 = \"web01.company:/run/y.sock\"\n"
            ),
            Ok([
                "127.0.0.1:5432 → db.company",
                "[::1]:80 → grafana.company",
                "/run/x.sock → cache.company",
                "127.0.0.1:8080 → web01.company:localhost:80",
                "127.0.0.1:8081 → web01.company:/run/y.sock",
            ]
            .map(str::to_owned)
            .to_vec())
        );
    }

    #[test]
    fn each_mistake_is_named_where_it_stands() {
        for (line, problem) in [
            ("x = \"db.company\"", "2:1 \"x\" is no place to listen"),
            ("0 = \"db.company\"", "2:1 nobody would know this port"),
            ("- = \"db.company\"", "2:1 the daemon has no standard input"),
            ("\"./x\" = \"db.company\"", "2:1 \"./x\" is a relative path"),
            ("5432 = 7", "2:8 what 5432 leads to must be a string"),
            ("5432 = \"db\"", "2:8 this leads nowhere"),
            ("5432 = \"web*.company\"", "2:8 this leads nowhere"),
            (
                "5432 = \"web01.company:80\"",
                "2:8 this leads nowhere: `80` has no port",
            ),
            (
                "127.0.0.1 = \"db.company\"",
                "2:1 \"127\" is not one place to listen",
            ),
            (
                "80 = \"a.b\"\n\"127.0.0.1:80\" = \"c.d\"",
                "3:1 127.0.0.1:80 is in [forward] already",
            ),
        ] {
            let problems = read(line).unwrap_err();
            assert!(problems[0].starts_with(problem), "{line}: {problems:#?}");
        }
    }
}
