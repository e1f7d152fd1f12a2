//! Which addresses belong to the local network, seen from this computer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netwatch::interfaces::{IpNet, State};

use crate::settings::Reach;

/// The addresses that may be tried.
#[derive(Debug, Clone)]
pub(crate) struct AddressFilter {
    reach: Reach,
    /// The networks of this computer, as address and prefix length; only for `lan`.
    networks: Vec<(IpAddr, u8)>,
}

impl AddressFilter {
    /// The filter for a reach, with the current interfaces of this computer.
    pub(crate) async fn of(reach: Reach) -> Self {
        let networks = match reach {
            Reach::Lan => networks().await,
            Reach::Loopback | Reach::Public => Vec::new(),
        };
        Self { reach, networks }
    }

    /// Whether an address may be tried. With reach `lan`, it must be on one of this computer's networks: addresses behind
    /// a router are outside, private or not.
    pub(crate) fn allow(&self, address: &SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
            return false;
        }
        match self.reach {
            Reach::Loopback => is_own_loopback(ip),
            Reach::Lan => is_own_loopback(ip) || self.networks.iter().any(|net| holds(*net, ip)),
            Reach::Public => true,
        }
    }
}

/// The addresses at which other computers may find this one, with this reach: those of its interfaces.
pub(crate) async fn own_ips(reach: Reach) -> Vec<IpAddr> {
    if reach == Reach::Loopback {
        return Vec::new();
    }
    let is_usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let ips = networks().await.into_iter().map(|(ip, _)| ip);
    let mut ips: Vec<IpAddr> = ips.filter(is_usable).collect();
    ips.sort();
    ips.dedup();
    ips
}

fn is_own_loopback(ip: IpAddr) -> bool {
    ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST
}

async fn networks() -> Vec<(IpAddr, u8)> {
    let state = State::new().await;
    state
        .interfaces
        .values()
        .filter(|interface| interface.is_up())
        .flat_map(|interface| interface.addrs().collect::<Vec<_>>())
        .map(|net| match net {
            IpNet::V4(net) => (IpAddr::V4(net.addr()), net.prefix_len()),
            IpNet::V6 { net, .. } => (IpAddr::V6(net.addr()), net.prefix_len()),
        })
        .filter(|(ip, _)| !ip.is_loopback())
        .collect()
}

fn holds((net, prefix): (IpAddr, u8), ip: IpAddr) -> bool {
    let (net, ip, width) = match (net, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            (u128::from(net.to_bits()), u128::from(ip.to_bits()), 32)
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) => (net.to_bits(), ip.to_bits(), 128),
        _ => return false,
    };
    // A network of all addresses is not a local network.
    prefix > 0 && prefix <= width && (net ^ ip) >> (width - prefix) == 0
}

#[cfg(test)]
mod tests {
    use super::AddressFilter;
    use crate::settings::Reach;

    #[test]
    fn a_reach_keeps_its_bounds() {
        for (reach, address, expected) in [
            (Reach::Loopback, "127.0.0.1:1", true),
            (Reach::Loopback, "[::1]:1", true),
            (Reach::Loopback, "127.0.0.2:1", false),
            (Reach::Loopback, "192.168.1.1:1", false),
            (Reach::Lan, "127.0.0.1:1", true),
            (Reach::Lan, "127.0.0.1:0", false),
            (Reach::Lan, "10.1.2.3:1", true),
            (Reach::Lan, "[::ffff:10.1.2.3]:1", true),
            (Reach::Lan, "10.1.3.3:1", false),
            (Reach::Lan, "192.168.1.1:1", false),
            (Reach::Lan, "[fe80::1]:1", true),
            (Reach::Lan, "[2001:db8::1]:1", true),
            (Reach::Lan, "[2001:db8:1::1]:1", false),
            (Reach::Lan, "8.8.8.8:1", false),
            (Reach::Lan, "224.0.0.251:5353", false),
            (Reach::Public, "8.8.8.8:1", true),
            (Reach::Public, "0.0.0.0:1", false),
        ] {
            let bounds = AddressFilter {
                reach,
                networks: ["10.1.2.9/24", "fe80::9/64", "2001:db8::9/64"]
                    .iter()
                    .map(|net| {
                        let (ip, prefix) = net.split_once('/').unwrap();
                        (ip.parse().unwrap(), prefix.parse().unwrap())
                    })
                    .collect(),
            };
            assert_eq!(
                bounds.allow(&address.parse().unwrap()),
                expected,
                "{reach:?} {address}"
            );
        }
    }
}
