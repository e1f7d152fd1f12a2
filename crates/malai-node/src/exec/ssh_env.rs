//! ssh's environment variables, by which programs recognize a session.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStringExt;

use malai_cluster::Run;

use crate::cluster::authorize::Command;
use crate::cluster::state::ClusterState;
use crate::net::endpoint::derived_ports;
use crate::os::pty::Pty;

/// `SSH_CONNECTION`, `SSH_CLIENT`, `SSH_TTY` on a terminal, and `SSH_ORIGINAL_COMMAND` of a forced command.
pub(super) fn variables(
    cluster_state: &ClusterState,
    command: &Command,
    pty: Option<&Pty>,
) -> Vec<(&'static str, OsString)> {
    let port = derived_ports(&cluster_state.local_id)[0];
    let (client, client_port, server) = match command.request.from.parse::<SocketAddr>() {
        Ok(peer) => {
            let local = local_address(peer).map_or("UNKNOWN".to_owned(), |ip| ip.to_string());
            (peer.ip().to_string(), peer.port(), local)
        }
        // As in sshd, if unknown.
        Err(_) if command.request.from == "relay" => {
            ("UNKNOWN".to_owned(), 65535, "UNKNOWN".to_owned())
        }
        Err(_) => {
            let here = Ipv4Addr::LOCALHOST.to_string();
            (here.clone(), 0, here)
        }
    };
    let mut variables = vec![
        (
            "SSH_CONNECTION",
            format!("{client} {client_port} {server} {port}").into(),
        ),
        (
            "SSH_CLIENT",
            format!("{client} {client_port} {port}").into(),
        ),
    ];
    if let Some(name) = pty.and_then(|pty| pty.name().ok()) {
        variables.push(("SSH_TTY", name));
    }
    if let Run::Forced { original, .. } = &command.grant.run
        && !original.is_empty()
    {
        variables.push(("SSH_ORIGINAL_COMMAND", OsString::from_vec(original.clone())));
    }
    variables
}

/// The local address for packets to the peer. Nothing is sent.
fn local_address(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
