//! `/api/v1/peers`: all that one node knows of its peers.

use std::sync::Arc;

use super::peer::{PeerFields, PeerLine};
use super::{Chunks, Head, ReadError, json, list, millis, read};
use crate::name::{Instance, NodeName};
use crate::state::Snapshot;

/// Every peer of `node`.
#[must_use]
pub fn peers_json(node: &NodeName, instance: &Instance, snapshot: &Arc<Snapshot>) -> Chunks {
    let incoming_unknown = Some(snapshot.incoming_unknown);
    let head = Head { incoming_unknown, ..Head::new(node, instance, snapshot) };
    let snapshot = Arc::clone(snapshot);
    list(
        &head,
        "peers",
        snapshot.peers.len(),
        Box::new(move |index| {
            let record = snapshot.peers.get(index);
            let fields = record.map(|record| PeerFields::new(record, snapshot.taken));
            fields.map(|fields| json(&fields)).unwrap_or_default()
        }),
    )
}

/// The peers of one node, as far as a table shows them.
#[derive(Debug, Clone, PartialEq)]
pub struct Peers {
    /// The node that answered.
    pub node: NodeName,
    /// When its snapshot was taken, in Unix milliseconds.
    pub at: u64,
    /// One line a peer.
    pub lines: Vec<PeerLine>,
}

impl Peers {
    /// Reads the document.
    ///
    /// # Errors
    /// When it is malformed or of another version.
    pub fn read(document: &[u8]) -> Result<Self, ReadError> {
        let document = read(document)?;
        match (NodeName::new(document.node), millis(document.at), document.peers) {
            (Ok(node), Some(at), Some(lines)) => Ok(Self { node, at, lines: lines.0 }),
            _ => Err(ReadError::Malformed),
        }
    }
}
