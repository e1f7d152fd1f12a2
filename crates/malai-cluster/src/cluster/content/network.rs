//! `[network]` in signed content.

use std::ops::Range;

use super::{Read, Reader, problem};
use crate::cluster::document::Document;
use crate::cluster::limits::MAX_RELAYS;
use crate::network::{Network, RelayAddress};

impl<'t> Reader<'t> {
    pub(super) fn network(&mut self, place: Range<usize>, document: &mut Document<'t>) -> Read<()> {
        if document.network.is_some() || !document.services.is_empty() {
            return Err(problem(place, "the section is not in sorted order"));
        }
        let public = match self.value("public")? {
            None => true,
            Some(("false", _)) => false,
            Some((_, place)) => return Err(problem(place, "`public` is not `false`")),
        };
        let mut relays: Vec<RelayAddress> = Vec::new();
        let list = self.list_of("relays", b":/?=#-.")?;
        for entry in list.into_iter().flat_map(|list| list.entries) {
            let wrong = |what: &str| problem(entry.span.clone(), format!("the relay {what}"));
            let relay: RelayAddress = entry.value.parse().map_err(|_| wrong("is no address"))?;
            if relay.to_string() != entry.value {
                return Err(wrong("is not written as malai writes it"));
            }
            if relays.iter().any(|other| other.url() == relay.url()) {
                return Err(wrong("is listed twice"));
            }
            if relays.len() == MAX_RELAYS {
                return Err(wrong("is one too many"));
            }
            relays.push(relay);
        }
        let network = Network::new(relays, public);
        if network == Network::default() {
            return Err(problem(place, "the section is empty"));
        }
        document.network = Some(network);
        Ok(())
    }
}
