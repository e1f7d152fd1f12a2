//! Services: their names, the machines that they run on, and who may connect.

use std::ops::Range;

use super::{Checker, Named};
use crate::diagnostic::{did_you_mean, quoted};
use crate::name::MachineName;
use crate::service::Service;

impl Checker<'_, '_, '_, '_> {
    /// The services, by name.
    pub(super) fn resolve_services(&mut self) -> Vec<Service> {
        let document = self.document;
        let mut services = Vec::new();
        for section in &document.services {
            if self.report.is_full() {
                break;
            }
            let machine = section.machine.as_ref();
            let machine = machine.and_then(|written| {
                self.machine_of(
                    written.value,
                    &written.span,
                    "a service runs on one machine",
                )
            });
            let allow_from = section.allow_from.as_ref();
            let allow_from = allow_from.map(|list| self.allow_list(list));
            if let (Some(machine), Some(upstream)) = (machine, &section.upstream) {
                services.push(Service {
                    name: section.name.value.clone(),
                    machine,
                    upstream: upstream.clone(),
                    allow_from,
                });
            }
        }
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services
    }

    /// The machine of a service or a folder.
    pub(super) fn machine_of(
        &mut self,
        text: &str,
        span: &Range<usize>,
        why_one: &str,
    ) -> Option<MachineName> {
        match self.names.get(text) {
            Some(Named::Machine(member)) => {
                return Some(self.machines[*member as usize].name.value.clone());
            }
            Some(Named::Group(_)) => {
                let message = format!("{} is a group: {why_one}", quoted(text));
                let help = "write the name of a machine".to_owned();
                self.report.error(span.clone(), message, Some(help));
            }
            None | Some(Named::Other(_)) => {
                let near = self.report.wants_warnings() && self.suggestions >= self.machines.len();
                let help = match near {
                    true => {
                        self.suggestions -= self.machines.len();
                        let machines = self.machines.iter();
                        did_you_mean(text, machines.map(|machine| machine.name.value.as_str()))
                    }
                    false => None,
                };
                let help = help.unwrap_or_else(|| "write the name of a machine".to_owned());
                let message = format!("there is no machine {}", quoted(text));
                self.report.error(span.clone(), message, Some(help));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::check;
    use crate::testing::*;

    #[test]
    fn what_can_be_wrong_with_a_service() {
        let machines = format!(
            "[cluster_manager]\nid52 = \"{MANAGER}\"\n[machine.web01]\nid52 = \"{WEB01}\"\n[group.devs]\nmembers = \"web01\"\n"
        );
        let one = |section: &str, expected: Expect| {
            let diagnostics = check("f", &format!("{machines}{section}")).diagnostics;
            let shown: Vec<_> = diagnostics
                .iter()
                .map(|d| {
                    let help = d.help.as_deref().unwrap_or_default();
                    format!("{}:{} {} [{help}]", d.line, d.column, d.message)
                })
                .collect();
            expected.assert_eq(&shown.join("\n"));
        };
        one(
            "[service.db]\nmachine = \"web01\"\ntcp = \"127.0.0.1:5432\"\nallow_from = \"devs\"\n",
            expect![""],
        );
        one(
            "[service.db]\n",
            expect![[r#"
        7:1 service `db` has no `machine` [write the name of the machine that it runs on]
        7:1 service `db` has no address [write `tcp = "127.0.0.1:5432"`, `http = "127.0.0.1:3000"` or `unix = "/run/x.sock"`]"#]],
        );
        one(
            "[service.db]\nmachine = \"web1\"\ntcp = 5432\nunix = \"/x\"\nport = 1\n",
            expect![[r#"
            8:11 there is no machine `web1` [did you mean `web01`?]
            9:7 `tcp` must be an address and a port, like "127.0.0.1:5432"; this is a number []
            10:1 a service has one address: `tcp` is already written above [remove one of the two]
            11:1 unknown key `port` [valid keys in a service's section: machine, tcp, http, unix, allow_from]"#]],
        );
        one(
            "[service.db]\nmachine = \"devs\"\nhttp = \"http://127.0.0.1:80\"\n",
            expect![[r#"
            8:11 `devs` is a group: a service runs on one machine [write the name of a machine]
            9:8 `http://127.0.0.1:80` is a URL [write an address and a port, like "127.0.0.1:3000"]"#]],
        );
        one(
            "[service.db]\nmachine = \"web01\"\nunix = \"x.sock\"\nallow_from = \"\"\n",
            expect![[r#"9:8 `x.sock` is not an absolute path [write a path, like "/run/x.sock"]"#]],
        );
        one(
            "[service.web01]\nmachine = \"web01\"\ntcp = \"::1:80\"\n[service.devs]\nmachine = \"web01\"\nunix = \"/x\"\n[service.-x]\n",
            expect![[r#"
                7:10 `web01` is also a machine, on line 3 [a name must have one meaning: rename one of them]
                9:7 `::1:80` has more than one colon: an IPv6 address is written in brackets, like `[::1]:5432` [write an address and a port, like "127.0.0.1:5432"]
                10:10 `devs` is also a group, on line 5 [a name must have one meaning: rename one of them]
                13:1 service `-x` has no `machine` [write the name of the machine that it runs on]
                13:1 service `-x` has no address [write `tcp = "127.0.0.1:5432"`, `http = "127.0.0.1:3000"` or `unix = "/run/x.sock"`]
                13:10 "-x" cannot be a service name: it may not start or end with "-" []"#]],
        );
        one(
            "[service.db]\nmachine = \"web01\"\ntcp = \"localhost:80\"\nallow_from = \"none\"\n[group.none]\nmembers = []\n",
            expect!["10:1 this allows no one [add a machine, a group or `*`]"],
        );
    }
}
