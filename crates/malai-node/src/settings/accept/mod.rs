//! `[accept.<alias>]`: what this computer's owner accepts in a cluster, and warnings about entries that may not mean what
//! was intended.

use std::collections::BTreeMap;
use std::ops::Range;

use malai_cluster::{
    Accept, AcceptEntry, Cluster, ClusterAlias, Diagnostic, Severity, UserName, escape, nearest,
    split_list,
};
use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::Reader;

use crate::os::user;
use crate::settings::run_as;

/// All sections, by the cluster's alias.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sections {
    /// The sections.
    pub all: BTreeMap<ClusterAlias, Section>,
    /// The file's name and text, for showing places in it.
    file: (String, String),
}

/// One `[accept.<alias>]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// What it accepts.
    pub accept: Accept,
    name: Range<usize>,
    from: Option<List<AcceptEntry>>,
    users: Option<List<UserName>>,
}

/// The entries of a list with their places, and the place of its key.
#[derive(Debug, Clone, PartialEq)]
struct List<T> {
    key: Range<usize>,
    entries: Vec<(T, Range<usize>)>,
}

const KNOWN: &[&str] = &["from", "users"];

impl Reader<'_> {
    pub(super) fn accept(&mut self, value: &Spanned<DeValue<'_>>) -> Sections {
        let mut sections = Sections {
            all: BTreeMap::new(),
            file: (self.file.to_owned(), self.source.to_owned()),
        };
        for (key, value) in self.table(value, "accept.<alias>").into_iter().flatten() {
            if KNOWN.contains(&key.get_ref().as_ref()) && value.get_ref().as_table().is_none() {
                let message = format!("{} is a setting for one cluster", key.get_ref());
                let help = "write it below a line [accept.<alias>]";
                self.problem(key.span(), message, Some(help.to_owned()));
                continue;
            }
            let alias = ClusterAlias::parse(key.get_ref())
                .map_err(|error| {
                    let help = "use the name of the cluster's folder here";
                    self.problem(key.span(), error.to_string(), Some(help.to_owned()));
                })
                .ok();
            let section = self.accept_section(key, value, alias.as_ref());
            if let (Some(alias), Some(section)) = (alias, section) {
                sections.all.insert(alias, section);
            }
        }
        sections
    }

    fn accept_section(
        &mut self,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        alias: Option<&ClusterAlias>,
    ) -> Option<Section> {
        let place = format!("accept.{}", escape(key.get_ref()));
        let (mut from, mut users) = (None, None);
        for (key, value) in self.table(value, &place)? {
            match key.get_ref().as_ref() {
                "from" => {
                    let who =
                        |text: &str| AcceptEntry::parse(text).map_err(|error| error.to_string());
                    let example = "\"admins,laptop\"";
                    from = self.list(key, value, example, who);
                }
                "users" => {
                    let user =
                        |text: &str| UserName::parse(text).map_err(|error| error.to_string());
                    users = self.list(key, value, "\"deploy,backup\"", user);
                }
                _ => self.unknown(key, &format!("[{place}]"), KNOWN),
            }
        }
        Some(Section {
            accept: Accept::new(
                alias?,
                from.as_ref().map(List::values),
                users.as_ref().map(List::values),
            ),
            name: key.span(),
            from,
            users,
        })
    }

    /// Parses a comma-separated string or an array of strings; `None` if anything in it is invalid, which is reported.
    fn list<T>(
        &mut self,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<List<T>> {
        let name = key.get_ref().as_ref();
        let (texts, mut sound) = match value.get_ref() {
            DeValue::String(text) => (split_list(self.source, text, value.span()), true),
            DeValue::Array(array) => {
                let texts = array
                    .iter()
                    .filter_map(|entry| Some((entry.get_ref().as_str()?, entry.span())));
                let texts: Vec<_> = texts.collect();
                for entry in array.iter().filter(|entry| !entry.get_ref().is_str()) {
                    let what = format!("an entry of {name}");
                    self.wrong_type(entry, &what, "a string", "put it in double quotes");
                }
                let sound = texts.len() == array.len();
                (texts, sound)
            }
            _ => {
                let help = format!("write it as {example} or as an array of strings");
                self.wrong_type(value, name, "a list", &help);
                return None;
            }
        };
        let mut entries = Vec::with_capacity(texts.len());
        for (text, span) in texts {
            let entry = match text {
                "" => Err(format!("{name} has an empty entry")),
                text => parse(text),
            };
            match entry {
                Ok(entry) => entries.push((entry, span)),
                Err(message) => {
                    sound = false;
                    let help = format!("write {name} like {example}; `[]` accepts no one");
                    self.problem(span, message, Some(help));
                }
            }
        }
        sound.then(|| List {
            key: key.span(),
            entries,
        })
    }
}

impl<T: Clone> List<T> {
    fn values(&self) -> Vec<T> {
        self.entries
            .iter()
            .map(|(entry, _)| entry.clone())
            .collect()
    }
}

impl Sections {
    /// Reports sections for clusters that this home is not in. If one is probably a mistyped name of a cluster without a
    /// section, that is an error, because what was meant to be narrowed is wide open.
    pub fn check_aliases(&self, known: &[ClusterAlias]) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for (alias, section) in &self.all {
            if known.contains(alias) {
                continue;
            }
            let open = known
                .iter()
                .filter(|known| !self.all.contains_key(*known))
                .map(ClusterAlias::as_str);
            let (severity, help) = match nearest(alias.as_str(), open) {
                Some(near) => (
                    Severity::Error,
                    format!(
                        "did you mean `{near}`? If it is for a cluster that you will join, join it first"
                    ),
                ),
                None => (
                    Severity::Warning,
                    "it takes effect when this home joins a cluster with that alias".to_owned(),
                ),
            };
            let message = format!("this home is in no cluster `{alias}`");
            found.push(self.diagnostic(severity, &section.name, message, help));
        }
        found
    }

    /// Reports names in a section that the cluster, or this computer, does not know. They accept no one.
    pub fn check_names(&self, alias: &ClusterAlias, cluster: &Cluster) -> Vec<Diagnostic> {
        let Some(section) = self.all.get(alias) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut warn = |span, message, help| {
            found.push(self.diagnostic(Severity::Warning, span, message, help));
        };
        let from = section.from.iter().flat_map(|list| &list.entries);
        for (who, span) in from.filter(|(who, _)| !who.is_known(cluster)) {
            let (message, near) = match who {
                AcceptEntry::Id(id) => {
                    let id = id.short();
                    let message = format!("cluster `{alias}` has no member with the id52 `{id}`");
                    (message, None)
                }
                name => {
                    let machines = cluster.machines().map(|machine| machine.name().as_str());
                    let groups = cluster.groups().map(|group| group.name().as_str());
                    let near = nearest(&name.to_string(), machines.chain(groups));
                    let message = format!("cluster `{alias}` has no machine or group `{name}`");
                    (message, near)
                }
            };
            let help = match near {
                Some(near) => format!("did you mean `{near}`? This entry accepts no one"),
                None => "this entry accepts no one until the cluster has it".to_owned(),
            };
            warn(span, message, help);
        }
        let users = section.users.iter().flat_map(|list| &list.entries);
        for (user, span) in users.filter(|(user, _)| !user::exists(user)) {
            let message = format!("there is no user `{user}` on this computer");
            warn(span, message, "no command can run as it".to_owned());
        }
        if let Some(users) = &section.users
            && !users.entries.is_empty()
            && !user::may_switch()
            && let Some(own) = user::own_name()
            && users.entries.iter().all(|(user, _)| user.as_str() != own)
        {
            let message = format!(
                "a daemon that runs as `{own}` cannot run anything as another user, and `{own}` is not in the list: nothing can run here"
            );
            let help = format!("add `{own}`, or write `from = []` if nothing should run here");
            warn(&users.key, message, help);
        }
        found
    }

    /// What a daemon that runs as this process's user accepts in a cluster.
    pub fn of_this_computer(&self, alias: &ClusterAlias) -> Option<Accept> {
        here(alias, self.all.get(alias).map(|section| &section.accept))
    }

    /// The text of the file, for finding places in it; empty if nothing is accepted or refused.
    pub fn source(&self) -> &str {
        &self.file.1
    }

    fn diagnostic(
        &self,
        severity: Severity,
        span: &Range<usize>,
        message: String,
        help: String,
    ) -> Diagnostic {
        let (file, source) = &self.file;
        Diagnostic::at(severity, file, source, span.clone(), message, Some(help))
    }
}

/// What is accepted in a cluster by a daemon that runs as this process does; `written` is what `malai.toml` says.
///
/// A daemon that runs commands as another user by default, and can become any, runs them as that one alone where
/// `users` is not written.
pub(crate) fn here(alias: &ClusterAlias, written: Option<&Accept>) -> Option<Accept> {
    match run_as::default_user() {
        Ok(None) => Some(written?.clone().of_daemon(user::own_name().as_deref())),
        Ok(Some(user)) => {
            let accept = written.cloned();
            let accept = accept.unwrap_or_else(|| Accept::new(alias, None, None));
            let own = user.to_string();
            Some(accept.or_users(vec![user]).of_daemon(Some(&own)))
        }
        // Nothing runs then; authorize.rs says why.
        Err(_) => Some(written?.clone().of_daemon(None)),
    }
}

#[cfg(test)]
mod tests;
