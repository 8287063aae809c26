//! The document of `wylis probe --json`.

use serde::Serialize;

use super::json;
use crate::experiment::LargestPacket;

/// What probes of one agent have shown. Times are seconds.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeDocument {
    /// Of the format.
    pub version: u32,
    /// The address that was probed last.
    pub address: String,
    /// The node that answered last.
    pub node: Option<String>,
    /// Probes in all.
    pub probes: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that failed on this host.
    pub not_sent: u32,
    /// Their retransmitted segments.
    pub retransmits: u32,
    /// Shortest, mean and longest total time of the successful ones.
    pub min_seconds: Option<f64>,
    /// See [`Self::min_seconds`].
    pub mean_seconds: Option<f64>,
    /// See [`Self::min_seconds`].
    pub max_seconds: Option<f64>,
    /// The largest packets, if they were searched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<MtuFields>,
    /// The flows, if they were tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<FlowFields>,
}

/// Flows, each of one source port.
#[derive(Debug, Clone, Serialize)]
pub struct FlowFields {
    /// Those whose first connection succeeded or timed out.
    pub tried: u16,
    /// Those whose first connection met another error.
    pub errors: u16,
    /// Those whose first connection timed out.
    pub failed: usize,
    /// The source ports of which every connection timed out; `None` if nothing is proven.
    pub dead_ports: Option<Vec<u16>>,
}

/// The largest packet of each direction; `None` where nothing is proven.
#[derive(Debug, Clone, Serialize)]
pub struct MtuFields {
    outgoing: Option<LargestFields>,
    incoming: Option<LargestFields>,
}

#[derive(Debug, Clone, Serialize)]
struct LargestFields {
    bytes: u16,
    exact: bool,
}

impl MtuFields {
    /// Of these packets.
    #[must_use]
    pub fn new(outgoing: Option<LargestPacket>, incoming: Option<LargestPacket>) -> Self {
        let fields = |LargestPacket { bytes, is_exact }| LargestFields { bytes, exact: is_exact };
        Self { outgoing: outgoing.map(fields), incoming: incoming.map(fields) }
    }
}

impl ProbeDocument {
    /// The document, as a line.
    #[must_use]
    pub fn json(&self) -> String {
        String::from_utf8_lossy(&json(self)).into_owned() + "\n"
    }
}
