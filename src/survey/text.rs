//! What a survey found, in words.

use std::time::Duration;

use super::{Coldness, PairReport};

/// What a success does not prove.
pub const WARM_REMARK: &str = "other traffic may have kept it warm";
/// What a survey cannot silence.
pub const REMARKS: [&str; 1] = [
    "not silenced: workloads, a control plane, and a Prometheus on one node that scrapes the other; they may have kept \
     a path warm",
];

impl Coldness {
    /// The result of a direction, as a phrase.
    #[must_use]
    pub fn text(&self) -> String {
        String::new()
    }
}

/// The interval to choose: a third of the shortest gap after which any direction goes cold, in whole seconds, with
/// the pair and the gap; `None` if none was found to go cold.
#[must_use]
pub fn recommendation(_results: &[PairReport]) -> Option<(Duration, String)> {
    None
}
