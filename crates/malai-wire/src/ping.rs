//! Whether a machine answers, as `malai ping` asks the daemon.
//!
//! Crosses the socket as JSON, like [`crate::status`]: unknown fields are skipped, missing ones have defaults.

use malai_cluster::MachineId;
use serde::{Deserialize, Serialize};

use crate::control::Named;
use crate::status::NetworkPath;

/// What came of asking one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pinged {
    /// Its name in the cluster.
    pub machine: String,
    /// The cluster's alias here.
    pub cluster: String,
    /// Its key; `None` where the question did not get that far.
    #[serde(default)]
    pub id: Option<MachineId>,
    /// What came of it.
    #[serde(default)]
    pub answer: PingAnswer,
    /// How often it was asked.
    #[serde(default)]
    pub sent: u16,
    /// How often it answered.
    #[serde(default)]
    pub received: u16,
    /// The shortest time to an answer, in milliseconds.
    #[serde(default)]
    pub least_ms: Option<f64>,
    /// The mean time to an answer, in milliseconds.
    #[serde(default)]
    pub mean_ms: Option<f64>,
    /// The longest time to an answer, in milliseconds.
    #[serde(default)]
    pub most_ms: Option<f64>,
    /// The way that packets take to it now.
    #[serde(default)]
    pub path: Option<NetworkPath>,
    /// Its address, on a direct way.
    #[serde(default)]
    pub address: Option<String>,
    /// Why it does not answer, or refuses; text of another machine in it is escaped.
    #[serde(default)]
    pub why: Option<String>,
}

impl Pinged {
    /// A machine that was not asked.
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
            why: None,
        }
    }

    /// A machine that could not be asked, and why.
    pub fn failed(named: &Named, why: String) -> Self {
        Self {
            why: Some(why),
            ..Self::new(&named.machine, &named.cluster, None)
        }
    }
}

/// What came of asking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PingAnswer {
    /// The machine is this computer.
    Here,
    /// It answers.
    Answers,
    /// It was reached, and refuses this computer.
    Refused,
    /// It was not reached, or does not answer; or an outcome that this version has no word for.
    #[default]
    #[serde(other)]
    None,
}
