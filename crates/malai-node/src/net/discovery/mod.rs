//! Finds a proven address for a public key.
//!
//! Unproven addresses (derived, remembered, announced by mDNS) are only hints. In iroh the first server that answers
//! decides a dial, and a bad address stays with the endpoint. So each hint is tried from an endpoint that knows no
//! other address of that machine ([`crate::net::discovery::probe_pool`]), under its own key, without relays and
//! publishing. The probe only proves that the wanted key is served at the address, and closes.

pub(crate) mod address_book;
pub(crate) mod mdns;
pub(crate) mod probe;
pub(crate) mod probe_pool;
pub(crate) mod scope;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use malai_cluster::MachineId;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::net::discovery::probe::{Answer, probe};
use crate::net::discovery::probe_pool::ProbePool;
use crate::net::discovery::scope::AddressFilter;
use crate::net::endpoint::derived_ports;
use crate::settings::Reach;

/// The delay between the starts of two probes, so that usually only the most likely hint is probed.
const STAGGER: Duration = Duration::from_millis(4);

/// How many probes run in parallel for one machine.
const MAX_PROBES: usize = 32;

/// With that many probes running, one that has had this long makes room for the next: addresses that stall must not
/// keep the right one out.
const PROBE_GRACE: Duration = Duration::from_millis(400);

/// For how many hints the result is remembered, for the error message.
const MAX_LOGGED: usize = 64;

/// The addresses where this computer itself may serve the machine: all derived ports, both families.
pub(crate) fn loopback_hints(id: &MachineId) -> Vec<SocketAddr> {
    hints_at(
        id,
        &[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    )
}

/// The most likely addresses of a daemon of this computer for other computers with this reach: hints, at most `most`.
pub async fn own_addresses(id: &MachineId, reach: Reach, most: usize) -> Vec<SocketAddr> {
    let [port, ..] = derived_ports(id);
    let ips = scope::own_ips(reach).await.into_iter().take(most);
    ips.map(|ip| SocketAddr::from((ip, port))).collect()
}

/// All derived ports of the machine at these addresses.
pub(crate) fn hints_at(id: &MachineId, ips: &[IpAddr]) -> Vec<SocketAddr> {
    derived_ports(id)
        .into_iter()
        .flat_map(|port| ips.iter().map(move |ip| SocketAddr::from((*ip, port))))
        .collect()
}

/// The addresses that a search has tried, for its error message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProbeLog(Vec<(SocketAddr, Answer)>);

impl ProbeLog {
    fn begin(&mut self, address: SocketAddr) {
        if self.0.len() < MAX_LOGGED {
            self.0.push((address, Answer::Silent));
        }
    }

    fn note(&mut self, address: SocketAddr, answer: Answer) {
        if let Some(tried) = self.0.iter_mut().find(|tried| tried.0 == address) {
            tried.1 = answer;
        }
    }
}

impl fmt::Display for ProbeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (here, elsewhere): (Vec<&(SocketAddr, Answer)>, Vec<_>) =
            self.0.iter().partition(|tried| tried.0.ip().is_loopback());
        let mut ports: Vec<u16> = here.iter().map(|tried| tried.0.port()).collect();
        ports.dedup();
        f.write_str("this computer")?;
        for (i, port) in ports.iter().enumerate() {
            f.write_str(if i == 0 { " (ports " } else { ", " })?;
            write!(f, "{port}")?;
            let others = |answer| {
                here.iter()
                    .any(|tried| tried.0.port() == *port && tried.1 == answer)
            };
            if others(Answer::Another) {
                f.write_str(" [another key]")?;
            } else if others(Answer::Silent) {
                f.write_str(" [no answer]")?;
            }
        }
        if !ports.is_empty() {
            f.write_str(")")?;
        }
        const SHOWN: usize = 8;
        for (address, answer) in elsewhere.iter().take(SHOWN) {
            let said = match answer {
                Answer::VerifiedAddress(_) => "its own",
                Answer::Another => "another key",
                Answer::Silent => "no answer",
                Answer::Closed => "closed",
            };
            write!(f, ", {address} ({said})")?;
        }
        if elsewhere.len() > SHOWN {
            write!(f, " and {} more", elsewhere.len() - SHOWN)?;
        }
        Ok(())
    }
}

/// An address that was proven to belong to the wanted key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VerifiedAddress {
    /// The address.
    pub address: SocketAddr,
    /// How long the proof took. A dial there will take about as long.
    pub took: Duration,
}

/// Probes hints as they arrive until one is proven to belong to `target`, and returns it.
///
/// The channel of `hints` may stay open (mDNS finds more later). Each hint is tried once. Returns `None` when the
/// channel is closed and all hints have failed. The caller sets the time limit.
pub(crate) async fn prove(
    probers: &Arc<ProbePool>,
    target: &MachineId,
    reach: Reach,
    mut hints: mpsc::Receiver<SocketAddr>,
    tried: &mut ProbeLog,
) -> Option<VerifiedAddress> {
    let bounds = AddressFilter::of(reach).await;
    let mut seen = HashSet::new();
    let mut probes = JoinSet::new();
    let mut begun: VecDeque<(Instant, AbortHandle)> = VecDeque::new();
    let mut open = true;
    loop {
        begun.retain(|(_, probe)| !probe.is_finished());
        let room_at = match begun.front() {
            Some((at, _)) if begun.len() >= MAX_PROBES => *at + PROBE_GRACE,
            _ => Instant::now(),
        };
        let next = async {
            tokio::time::sleep_until(room_at).await;
            hints.recv().await
        };
        tokio::select! {
            biased;
            Some(done) = probes.join_next() => {
                // A probe that was ended to make room has no result.
                let Ok((address, answer)) = done else { continue };
                tried.note(address, answer);
                match answer {
                    Answer::VerifiedAddress(took) => return Some(VerifiedAddress { address, took }),
                    Answer::Another => {
                        tracing::debug!(%address, machine = %target.short(), "another key answers there");
                    }
                    Answer::Silent | Answer::Closed => {}
                }
            }
            hint = next, if open => match hint {
                Some(address) if bounds.allow(&address) && seen.insert(address) => {
                    tried.begin(address);
                    if begun.len() >= MAX_PROBES && let Some((_, oldest)) = begun.pop_front() {
                        oldest.abort();
                    }
                    let now = Instant::now();
                    let at = begun.back().map_or(now, |(last, _)| now.max(*last + STAGGER));
                    let (probers, target) = (probers.clone(), *target);
                    let handle = probes.spawn(async move {
                        tokio::time::sleep_until(at).await;
                        (address, probe(&probers, &target, address).await)
                    });
                    begun.push_back((at, handle));
                }
                Some(_) => {}
                None => open = false,
            },
            else => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, ProbeLog};

    #[test]
    fn an_error_says_what_was_tried() {
        let mut tried = ProbeLog::default();
        for (address, answer) in [
            ("127.0.0.1:1", Answer::Closed),
            ("[::1]:1", Answer::Closed),
            ("127.0.0.1:2", Answer::Closed),
            ("[::1]:2", Answer::Another),
            ("10.0.0.1:3", Answer::Silent),
            ("10.0.0.2:3", Answer::Another),
        ] {
            let address = address.parse().unwrap();
            tried.begin(address);
            tried.note(address, answer);
        }
        assert_eq!(
            tried.to_string(),
            "this computer (ports 1, 2 [another key]), 10.0.0.1:3 (no answer), 10.0.0.2:3 (another key)"
        );
        assert_eq!(ProbeLog::default().to_string(), "this computer");
    }
}
