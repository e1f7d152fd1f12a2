//! Pings a member over the connection that a command would use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use malai_cluster::{MachineId, escape};
use malai_wire::control::{LONGEST_PING, MOST_PINGS, Ping};
use malai_wire::ping::{PingAnswer, Pinged};
use malai_wire::status::NetworkPath;

use super::{Service, dispatch};
use crate::peer::connection::PeerConnection;

/// The pause between two pings.
const PING_INTERVAL: Duration = Duration::from_millis(200);

/// Answers a ping request of a command line, as JSON.
///
/// # Errors
///
/// The target cannot be resolved.
pub async fn answer(services: &[Arc<Service>], request: &Ping) -> Result<String, String> {
    let (_, service, machine) = dispatch::find(services, &request.target)?;
    let count = request.count.clamp(1, MOST_PINGS);
    let timeout = Duration::from_millis(request.timeout_ms.clamp(1, LONGEST_PING).into());
    let pinged = ping(&service, machine, count, timeout).await;
    serde_json::to_string(&pinged).map_err(|error| error.to_string())
}

/// Pings a member `count` times; gives up after `timeout`.
async fn ping(service: &Arc<Service>, machine: MachineId, count: u16, timeout: Duration) -> Pinged {
    let cluster_state = &service.cluster_state;
    let name = cluster_state.name_of(&machine);
    let name = name.unwrap_or_else(|| machine.to_string());
    let mut pinged = Pinged::new(&name, cluster_state.alias().as_str(), Some(machine));
    if machine == cluster_state.local_id {
        pinged.answer = PingAnswer::Here;
        return pinged;
    }
    let connected = tokio::time::timeout(timeout, service.peers.connection(machine)).await;
    match connected {
        Ok(Ok(connection)) => {
            ask(&connection, count, timeout, &mut pinged).await;
            if pinged.path == Some(NetworkPath::Relayed) {
                pinged.obstacle = service.peers.dialer().obstacle();
            }
        }
        Ok(Err(error)) => pinged.why = Some(error.to_string()),
        Err(_) => {
            let why = format!("no answer within {} s", timeout.as_secs_f64());
            cluster_state.record_failure(machine, &why);
            pinged.why = Some(why);
        }
    }
    pinged
}

async fn ask(connection: &Arc<PeerConnection>, count: u16, timeout: Duration, pinged: &mut Pinged) {
    let mut times = Vec::new();
    for number in 0..count {
        if number > 0 {
            tokio::time::sleep(PING_INTERVAL).await;
        }
        let asked = Instant::now();
        pinged.sent += 1;
        if connection.ping(timeout).await {
            times.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
        if connection.is_closed() {
            break;
        }
    }
    pinged.received = u16::try_from(times.len()).unwrap_or(u16::MAX);
    pinged.least_ms = times.iter().copied().reduce(f64::min);
    pinged.most_ms = times.iter().copied().reduce(f64::max);
    pinged.mean_ms = (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64);
    pinged.path = connection.is_direct().map(|direct| match direct {
        true => NetworkPath::Direct,
        false => NetworkPath::Relayed,
    });
    pinged.address = connection.address().map(|address| address.to_string());
    if !times.is_empty() {
        pinged.answer = PingAnswer::Answers;
        return;
    }
    if let Some(refusal) = connection.refused() {
        pinged.answer = PingAnswer::Refused;
        pinged.why = Some(escape(&refusal.message));
        return;
    }
    let why = if connection.is_closed() {
        connection.end()
    } else {
        let seconds = timeout.as_secs_f64();
        format!("connected, but no answer within {seconds} s")
    };
    connection
        .cluster_state
        .record_failure(connection.peer, &why);
    pinged.why = Some(why);
}
