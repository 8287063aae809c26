//! The same flows again.

use std::net::SocketAddr;

use crate::experiment::DeadFlows;

/// Repeats the flows of these source ports; `None` if no flow that had passed passes again.
#[must_use]
pub fn repeat_flows(_address: SocketAddr, _failed: &[u16], _passed: &[u16]) -> Option<DeadFlows> {
    None
}
