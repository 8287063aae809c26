//! Peers that rest for a survey: nothing is sent to them. Pure.
//!
//! A rest changes no counter and no verdict. Silence of the peer is judged anew when it ends, and the peer is then
//! probed at least once before it rests again: so no survey hides for long that it is gone.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::record::PeerRecord;
use super::{Change, MeshState};
use crate::name::NodeName;
use crate::survey::PairResult;
use crate::token::{PairToken, TokenKey};

/// What a survey found of a pair.
#[derive(Debug, Clone, Copy)]
pub struct Surveyed {
    /// As this node sees it.
    pub result: PairResult,
    /// When it ended.
    pub at: SystemTime,
}

/// Whether a peer rests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Rest {
    /// It is probed.
    #[default]
    No,
    /// Nothing is sent to it.
    Resting,
    /// It is probed again, and no probe has ended since.
    Rested,
}

impl PeerRecord {
    /// Whether the pair rests for a survey.
    #[must_use]
    pub fn surveyed(&self) -> bool {
        self.rest == Rest::Resting
    }

    /// Why it cannot rest now.
    fn may_rest(&self) -> Result<(), &'static str> {
        if self.draining_until.is_some() {
            return Err("the peer drains");
        }
        if self.up != Some(true) || self.consecutive_failures > 0 {
            return Err("probes of the peer fail");
        }
        if self.rest == Rest::Rested {
            return Err("busy: the peer is to be probed before it rests again");
        }
        Ok(())
    }

    /// The tokens to show to it, with the key of this agent.
    #[must_use]
    pub fn token(&self, key: &TokenKey) -> PairToken {
        let own = key.own(&self.peer.node, self.instance());
        PairToken { own, echo: self.claims.token() }
    }

    /// Whether nothing that was sent to it is in flight.
    fn is_quiet(&self) -> bool {
        self.is_idle()
            && self.large.in_flight.is_none()
            && !self.claims.is_checking()
            && !self.experiments.in_flight()
    }

    /// A probe ended.
    pub(super) fn note_probed(&mut self) {
        if self.rest == Rest::Rested {
            self.rest = Rest::No;
        }
    }
}

impl MeshState {
    /// Has a peer rest: from now on, nothing is sent to it.
    ///
    /// # Errors
    /// Why it cannot rest, in a phrase.
    pub fn rest(&mut self, node: &NodeName) -> Result<&PeerRecord, &'static str> {
        let record = self.records.get_mut(node).ok_or("it is no peer")?;
        record.may_rest()?;
        let record = Arc::make_mut(record);
        record.rest = Rest::Resting;
        Ok(record)
    }

    /// Whether the peer rests, and has not said goodbye.
    #[must_use]
    pub fn is_resting(&self, node: &NodeName) -> bool {
        let resting = |record: &PeerRecord| record.surveyed() && record.draining_until.is_none();
        self.get(node).is_some_and(resting)
    }

    /// Whether nothing that was sent to the peer is in flight.
    #[must_use]
    pub fn is_quiet(&self, node: &NodeName) -> bool {
        self.get(node).is_some_and(PeerRecord::is_quiet)
    }

    /// Ends the rest of a peer.
    pub fn resume(&mut self, now: Instant, node: &NodeName) -> Option<Change> {
        let record = self.records.get_mut(node).filter(|record| record.surveyed())?;
        let record = Arc::make_mut(record);
        record.rest = Rest::Rested;
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
