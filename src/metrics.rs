//! All metrics: names, help texts, types, labels, and rendering.
//!
//! The agent's own metrics live in a prometheus registry. Those of the pairs are rendered from a
//! [`Snapshot`], one family at a time: the crate's vectors would store a copy of the description for
//! every pair, and need a call for every peer that leaves.

mod agent;
mod pairs;
mod process;

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

use crate::name::NodeName;
use crate::state::Snapshot;
pub use agent::{AgentMetrics, GateCounts, RefreshSample};
use pairs::Pairs;

/// One metric, as documented.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels, separated by commas; `pair` stands for source_node and target_node.
    pub labels: &'static str,
    /// The help text.
    pub help: &'static str,
}

/// All metrics, those of the pairs first, without those of the process.
pub fn descriptions() -> impl Iterator<Item = Description> {
    pairs::FAMILIES
        .iter()
        .map(|family| family.description)
        .chain(agent::DESCRIPTIONS.iter().copied())
}

/// Peers in one part of the text: 1,000 histograms take 1 MB.
const PEERS_PER_PART: usize = 50;

/// Renders each family in parts, so that a scrape of a large mesh uses little memory.
pub fn render(
    source: NodeName,
    snapshot: Arc<Snapshot>,
    agent: Vec<MetricFamily>,
) -> impl Iterator<Item = Vec<u8>> + Send {
    let pairs = Arc::new(Pairs::new(source, snapshot));
    let families = pairs::FAMILIES.iter().flat_map(move |family| {
        let pairs = Arc::clone(&pairs);
        let mut described = false;
        (0..pairs.len().max(1)).step_by(PEERS_PER_PART).filter_map(move |first| {
            let part = pairs.family(family, first, PEERS_PER_PART);
            let text = encode(part)?;
            Some(if std::mem::replace(&mut described, true) {
                without_description(text)
            } else {
                text
            })
        })
    });
    families.chain(agent.into_iter().filter_map(encode))
}

fn encode(family: MetricFamily) -> Option<Vec<u8>> {
    if family.get_metric().is_empty() {
        return None;
    }
    let mut text = Vec::new();
    match TextEncoder::new().encode(&[family], &mut text) {
        Ok(()) => Some(text),
        Err(error) => {
            // The encoder rejects only families without a name or a metric.
            log::error!("cannot encode a metric: {error}");
            None
        }
    }
}

/// Removes the lines HELP and TYPE, which may occur only once.
fn without_description(mut text: Vec<u8>) -> Vec<u8> {
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let start = ends.nth(1).map_or(0, |(end, _)| end + 1);
    text.drain(..start);
    text
}

#[cfg(test)]
mod tests;
