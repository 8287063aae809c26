//! Peers, sets of peers, and what differs between two sets.
//!
//! Pure data: who the peers are, never how they are found or how they fare.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::name::{Instance, NodeName};

/// Most peers of one agent: Kubernetes is tested up to 5,000 nodes.
pub const MAX_PEERS: usize = 5000;

/// Another agent, on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node it runs on; one peer a node.
    pub node: NodeName,
    /// Where it is probed.
    pub address: SocketAddr,
    /// Its other addresses (of the pod's `podIPs`), known but not probed.
    pub other_addresses: Vec<IpAddr>,
    /// The pod's UID; `None` for a fixed list.
    pub instance: Option<Instance>,
    /// Readiness as Kubernetes reports it; `None` for a fixed list.
    pub ready: Option<bool>,
}

/// How many pods of the DaemonSet discovery saw, by state. Every pod counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodCounts {
    /// Pods taken as peers.
    pub peer: u64,
    /// Our own pod, and others on our own node.
    pub own: u64,
    /// Not yet scheduled or started.
    pub pending: u64,
    /// Running without an address.
    pub no_ip: u64,
    /// Being deleted, ended, or the worse of two on one node.
    pub terminating: u64,
}

/// The peers of one moment, at most one a node, in the order of their names. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerSet {
    peers: Arc<BTreeMap<NodeName, Peer>>,
    /// The pods behind the set; all zero but `peer` for a fixed list.
    pub pods: PodCounts,
}

/// What changes when one set follows another.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PeerDiff {
    /// Nodes that were not there before.
    pub joined: Vec<Peer>,
    /// Nodes that stay, with another address, instance or readiness.
    pub changed: Vec<Peer>,
    /// Nodes that are gone.
    pub left: Vec<NodeName>,
}

impl PeerSet {
    /// Adds a peer; a second one of the same node replaces the first.
    pub fn insert(&mut self, peer: Peer) {
        Arc::make_mut(&mut self.peers).insert(peer.node.clone(), peer);
    }

    /// The peer of a node.
    #[must_use]
    pub fn get(&self, node: &NodeName) -> Option<&Peer> {
        self.peers.get(node)
    }

    /// All peers, in the order of their nodes' names.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// What a reader who knows `self` must do to know `next`.
    #[must_use]
    pub fn diff(&self, next: &Self) -> PeerDiff {
        let mut diff = PeerDiff::default();
        for peer in next.iter() {
            match self.get(&peer.node) {
                None => diff.joined.push(peer.clone()),
                Some(known) if known != peer => diff.changed.push(peer.clone()),
                Some(_) => {}
            }
        }
        let gone = self.peers.keys().filter(|node| next.get(node).is_none());
        diff.left.extend(gone.cloned());
        diff
    }
}

impl FromIterator<Peer> for PeerSet {
    fn from_iter<I: IntoIterator<Item = Peer>>(peers: I) -> Self {
        let mut set = Self::default();
        for peer in peers {
            set.insert(peer);
        }
        set.pods.peer = set.len() as u64;
        set
    }
}
