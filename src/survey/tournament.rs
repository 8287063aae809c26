//! Which pairs are surveyed beside each other.

use super::Targets;
use crate::name::NodeName;

/// The pairs of a survey in rounds: in each, every node is in one pair at most.
#[derive(Debug, Clone)]
pub struct Tournament {
    nodes: Vec<NodeName>,
}

impl Tournament {
    /// The pairs of `own` with each target, or all pairs of it and its `peers`.
    #[must_use]
    pub fn new(_own: &NodeName, _targets: &Targets, peers: &[NodeName]) -> Self {
        Self { nodes: peers.to_vec() }
    }

    /// The nodes that take part, the own one included.
    #[must_use]
    pub fn nodes(&self) -> &[NodeName] {
        &self.nodes
    }

    /// The number of rounds.
    #[must_use]
    pub fn rounds(&self) -> usize {
        0
    }

    /// The number of pairs of all rounds.
    #[must_use]
    pub fn pairs(&self) -> usize {
        0
    }

    /// The pairs of one round, the surveyor of each first.
    #[must_use]
    pub fn round(&self, _number: usize) -> Vec<(NodeName, NodeName)> {
        Vec::new()
    }
}
