//! Whether a machine answers: the daemon's reply to `malai ping`.
//!
//! Sent over the socket as JSON, like [`crate::status`]: unknown fields are skipped, missing ones have defaults.

use malai_cluster::MachineId;
use serde::{Deserialize, Serialize};

use crate::control::Named;
use crate::status::NetworkPath;

/// The result of pinging one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pinged {
    /// Its name in the cluster.
    pub machine: String,
    /// The cluster's alias here.
    pub cluster: String,
    /// Its key; `None` if it could not be resolved.
    #[serde(default)]
    pub id: Option<MachineId>,
    /// The result.
    #[serde(default)]
    pub answer: PingAnswer,
    /// How many pings were sent.
    #[serde(default)]
    pub sent: u16,
    /// How many were answered.
    #[serde(default)]
    pub received: u16,
    /// The shortest round trip, in milliseconds.
    #[serde(default)]
    pub least_ms: Option<f64>,
    /// The mean round trip, in milliseconds.
    #[serde(default)]
    pub mean_ms: Option<f64>,
    /// The longest round trip, in milliseconds.
    #[serde(default)]
    pub most_ms: Option<f64>,
    /// The current network path.
    #[serde(default)]
    pub path: Option<NetworkPath>,
    /// Its address, on a direct path.
    #[serde(default)]
    pub address: Option<String>,
    /// Why the path is not direct, as far as is known: a clause.
    #[serde(default)]
    pub obstacle: Option<String>,
    /// Why it does not answer, or refuses. Text from the other machine is escaped.
    #[serde(default)]
    pub why: Option<String>,
}

impl Pinged {
    /// A machine that was not pinged yet.
    pub fn new(machine: &str, cluster: &str, id: Option<MachineId>) -> Self {
        Self {
            machine: machine.to_owned(),
            cluster: cluster.to_owned(),
            id,
            answer: PingAnswer::None,
            sent: 0,
            received: 0,
            least_ms: None,
            mean_ms: None,
            most_ms: None,
            path: None,
            address: None,
            obstacle: None,
            why: None,
        }
    }

    /// A machine that could not be pinged, and why.
    pub fn failed(named: &Named, why: String) -> Self {
        Self {
            why: Some(why),
            ..Self::new(&named.machine, &named.cluster, None)
        }
    }
}

/// The result of pinging a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PingAnswer {
    /// The machine is this computer.
    Here,
    /// It answers.
    Answers,
    /// It was reached, but refuses this computer.
    Refused,
    /// It could not be reached or does not answer; or a result that this version does not know.
    #[default]
    #[serde(other)]
    None,
}
