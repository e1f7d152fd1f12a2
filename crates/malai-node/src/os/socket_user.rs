//! Which user has the other end of a connection over this computer's loopback.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// The user of the socket at this address that is connected to `here`; `None` if the system does not show it.
///
/// # Errors
///
/// The system's table cannot be read. Only Linux has one.
pub(crate) fn of_peer(peer: SocketAddr, here: SocketAddr) -> io::Result<Option<u32>> {
    let file = match peer {
        SocketAddr::V4(_) => "/proc/net/tcp",
        SocketAddr::V6(_) => "/proc/net/tcp6",
    };
    let table = std::fs::read_to_string(file)?;
    Ok(find(&table, peer, here))
}

fn find(table: &str, peer: SocketAddr, here: SocketAddr) -> Option<u32> {
    let (peer, here) = (written(peer), written(here));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = fields.next() == Some(&peer) && fields.next() == Some(&here);
        // State, queues, timer and retransmissions are between.
        is_it.then(|| fields.nth(4)?.parse().ok()).flatten()
    })
}

/// An address as the kernel writes it: words of the computer's own byte order in hexadecimal.
fn written(address: SocketAddr) -> String {
    let words = |bytes: &[u8]| -> String {
        let words = bytes.as_chunks::<4>().0.iter();
        words
            .map(|word| format!("{:08X}", u32::from_ne_bytes(*word)))
            .collect()
    };
    let host = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{host}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_user_of_a_connection_of_this_computer() {
        let own = rustix::process::geteuid().as_raw();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every computer has IPv6.
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let here = server.local_addr().unwrap();
            assert_eq!(of_peer(peer, here).unwrap(), Some(own), "{address}");
            drop(client);
            let other = SocketAddr::new(peer.ip(), peer.port() ^ 1);
            assert_eq!(of_peer(other, here).unwrap(), None);
        }
    }
}
