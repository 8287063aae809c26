//! `/api/v1/survey`: how far the survey of this agent is, and what it found.

use serde::Serialize;

use super::ReadError;
use crate::name::NodeName;
use crate::survey::{PairResult, Status};

/// The result of a pair as a field of the peer: `survey` of a peer's document.
#[derive(Serialize)]
pub struct PeerSurvey {
    at: f64,
}

impl PeerSurvey {
    /// `at` in Unix milliseconds.
    #[must_use]
    pub fn new(_result: &PairResult, at: u64) -> Self {
        Self { at: super::unix_seconds(at) }
    }
}

/// The document of `node`.
#[must_use]
pub fn survey_json(_node: &NodeName, _at: u64, _status: &Status) -> Vec<u8> {
    Vec::new()
}

/// Reads the document.
///
/// # Errors
/// When it is malformed or of another version.
pub fn read_survey(_document: &[u8]) -> Result<(NodeName, Status), ReadError> {
    Err(ReadError::Malformed)
}
