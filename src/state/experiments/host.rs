//! Whether the host behind a peer's pod lives, and when to look.

use super::super::Moment;
use super::Situation;
use crate::experiment::{Experiment, HostState};

/// The host behind a peer's pod.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// `None` while unknown: it never answered, or was not asked.
    pub state: Option<HostState>,
}

impl Host {
    pub(super) fn due(&self, _now: Moment, _peer: Situation) -> Option<Experiment> {
        None
    }

    pub(super) fn begin(&mut self, _now: Moment, _accepted: bool) {}

    pub(super) fn end(&mut self, _now: Moment, answered: Option<bool>) {
        self.state = match answered {
            Some(true) => Some(HostState::Answers),
            Some(false) => self.state.map(|_| HostState::Silent),
            None => self.state,
        };
    }
}
