//! The search for the shortest gap after which a direction goes cold.

use std::time::Duration;

use super::{Coldness, TrialReport};

/// The trials of one direction: up the gaps, each once, a cold one thrice, then between the last warm and the
/// first cold one.
#[derive(Debug, Clone)]
pub struct Search {
    _gaps: Vec<Duration>,
}

impl Search {
    /// `gaps` ascend.
    #[must_use]
    pub fn new(gaps: &[Duration]) -> Self {
        Self { _gaps: gaps.to_vec() }
    }

    /// The gap of the next trial; `None` when the result is known.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        None
    }

    /// Folds in the trial of [`Search::next`].
    pub fn add(&mut self, _report: &TrialReport) {}

    /// What is known so far: also of a search that ends early, but then [`Coldness::After`] may be less exact.
    #[must_use]
    pub fn result(&self) -> Coldness {
        Coldness::NotSurveyed
    }
}
