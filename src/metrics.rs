//! Every metric: its name, help, type and labels, and how it is rendered.
//!
//! Metrics of the agent live in a prometheus registry. Those of the pairs are made from a
//! [`Snapshot`], one family at a time: the crate's vectors would keep a copy of their description
//! for every pair, and would have to be told of every peer that leaves.

mod agent;
mod pairs;

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

use crate::name::NodeName;
use crate::state::Snapshot;
pub use agent::{AgentMetrics, GateCounts, RefreshSample};
use pairs::Pairs;

/// One metric, as the README tells it.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels, separated by commas; `pair` stands for source_node and target_node.
    pub labels: &'static str,
    /// Its help text.
    pub help: &'static str,
}

/// All metrics of ours, those of the pairs first; the process_* ones come from the crate.
pub fn descriptions() -> impl Iterator<Item = Description> {
    pairs::FAMILIES
        .iter()
        .map(|family| family.description)
        .chain(agent::DESCRIPTIONS.iter().copied())
}

/// Peers rendered at a time: the text of a thousand histograms is a megabyte.
const PEERS_AT_ONCE: usize = 50;

/// Renders family by family, and each in parts, so that a scrape of a large cluster costs little
/// memory.
pub fn render(
    source: NodeName,
    snapshot: Arc<Snapshot>,
    agent: Vec<MetricFamily>,
) -> impl Iterator<Item = Vec<u8>> + Send {
    let pairs = Arc::new(Pairs::new(source, snapshot));
    let families = pairs::FAMILIES.iter().flat_map(move |family| {
        let pairs = Arc::clone(&pairs);
        let mut described = false;
        (0..pairs.len().max(1)).step_by(PEERS_AT_ONCE).filter_map(move |first| {
            let part = pairs.family(family, first, PEERS_AT_ONCE);
            let text = encode(part)?;
            Some(if std::mem::replace(&mut described, true) { undescribed(text) } else { text })
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
            // Only a family without a name or a metric is refused, and ours have both.
            log::error!("cannot encode a metric: {error}");
            None
        }
    }
}

/// Without the lines HELP and TYPE, which may stand once only.
fn undescribed(mut text: Vec<u8>) -> Vec<u8> {
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let begin = ends.nth(1).map_or(0, |(end, _)| end + 1);
    text.drain(..begin);
    text
}

#[cfg(test)]
mod tests;
