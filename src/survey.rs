//! The survey: after which idle time does the first packet of a path get lost, or come late? Pure.
//!
//! A survey belongs to the agent that was asked for it, the coordinator. It surveys pairs of nodes. One end of a
//! pair is its surveyor: it rests, together with its peer, for a gap; then one of both opens a connection, followed
//! by warm ones as the control. `agent::survey` does what is decided here.

mod command;
mod search;
mod tournament;

use std::time::Duration;

use crate::name::NodeName;
use crate::probe::{Direction, FailureReason};
pub use command::Command;
pub use search::Search;
pub use tournament::rounds;

/// The gaps to try, without others: 10, 30, 60, 120 and 300 s.
pub const DEFAULT_GAPS: [Duration; 5] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
];
/// The shortest and the longest gap.
pub const MIN_GAP: Duration = Duration::from_secs(1);
/// See [`MIN_GAP`].
pub const MAX_GAP: Duration = Duration::from_secs(600);
/// Most gaps of a plan.
pub const MAX_GAPS: usize = 16;
/// The time of a survey, without another.
pub const DEFAULT_BUDGET: Duration = Duration::from_secs(2 * 3600);
/// The longest time of a survey.
pub const MAX_BUDGET: Duration = Duration::from_secs(24 * 3600);
/// The longest time between the end of a gap and the outcome of its trial: a lost handshake of WireGuard delays a
/// packet by 5 s, three lost ones by 16 s.
pub const MAX_TRIAL: Duration = Duration::from_secs(20);
/// Warm connections after the first, as the control.
pub const WARM_ATTEMPTS: usize = 3;

/// What is to be tried for each pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Ascending, without duplicates.
    pub gaps: Vec<Duration>,
    /// The time of the whole survey, or what is left of it.
    pub budget: Duration,
}

/// The pairs to survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// This node with each of these peers.
    Peers(Vec<NodeName>),
    /// All pairs of the mesh.
    Mesh,
}

/// One trial of a pair, as its surveyor sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// How long both rest.
    pub gap: Duration,
    /// Who speaks first: outgoing, the surveyor; incoming, the peer.
    pub direction: Direction,
}

/// One connection of a trial, as the end that opened it saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Time to the established connection, or why there was none.
    pub connect: Result<Duration, FailureReason>,
    /// SYNs that were sent again.
    pub syn_retransmits: u8,
}

/// What a trial found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialReport {
    /// The true time between the last packet of both and the first attempt.
    pub gap: Duration,
    /// The first connection after the gap.
    pub first: Attempt,
    /// The ones right after it.
    pub warm: Vec<Attempt>,
    /// A packet of these agents came in between, or one of them was late: the trial proves nothing.
    pub disturbed: bool,
}

/// What one trial shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The first connection fared as the warm ones.
    Warm,
    /// Its SYN was lost, and the warm ones' were not; how much longer it took, `None` if it failed.
    Lost(Option<Duration>),
    /// No SYN was sent again, but it took so much longer.
    Late(Duration),
    /// It was refused, and the warm ones were not.
    Refused,
    /// The warm ones fared no better, or the trial was disturbed.
    Unproven,
}

/// What the trials of one direction show together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coldness {
    /// Not surveyed, or not to the end.
    NotSurveyed,
    /// Goes cold: the shortest gap after which the first connection fared worse, in `marked` of `trials`.
    After {
        /// Cold after so long, within 10 %.
        gap: Duration,
        /// How it fared the last time: [`Mark::Lost`], [`Mark::Late`] or [`Mark::Refused`].
        mark: Mark,
        /// Trials of this gap that showed it.
        marked: u8,
        /// Trials of this gap.
        trials: u8,
    },
    /// Warm at the longest gap that was tried. Other traffic may have kept it warm.
    WarmAt(Duration),
    /// Warm connections fail as well, so that nothing is proven.
    Unproven,
}

/// The result of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairResult {
    /// Of the direction from this node to the peer.
    pub outgoing: Coldness,
    /// Of the direction from the peer to this node.
    pub incoming: Coldness,
}

/// What a trial shows.
#[must_use]
pub fn mark(_report: &TrialReport) -> Mark {
    Mark::Unproven
}

/// The interval to choose: a third of the shortest gap after which any direction goes cold, in whole seconds;
/// `None` if none was found to go cold.
#[must_use]
pub fn recommended_interval(_results: &[PairResult]) -> Option<Duration> {
    None
}
