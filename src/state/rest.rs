//! Peers that rest for a survey: nothing is sent to them. Pure.
//!
//! A rest changes no counter and no verdict. Silence of the peer is judged anew when it ends, and the peer is then
//! probed at least once before it rests again: so no survey hides for long that it is gone.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{Change, MeshState};
use crate::name::NodeName;
use crate::survey::PairResult;

/// What a survey found of a pair.
#[derive(Debug, Clone, Copy)]
pub struct Surveyed {
    /// As this node sees it.
    pub result: PairResult,
    /// When it ended.
    pub at: SystemTime,
}

/// Whether a peer rests, or did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Rest {
    /// It never has.
    #[default]
    Never,
    /// Nothing is sent to it.
    Resting,
    /// It rested until then.
    Until(Instant, Probed),
}

/// Whether a probe has ended since a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probed {
    Yes,
    No,
}

impl MeshState {
    /// Has a peer rest: from now on, nothing is sent to it.
    ///
    /// # Errors
    /// Why it cannot rest, in a phrase.
    pub fn rest(&mut self, node: &NodeName) -> Result<(), &'static str> {
        let record = self.records.get_mut(node).ok_or("it is no peer")?;
        record.may_rest()?;
        Arc::make_mut(record).rest = Rest::Resting;
        Ok(())
    }

    /// Whether the peer rests, and has not said goodbye.
    #[must_use]
    pub fn is_resting(&self, node: &NodeName) -> bool {
        let record = self.get(node);
        record.is_some_and(|record| record.surveyed() && record.draining_until.is_none())
    }

    /// Whether nothing that was sent to the peer is in flight.
    #[must_use]
    pub fn is_quiet(&self, node: &NodeName) -> bool {
        self.get(node).is_some_and(|record| record.is_quiet())
    }

    /// Ends the rest of a peer.
    pub fn resume(&mut self, now: Instant, node: &NodeName) -> Option<Change> {
        let record = self.records.get_mut(node).filter(|record| record.surveyed())?;
        let record = Arc::make_mut(record);
        record.rest = Rest::Until(now, Probed::No);
        record.restart_incoming(now);
        record.draining_until.is_none().then(|| Change::Resume(node.clone()))
    }

    /// Takes what a survey found of a pair.
    pub fn set_survey(&mut self, node: &NodeName, surveyed: Surveyed) {
        if let Some(record) = self.records.get_mut(node) {
            Arc::make_mut(record).survey = Some(Box::new(surveyed));
        }
    }
}
