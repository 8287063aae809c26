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
pub use agent::{AgentMetrics, DiscoveryNumbers, GateNumbers};
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

/// Renders family by family, so that a scrape of a large cluster costs little memory.
pub fn render(
    source: NodeName,
    snapshot: Arc<Snapshot>,
    agent: Vec<MetricFamily>,
) -> impl Iterator<Item = Vec<u8>> + Send {
    let pairs = Pairs::new(source, snapshot);
    let families = pairs::FAMILIES.iter().map(move |family| pairs.family(family));
    families.chain(agent).filter(|family| !family.get_metric().is_empty()).map(|family| {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&[family], &mut text) {
            // Only a family without a name or a metric is refused, and ours have both.
            log::error!("cannot encode a metric: {error}");
        }
        text
    })
}

#[cfg(test)]
mod tests;
