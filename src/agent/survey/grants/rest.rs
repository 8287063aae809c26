//! A rest with a peer, and how far it is. Pure.

use std::time::Instant;

use super::Contact;
use crate::name::NodeName;
use crate::survey::TrialReport;

/// How far a rest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent::survey) enum Stage {
    /// It was asked for: the loop decides.
    Asked,
    /// Nothing is sent to the peer any more, but something may be in flight.
    Settling,
    /// Nothing is in flight.
    Quiet,
    /// Silence began then, at both ends.
    Silent(Instant),
    /// Over, or refused: the loop resumes the peer, if it rested.
    Over(&'static str),
}

/// A rest.
#[derive(Debug)]
pub(in crate::agent::survey) struct Rest {
    /// With this peer.
    pub(in crate::agent::survey) peer: NodeName,
    /// Unique in this process.
    pub(in crate::agent::survey) number: u64,
    /// This agent is the surveyor.
    pub(super) own: bool,
    pub(in crate::agent::survey) stage: Stage,
    pub(super) began: Instant,
    pub(super) until: Instant,
    pub(in crate::agent::survey) contact: Option<Contact>,
    /// This agent speaks first.
    pub(super) speaks: bool,
    /// The trial is over: what comes in from now on disturbs nothing.
    pub(super) complete: bool,
    pub(super) report: Option<TrialReport>,
}

impl Rest {
    /// Whether the trial is over, as the end that spoke first says.
    pub(in crate::agent::survey) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn end(&mut self, why: &'static str) {
        if !matches!(self.stage, Stage::Over(_)) {
            self.stage = Stage::Over(why);
        }
    }

    /// Whether the peer is not probed.
    pub(super) fn is_in_effect(&self) -> bool {
        matches!(self.stage, Stage::Settling | Stage::Quiet | Stage::Silent(_))
    }
}
