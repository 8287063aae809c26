//! Which pairs are surveyed beside each other.

use super::Targets;
use crate::name::NodeName;
use crate::sort::sort;

/// The pairs of a survey in rounds: in each, every node is in one pair at most. Rounds are made when they are asked
/// for, since a mesh of 400 nodes has 80,000 pairs.
#[derive(Debug, Clone)]
pub struct Tournament {
    /// The nodes that take part, each once. Of a survey of one node, that one is the first.
    nodes: Vec<NodeName>,
    is_mesh: bool,
}

impl Tournament {
    /// The pairs of `own` with each target, or all pairs of it and its `peers`.
    #[must_use]
    pub fn new(own: &NodeName, targets: &Targets, peers: &[NodeName]) -> Self {
        let (others, is_mesh) = match targets {
            Targets::Peers(targets) => (targets.as_slice(), false),
            Targets::Mesh => (peers, true),
        };
        let mut nodes: Vec<NodeName> = others.iter().filter(|node| *node != own).cloned().collect();
        sort(&mut nodes);
        nodes.dedup();
        nodes.insert(0, own.clone());
        Self { nodes, is_mesh }
    }

    /// The nodes that take part, the own one first.
    #[must_use]
    pub fn nodes(&self) -> &[NodeName] {
        &self.nodes
    }

    /// The number of rounds.
    #[must_use]
    pub fn rounds(&self) -> usize {
        if self.is_mesh { self.wheel() } else { self.nodes.len() - 1 }
    }

    /// The number of pairs of all rounds.
    #[must_use]
    pub fn pairs(&self) -> usize {
        let others = self.nodes.len() - 1;
        if self.is_mesh { self.nodes.len() * others / 2 } else { others }
    }

    /// The places of the wheel of the circle method: one node stands beside it, or none if their number is odd.
    fn wheel(&self) -> usize {
        (self.nodes.len() - 1) | 1
    }

    /// The pairs of one round, the surveyor of each first. In a mesh, each node is the surveyor of half of its pairs.
    #[must_use]
    pub fn round(&self, number: usize) -> Vec<(NodeName, NodeName)> {
        let pair = |source: usize, target: usize| {
            Some((self.nodes.get(source)?.clone(), self.nodes.get(target)?.clone()))
        };
        if number >= self.rounds() {
            Vec::new()
        } else if self.is_mesh {
            let wheel = self.wheel();
            // The node beside the wheel meets the one at the top; the others meet their mirror images.
            let top =
                if number.is_multiple_of(2) { pair(number, wheel) } else { pair(wheel, number) };
            let mirrored = (1..=wheel / 2)
                .filter_map(|step| pair((number + step) % wheel, (number + wheel - step) % wheel));
            top.into_iter().chain(mirrored).collect()
        } else {
            pair(0, number + 1).into_iter().collect()
        }
    }
}

#[cfg(test)]
mod tests;
