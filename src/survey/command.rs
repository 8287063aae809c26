//! The commands of a survey, as the value of the private header of a POST, and what is answered to them.

use std::time::Duration;

use super::{PairResult, Plan, Targets, Trial, TrialReport};
use crate::name::NodeName;

/// Longest command.
pub const MAX_COMMAND: usize = 1024;

/// What is asked of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// From this host only: begin a survey.
    Start(Targets, Plan),
    /// From this host only: end the survey.
    Stop,
    /// From a peer: it coordinates a survey for so long at least, so that no other may begin.
    Claim(Duration),
    /// From the coordinator: survey the pair with this peer.
    Pair(NodeName, Plan),
    /// From a surveyor: send it nothing for so long at most, or until [`Command::End`].
    Rest(Duration),
    /// From a surveyor: silence begins now.
    Begin(Trial),
    /// From a surveyor: what the trial found in which the peer spoke first. The answer's text is
    /// [`TrialReport::render`].
    Report,
    /// From a surveyor, with the result as the surveyor sees it, or from the coordinator without: it is over;
    /// probe again.
    End(Option<PairResult>),
}

impl Command {
    /// The value of the header; too long a one has more than [`MAX_COMMAND`] bytes.
    #[must_use]
    pub fn render(&self) -> String {
        String::new()
    }

    /// Reads the value of the header; `None` if it is malformed or outside its bounds.
    #[must_use]
    pub fn read(_text: &str) -> Option<Self> {
        None
    }
}

impl TrialReport {
    /// The report as text.
    #[must_use]
    pub fn render(&self) -> String {
        String::new()
    }

    /// Reads a report; `None` if it is malformed or outside its bounds.
    #[must_use]
    pub fn read(_text: &str) -> Option<Self> {
        None
    }
}
