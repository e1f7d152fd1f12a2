//! `[network]`: its keys, and what is wrong with them.

use super::{Key, Reader, Value, in_order};
use crate::cluster::limits::MAX_RELAYS;
use crate::diagnostic::quoted;
use crate::network::{Network, RelayAddress};

/// The keys of the section.
const KEYS: &[&str] = &["relays", "public"];

impl<'t> Reader<'t, '_, '_> {
    pub(super) fn network(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Network {
        let mut network = Network::default();
        let Some(table) = self.table(key, value, "[network]") else {
            return network;
        };
        for (entry, written) in in_order(table) {
            match entry.get_ref().as_ref() {
                "relays" => network.relays = self.relays(entry, written).into(),
                "public" => network.public = self.boolean(entry, written).unwrap_or(true),
                "discovery" => self.error(
                    entry.span(),
                    "`discovery` is not supported yet".to_owned(),
                    Some(
                        "remove it: members of a cluster with relays find each other by them"
                            .to_owned(),
                    ),
                ),
                "reach" => self.error(
                    entry.span(),
                    "`reach` is a setting of each computer".to_owned(),
                    Some(
                        "write it into malai.toml; here, `public = false` is for all members"
                            .to_owned(),
                    ),
                ),
                _ => self.unknown(entry, KEYS, "in `[network]`"),
            }
        }
        network
    }

    fn relays(&mut self, key: &Key<'t>, value: &'t Value<'t>) -> Vec<RelayAddress> {
        let mut relays: Vec<RelayAddress> = Vec::new();
        for entry in self
            .list(key, value)
            .into_iter()
            .flat_map(|list| list.entries)
        {
            // An empty entry is reported already.
            if entry.value.is_empty() {
                continue;
            }
            match entry.value.parse::<RelayAddress>() {
                Ok(relay) if relays.iter().any(|other| other.url() == relay.url()) => {
                    let message = format!("{} is listed twice", quoted(&relay.url()));
                    self.error(
                        entry.span,
                        message,
                        Some("remove one of the two".to_owned()),
                    );
                }
                Ok(_) if relays.len() == MAX_RELAYS => {
                    let message = format!("there are more than {MAX_RELAYS} relays");
                    self.error(entry.span, message, Some("remove some".to_owned()));
                    break;
                }
                Ok(relay) => relays.push(relay),
                Err(problem) => {
                    let message = format!("{} {problem}", quoted(entry.value));
                    let help =
                        "write it as `malai relay` prints it, like \"https://relay.example\"";
                    self.error(entry.span, message, Some(help.to_owned()));
                }
            }
        }
        relays
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::*;
    use crate::{ContentError, check, read_content};

    const PIN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn a_network_is_signed_in_one_spelling() {
        let written = format!(
            "[network]\nrelays = \"https://10.0.0.5:7843#{PIN}, https://Relay.example:443/\"\npublic = false\n"
        );
        let network = cluster(&written);
        let content = network.render();
        let shown = expect![[r#"
            format = 2

            [cluster_manager]
            id52 = "ha4e7nbk17opbvaircmjpeiteb56e2dv3ma146vjei403d0fdte0"

            [network]
            public = false
            relays = ["https://10.0.0.5:7843#00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "https://relay.example"]
        "#]];
        shown.assert_eq(&content);
        assert_eq!(read_content(&content).unwrap(), network);
        assert!(!network.network().public() && network.network().relays().len() == 2);
        // What is written as it would be anyway changes nothing.
        let plain = cluster("").render();
        assert_eq!(
            cluster("[network]\npublic = true\nrelays = []\n").render(),
            plain
        );
        for (from, to) in [
            ("public = false", "public = true"),
            ("https://relay.example", "https://relay.example:443"),
            ("https://relay.example", "https://10.0.0.5:7843"),
            ("https://relay.example", "http://relay.example"),
            ("[network]\n", "[network]\n\n[network]\n"),
        ] {
            let changed = content.replace(from, to);
            assert!(
                matches!(read_content(&changed), Err(ContentError::Invalid(_))),
                "{changed}"
            );
        }
    }

    #[test]
    fn problems_are_shown_where_they_are() {
        let source = format!(
            "[cluster_manager]\nid52 = \"{MANAGER}\"\n[network]\n\
             relays = [\"relay.example\", \"https://a\", \"https://a:443\", \"https://b#12\", 3]\n\
             pubic = false\npublic = \"no\"\nreach = \"lan\"\ndiscovery = \"https://d\"\n"
        );
        let problems = check("cluster.toml", &source).diagnostics;
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        expect![[r#"
            error: `relay.example` does not start with `https://`
              --> cluster.toml:4:11
               |
             4 | relays = ["relay.example", "https://a", "https://a:443", "https://b#12", 3]
               |           ^^^^^^^^^^^^^^^
               = help: write it as `malai relay` prints it, like "https://relay.example"

            error: `https://a` is listed twice
              --> cluster.toml:4:41
               |
             4 | relays = ["relay.example", "https://a", "https://a:443", "https://b#12", 3]
               |                                         ^^^^^^^^^^^^^^^
               = help: remove one of the two

            error: `https://b#12` has a pin that is not 64 hex digits in lowercase, as `malai relay` prints it
              --> cluster.toml:4:58
               |
             4 | relays = ["relay.example", "https://a", "https://a:443", "https://b#12", 3]
               |                                                          ^^^^^^^^^^^^^^
               = help: write it as `malai relay` prints it, like "https://relay.example"

            error: `relays` must contain strings; this is a number
              --> cluster.toml:4:74
               |
             4 | relays = ["relay.example", "https://a", "https://a:443", "https://b#12", 3]
               |                                                                          ^

            error: unknown key `pubic`
              --> cluster.toml:5:1
               |
             5 | pubic = false
               | ^^^^^
               = help: did you mean `public`?

            error: `public` must be true or false; this is a string
              --> cluster.toml:6:10
               |
             6 | public = "no"
               |          ^^^^

            error: `reach` is a setting of each computer
              --> cluster.toml:7:1
               |
             7 | reach = "lan"
               | ^^^^^
               = help: write it into malai.toml; here, `public = false` is for all members

            error: `discovery` is not supported yet
              --> cluster.toml:8:1
               |
             8 | discovery = "https://d"
               | ^^^^^^^^^
               = help: remove it: members of a cluster with relays find each other by them"#]].assert_eq(&shown.join("\n\n"));
        let many: Vec<_> = (0..17).map(|n| format!("https://r{n}")).collect();
        let source = format!(
            "[cluster_manager]\nid52 = \"{MANAGER}\"\n[network]\nrelays = \"{}\"\n",
            many.join(",")
        );
        let problems = check("cluster.toml", &source).diagnostics;
        assert_eq!(problems[0].message, "there are more than 16 relays");
    }
}
