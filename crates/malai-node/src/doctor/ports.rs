//! The UDP ports at which each identity is found: whether the daemon has one of them, or who else does.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use super::{Context, Finding};

use crate::net::endpoint::derived_ports;

const CHECK: &str = "ports";

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let taken = taken();
    let pid = context.pid();
    let mut found = Vec::new();
    for report in &context.clusters {
        let Some(id) = report.own_id else { continue };
        let ports = derived_ports(&id);
        let alias = &report.alias;
        let holders: Vec<(u16, Option<&Holder>)> = ports
            .iter()
            .filter(|port| taken.contains_key(port) || !is_free(**port))
            .map(|port| (*port, taken.get(port)))
            .collect();
        let own = holders
            .iter()
            .find(|(_, holder)| holder.is_some_and(|holder| holder.pid == pid && pid.is_some()));
        let others = || {
            let words = holders.iter().map(|(port, holder)| match holder {
                Some(holder) => format!("{port} ({holder})"),
                None => format!("{port} (another user's program)"),
            });
            words.collect::<Vec<_>>().join(", ")
        };
        found.push(match own {
            Some((port, _)) => Finding::fine(CHECK, format!("{alias} is served on UDP port {port}")),
            // If processes cannot be inspected, a running daemon has them.
            None if pid.is_some() && !holders.is_empty() && holders.iter().any(|(_, h)| h.is_none()) => {
                Finding::note(CHECK, format!("{alias}: UDP ports {} are in use, probably by the daemon", others()))
            }
            None if pid.is_some() => Finding::warning(
                CHECK,
                format!("{alias} is not served on any of its UDP ports {}", ports.map(|port| port.to_string()).join(", ")),
            )
            .because("its address changes when the daemon is restarted, and peers have to find it again")
            .fix("malai stop && malai daemon"),
            None if holders.is_empty() => Finding::fine(CHECK, format!("{alias}: all of its UDP ports are free")),
            None if holders.iter().any(|(_, holder)| holder.is_some_and(Holder::is_malai)) => Finding::warning(
                CHECK,
                format!("{alias}: a malai process has UDP port {}, although none runs for this home", others()),
            )
            .because("another home may have the same key (a backup restored beside the original): then two machines share one name")
            .fix("ps -ef | grep 'malai daemon'"),
            None if holders.len() < ports.len() => Finding::note(
                CHECK,
                format!("{alias}: some of its four UDP ports are taken: {}", others()),
            ),
            None => Finding::warning(CHECK, format!("{alias}: all of its UDP ports are taken: {}", others()))
                .because("the daemon will use another one, and its address will change with every restart")
                .fix("ss -lunp"),
        });
    }
    found
}

fn is_free(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// The process that has a port.
#[derive(Debug, Clone, Default)]
struct Holder {
    pid: Option<u32>,
    name: String,
}

impl Holder {
    fn is_malai(&self) -> bool {
        self.name == "malai"
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{}, pid {pid}", malai_cluster::escape(&self.name)),
            None => f.write_str("another user's program"),
        }
    }
}

/// The UDP ports in use, and by which process, as far as this process may see that.
fn taken() -> BTreeMap<u16, Holder> {
    let mut of_socket = BTreeMap::new();
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        of_socket.extend(
            text.lines()
                .filter_map(port_and_socket)
                .map(|(port, socket)| (socket, port)),
        );
    }
    let mut found: BTreeMap<u16, Holder> = of_socket
        .values()
        .map(|port| (*port, Holder::default()))
        .collect();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let descriptors = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten();
        for descriptor in descriptors.flatten() {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            let socket = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            let port = socket.and_then(|socket| of_socket.get(&socket.parse::<u64>().ok()?));
            if let Some(port) = port {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                let holder = Holder {
                    pid: Some(pid),
                    name: name.trim_end().to_owned(),
                };
                found.insert(*port, holder);
            }
        }
    }
    found
}

/// A line of `/proc/net/udp`: the local port and the socket's inode.
fn port_and_socket(line: &str) -> Option<(u16, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (_, port) = words.nth(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((port, words.nth(7)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_systems_table() {
        let line = " 1053: 0100007F:7064 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 27437 2 0000000000000000 0";
        assert_eq!(port_and_socket(line), Some((28_772, 27_437)));
        assert_eq!(
            port_and_socket("  sl  local_address rem_address   st"),
            None
        );
        assert_eq!(port_and_socket(""), None);
    }

    #[test]
    fn a_port_of_this_process_is_found_to_be_its_own() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(!is_free(port));
        assert_eq!(taken()[&port].pid, Some(std::process::id()));
    }
}
