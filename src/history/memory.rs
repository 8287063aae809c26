//! What the agent's loop remembers: the open cells, the closed ones of the last day, and the changes.

use std::sync::Arc;

use super::Recollection;
use crate::state::{Moment, PeerRecord, Verdict};

/// The memory of the agent's loop.
#[derive(Debug)]
pub struct History {}

impl History {
    /// A memory that begins now, after what was remembered before.
    #[must_use]
    pub fn new(_now: Moment, _before: Option<Recollection>) -> Self {
        Self {}
    }

    /// Counts the last probe of a peer. To be called after each blank probe that left a sample, with
    /// [`Self::tick`] before the sample was taken.
    pub fn observe(&mut self, _record: &PeerRecord) {}

    /// Takes the verdict of a peer, or what an experiment adds to it, or what comes in from it, after a change;
    /// `from` is the verdict before.
    pub fn note(&mut self, _now: Moment, _from: Verdict, _record: &PeerRecord) {}

    /// Closes the open cells at their end, and after a step of the wall clock; true if it did, so that it is to
    /// be saved. To be called at least every second, and before anything that happened later is counted.
    pub fn tick<'a>(
        &mut self,
        _now: Moment,
        _records: impl Iterator<Item = &'a PeerRecord>,
    ) -> bool {
        false
    }

    /// What readers may see, and what is saved.
    #[must_use]
    pub fn recollect(&self, now: Moment) -> Recollection {
        Recollection { taken: now, names: Arc::default(), spans: Vec::new(), changes: Vec::new() }
    }
}
