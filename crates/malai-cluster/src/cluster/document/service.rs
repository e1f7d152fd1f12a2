//! `[service.<name>]`: its keys, and what is wrong with them.

use super::{Key, List, Reader, Spanned, Value, in_order};
use crate::diagnostic::quoted;
use crate::name::ServiceName;
use crate::service::{Upstream, UpstreamError};

/// The keys of a service's section.
pub(super) const KEYS: &[&str] = &["machine", "tcp", "http", "unix", "allow_from"];

pub(in crate::cluster) struct ServiceSection<'t> {
    pub(in crate::cluster) name: Spanned<ServiceName>,
    /// The machine's name, as written.
    pub(in crate::cluster) machine: Option<Spanned<&'t str>>,
    pub(in crate::cluster) upstream: Option<Upstream>,
    pub(in crate::cluster) allow_from: Option<List<'t>>,
}

impl<'t> Reader<'t, '_, '_> {
    pub(super) fn services(
        &mut self,
        key: &Key<'t>,
        value: &'t Value<'t>,
    ) -> Vec<ServiceSection<'t>> {
        let Some(table) = self.table(key, value, "[service.grafana]") else {
            return Vec::new();
        };
        let sections = in_order(table).into_iter();
        sections
            .filter_map(|(key, value)| self.service(key, value))
            .collect()
    }

    fn service(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<ServiceSection<'t>> {
        let name = self.name(key, ServiceName::parse);
        let table = self.table(key, value, "[service.grafana]")?;
        let (mut machine, mut has_machine, mut allow_from) = (None, false, None);
        let (mut upstream, mut first): (_, Option<&Key<'t>>) = (None, None);
        for (entry, written) in in_order(table) {
            match entry.get_ref().as_ref() {
                "machine" => {
                    has_machine = true;
                    let span = written.span();
                    machine = self
                        .text(entry, written)
                        .map(|value| Spanned { value, span });
                }
                "allow_from" => allow_from = self.list(entry, written),
                "tcp" | "http" | "unix" => {
                    if let Some(first) = first {
                        let message = format!(
                            "a service has one address: {} is already written above",
                            quoted(first.get_ref())
                        );
                        let help = "remove one of the two".to_owned();
                        self.error(entry.span(), message, Some(help));
                        continue;
                    }
                    first = Some(entry);
                    upstream = self.upstream(entry, written);
                }
                _ => self.unknown(entry, KEYS, "in a service's section"),
            }
        }
        let shown = quoted(key.get_ref());
        if !has_machine {
            let message = format!("service {shown} has no `machine`");
            let help = "write the name of the machine that it runs on".to_owned();
            let header = self.header(key, value);
            self.report.missing(header, message, Some(help));
        }
        if first.is_none() {
            let message = format!("service {shown} has no address");
            let help = "write `tcp = \"127.0.0.1:5432\"`, `http = \"127.0.0.1:3000\"` or `unix = \"/run/x.sock\"`".to_owned();
            let header = self.header(key, value);
            self.report.missing(header, message, Some(help));
        }
        Some(ServiceSection {
            name: name?,
            machine,
            upstream,
            allow_from,
        })
    }

    fn upstream(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Option<Upstream> {
        type Parse = fn(&str) -> Result<Upstream, UpstreamError>;
        let (parse, wanted): (Parse, _) = match key.get_ref().as_ref() {
            "tcp" => (
                Upstream::tcp,
                "an address and a port, like \"127.0.0.1:5432\"",
            ),
            "http" => (
                Upstream::http,
                "an address and a port, like \"127.0.0.1:3000\"",
            ),
            _ => (Upstream::unix, "a path, like \"/run/x.sock\""),
        };
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value, wanted);
            return None;
        };
        match parse(text) {
            Ok(upstream) => Some(upstream),
            Err(problem) => {
                let message = format!("{} {problem}", quoted(text));
                self.error(value.span(), message, Some(format!("write {wanted}")));
                None
            }
        }
    }
}
