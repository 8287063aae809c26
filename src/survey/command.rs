//! The commands of a survey, as the value of the private header of a POST.

use std::time::Duration;

use super::{Plan, Targets, Trial};
use crate::name::NodeName;

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
    /// From a surveyor: what the trial found in which the peer spoke first.
    Report,
    /// From a surveyor or the coordinator: it is over; probe again.
    End,
}

impl Command {
    /// The value of the header.
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
