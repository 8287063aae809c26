//! The largest packet that each direction of a path carries, and when to look for it.

use super::super::Moment;
use super::Situation;
use crate::experiment::{Experiment, LargestPacket};
use crate::probe::Direction;

/// The largest packet of each direction.
#[derive(Debug, Clone, Default)]
pub struct Mtu {
    /// To the peer.
    pub outgoing: Option<LargestPacket>,
    /// From the peer.
    pub incoming: Option<LargestPacket>,
}

impl Mtu {
    pub(super) fn due(&self, _now: Moment, _peer: Situation) -> Option<Experiment> {
        None
    }

    pub(super) fn begin(&mut self, _now: Moment, _direction: Direction, _accepted: bool) {}

    pub(super) fn end(
        &mut self,
        _now: Moment,
        direction: Direction,
        largest: Option<LargestPacket>,
    ) {
        if direction == Direction::Incoming {
            self.incoming = largest;
        } else {
            self.outgoing = largest;
        }
    }
}
