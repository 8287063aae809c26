//! Flows of a peer that never get through, and when to repeat some.

use super::super::Moment;
use super::Situation;
use crate::experiment::{DeadFlows, Experiment};

/// Flows that never get through.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    /// `None` while nothing is proven.
    pub dead: Option<DeadFlows>,
}

impl Flows {
    pub(super) fn due(&self, _now: Moment, _peer: Situation) -> Option<Experiment> {
        None
    }

    pub(super) fn begin(&mut self, _now: Moment, _accepted: bool) {}

    pub(super) fn end(&mut self, _now: Moment, dead: Option<DeadFlows>) {
        self.dead = dead;
    }
}
