//! `/api/v1/history`, what one agent remembers; `/api/v1/past/peers/NODE`, the same of one peer; and
//! `/api/v1/history/SOURCE/TARGET`, which passes that on.

use std::sync::Arc;

use super::Chunks;
use crate::history::Recollection;
use crate::matrix::RowError;
use crate::name::{Instance, NodeName};

/// Most bytes of what an agent remembers of one peer: 288 cells of 60 and 256 changes of 340.
pub const MAX_PAST_PEER: usize = 128 * 1024;

/// What `node` remembers, one peer a chunk.
#[must_use]
pub fn history_json(
    node: &NodeName,
    instance: &Instance,
    recollection: &Arc<Recollection>,
) -> Chunks {
    let _ = (node, instance, recollection);
    todo!()
}

/// What `node` remembers of one peer; `None` when it remembers no such peer.
#[must_use]
pub fn past_peer_json(
    node: &NodeName,
    instance: &Instance,
    recollection: &Recollection,
    peer: &NodeName,
) -> Option<Vec<u8>> {
    let _ = (node, instance, recollection, peer);
    todo!()
}

/// One pair as its source remembers it: `past` is the document that `source` sent of `target`, or why there is none.
#[must_use]
pub fn past_pair_json(
    source: &NodeName,
    target: &NodeName,
    past: Result<&[u8], RowError>,
) -> Vec<u8> {
    let _ = (source, target, past);
    todo!()
}
