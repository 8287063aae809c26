//! `/api/v1/past/faults`: when the peers of one node were not up.

use std::sync::Arc;

use super::{Chunks, ReadError};
use crate::history::{Faults, Recollection};
use crate::name::{Instance, NodeName};

/// Maximum bytes of the faults of one node: 1,024 runs of 30, 288 times of 20, 2,500 names of 20.
pub const MAX_FAULTS: usize = 128 * 1024;

/// The faults of `node`.
#[must_use]
pub fn faults_json(
    node: &NodeName,
    instance: &Instance,
    recollection: &Arc<Recollection>,
) -> Chunks {
    let _ = (node, instance, recollection);
    todo!()
}

/// Reads the faults that `peer` sent.
///
/// # Errors
/// When they are malformed, of another version, or of another node.
pub fn read_faults(peer: &NodeName, document: &[u8]) -> Result<Faults, ReadError> {
    let _ = (peer, document);
    todo!()
}
