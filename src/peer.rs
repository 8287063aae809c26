//! Peers, sets of peers, and the difference of two sets. Pure data: neither discovery nor state.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::name::{Instance, NodeName};

/// Most peers of one agent. With the longest names they take 4 KB each, snapshots for slow readers and a new
/// list included, so that the process stays below 16 MiB: 12.2 MiB were measured.
pub const MAX_PEERS: usize = 2500;

/// Another agent, on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node that it runs on; a node has one peer.
    pub node: NodeName,
    /// The address that is probed.
    pub address: SocketAddr,
    /// Its other addresses (from the pod's `podIPs`), which are not probed.
    pub other_addresses: Vec<IpAddr>,
    /// The address of the host behind it, if that is another one.
    pub host: Option<IpAddr>,
    /// The pod's UID; `None` for a fixed list.
    pub instance: Option<Instance>,
    /// Readiness in Kubernetes; `None` for a fixed list.
    pub ready: Option<bool>,
}

/// The pods of the DaemonSet, counted by state. Each pod counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodCounts {
    /// Pods that are peers.
    pub peer: u64,
    /// The agent's own pod, and others on its node.
    pub own: u64,
    /// Pods not yet scheduled or started.
    pub pending: u64,
    /// Running pods without an address.
    pub no_ip: u64,
    /// Running pods with an address that is not probed, such as a loopback address; of a fixed list,
    /// host names with no other.
    pub bad_address: u64,
    /// Pods that are being deleted or have ended, and the worse one of two on a node.
    pub terminating: u64,
}

/// Peers, at most one a node, sorted by node name. Clones share the data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerSet {
    peers: Arc<BTreeMap<NodeName, Peer>>,
    /// The counts of pods; for a fixed list all are zero but `peer` and `bad_address`.
    pub pods: PodCounts,
}

/// The changes from one set to the next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PeerDiff {
    /// Peers on new nodes.
    pub joined: Vec<Peer>,
    /// Peers with another address, host, instance or readiness.
    pub changed: Vec<Peer>,
    /// Nodes without a peer any more.
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

    /// All peers, sorted by node name.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// The number of peers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The changes from `self` to `next`.
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
