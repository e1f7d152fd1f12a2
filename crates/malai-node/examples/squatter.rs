//! For `scripts/test-network`: servers of other keys where a machine's own would be looked for.
//!
//! `squatter squat <id52>` takes all four derived ports of the machine on 127.0.0.1 and ::1: three by
//! servers of other keys, the second by plain sockets that read and never answer.
//! `squatter plain <id52>` takes them by plain sockets only, on all addresses.
//! `squatter liar <id52> <address>…` serves under another key at the addresses (one port) and announces
//! them by mDNS as the machine's.
//! Each prints `ready` and ends with its standard input.

use std::error::Error;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use iroh::address_lookup::{AddressLookup, EndpointData};
use iroh::endpoint::{PortmapperConfig, RelayMode, presets};
use iroh::{Endpoint, TransportAddr};
use iroh_mdns_address_lookup::MdnsAddressLookup;
use malai_cluster::MachineId;
use malai_node::{derived_ports, endpoint_id};
use malai_wire::version::{ALPN, PROBE_ALPN};
use tokio::net::UdpSocket;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, id, addresses @ ..] = words.as_slice() else {
        return Err("squatter squat|plain|liar <id52> [<address>…]".into());
    };
    let id: MachineId = id.parse()?;
    let mut kept = None;
    match what.as_str() {
        "squat" => {
            for (i, port) in derived_ports(&id).into_iter().enumerate() {
                let both = [
                    SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
                ];
                match i {
                    1 => stall(&both).await?,
                    _ => serve(&both).await?,
                }
            }
        }
        "plain" => {
            for port in derived_ports(&id) {
                stall(&[SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]).await?;
            }
        }
        "liar" => {
            let addresses = addresses
                .iter()
                .map(|address| address.parse())
                .collect::<Result<Vec<SocketAddr>, _>>()?;
            serve(&addresses).await?;
            let lookup = MdnsAddressLookup::builder()
                .service_name("malai")
                .build(endpoint_id(&id))?;
            lookup.publish(&EndpointData::from_iter(
                addresses.into_iter().map(TransportAddr::Ip),
            ));
            kept = Some(lookup);
        }
        other => return Err(format!("unknown word {other}").into()),
    }
    println!("ready");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    drop(kept);
    Ok(())
}

/// A server under a key of its own that completes every handshake and says nothing more.
async fn serve(addresses: &[SocketAddr]) -> Result<(), Box<dyn Error>> {
    let mut builder = Endpoint::builder(presets::Minimal)
        .alpns(vec![ALPN.to_vec(), PROBE_ALPN.to_vec()])
        .relay_mode(RelayMode::Disabled)
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_ip_transports();
    for address in addresses {
        builder = builder.bind_addr(*address)?;
    }
    let endpoint = builder.bind().await?;
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                if let Ok(accepting) = incoming.accept()
                    && let Ok(connection) = accepting.await
                {
                    connection.closed().await;
                }
            });
        }
    });
    Ok(())
}

/// Sockets that read whatever comes and answer nothing.
async fn stall(addresses: &[SocketAddr]) -> Result<(), Box<dyn Error>> {
    for address in addresses {
        let socket = UdpSocket::bind(address).await?;
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while socket.recv_from(&mut buffer).await.is_ok() {}
        });
    }
    Ok(())
}
