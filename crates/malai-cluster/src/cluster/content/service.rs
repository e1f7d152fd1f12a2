//! `[service.<name>]` in signed content.

use std::ops::Range;

use super::{Read, Reader, problem};
use crate::cluster::document::{Document, ServiceSection, Spanned};
use crate::name::ServiceName;
use crate::service::Upstream;

impl<'t> Reader<'t> {
    pub(super) fn service(
        &mut self,
        name: &str,
        place: Range<usize>,
        document: &mut Document<'t>,
    ) -> Read<()> {
        self.counts
            .service()
            .map_err(|error| problem(place.clone(), error))?;
        let name = ServiceName::parse(name);
        let name = name.map_err(|error| problem(place.clone(), error.to_string()))?;
        let last = document.services.last();
        if last.is_some_and(|last| last.name.value >= name) {
            return Err(problem(place, "the service is not in sorted order"));
        }
        let allow_from = self.list("allow_from")?;
        // In the order of the keys.
        let http = self.string("http")?;
        let machine = self.plain("machine")?;
        let (text, span, parsed) = if let Some((text, span)) = http {
            let parsed = Upstream::http(&text);
            (text, span, parsed)
        } else if let Some((text, span)) = self.string("tcp")? {
            let parsed = Upstream::tcp(&text);
            (text, span, parsed)
        } else if let Some((text, span)) = self.string("unix")? {
            let parsed = Upstream::unix(&text);
            (text, span, parsed)
        } else {
            return Err(problem(self.place(), "the service's address is missing"));
        };
        let upstream = parsed.map_err(|error| problem(span.clone(), error.to_string()))?;
        if upstream.to_string() != *text {
            return Err(problem(
                span,
                "the address is not written as malai writes it",
            ));
        }
        document.services.push(ServiceSection {
            name: Spanned {
                value: name,
                span: place,
            },
            machine: Some(machine),
            upstream: Some(upstream),
            allow_from,
        });
        Ok(())
    }

    /// A name, which needs no escapes.
    fn plain(&mut self, key: &str) -> Read<Spanned<&'t str>> {
        let Some((value, span)) = self.value(key)? else {
            return Err(problem(self.place(), format!("`{key}` is missing")));
        };
        let inside = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        match inside.filter(|text| !text.contains(['"', '\\'])) {
            Some(value) => Ok(Spanned { value, span }),
            None => Err(problem(span, format!("`{key}` is not a name"))),
        }
    }
}
