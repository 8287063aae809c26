//! Which pairs are surveyed beside each other.

use crate::name::NodeName;

/// All pairs of the nodes, in rounds: in each, every node is in one pair at most.
#[must_use]
pub fn rounds(_nodes: &[NodeName]) -> Vec<Vec<(NodeName, NodeName)>> {
    Vec::new()
}
