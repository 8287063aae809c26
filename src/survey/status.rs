//! How far a survey is, as an agent tells it of itself.

use super::{PairResult, Plan, Trial};
use crate::label::label_set;
use crate::name::NodeName;

label_set! {
    /// The state of an agent's survey.
    pub enum State {
        /// There was none since the agent started.
        Idle = "none",
        /// It goes on.
        Running = "running",
        /// It came to its end, or its budget did.
        Done = "done",
        /// It was stopped, here or by its coordinator, or its coordinator is gone.
        Stopped = "stopped",
        /// It could not begin: a peer refused.
        Refused = "refused",
    }
}

/// A survey as an agent tells of it. The coordinator knows all pairs, another agent its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Why it was refused or stopped, as a phrase.
    pub reason: Option<String>,
    /// The agent that was asked for it.
    pub coordinator: Option<NodeName>,
    /// When it began, in Unix milliseconds.
    pub started: Option<u64>,
    /// When it ended, or is expected to end, in Unix milliseconds.
    pub end: Option<u64>,
    /// What is tried.
    pub plan: Option<Plan>,
    /// The number of all pairs that were asked for.
    pub pairs: usize,
    /// The pairs that are surveyed now.
    pub now: Vec<PairNow>,
    /// The pairs that were surveyed, to the end or not.
    pub results: Vec<PairReport>,
}

impl Status {
    /// No survey since the agent started.
    pub const IDLE: Self = Self {
        state: State::Idle,
        reason: None,
        coordinator: None,
        started: None,
        end: None,
        plan: None,
        pairs: 0,
        now: Vec::new(),
        results: Vec::new(),
    };
}

/// A pair that is surveyed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairNow {
    /// The surveyor.
    pub source: NodeName,
    /// Its peer.
    pub target: NodeName,
    /// The trial that goes on.
    pub trial: Option<Trial>,
    /// Trials that are done.
    pub trials: u16,
}

/// The result of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairReport {
    /// The surveyor.
    pub source: NodeName,
    /// Its peer.
    pub target: NodeName,
    /// When it ended, in Unix milliseconds.
    pub at: u64,
    /// As the surveyor sees it.
    pub result: PairResult,
}
