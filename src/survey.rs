//! The survey: after which idle time does the first packet of a path get lost, or come late? Pure.
//!
//! A survey belongs to the agent that was asked for it, the coordinator. It surveys pairs of nodes. One end of a
//! pair is its surveyor: it rests, together with its peer, for a gap; then one of both opens a connection, followed
//! by warm ones as the control. `agent::survey` does what is decided here.

mod command;
mod search;
mod status;
mod text;
mod tournament;

use std::time::Duration;

use crate::name::NodeName;
use crate::probe::{Direction, FailureReason, Phase};
use crate::sort::sort;
pub use command::{Command, MAX_COMMAND};
pub use search::Search;
pub use status::{PairNow, PairReport, State, Status};
pub use text::{REMARKS, all_warm, has_result, recommendation, seconds};
pub use tournament::Tournament;

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
/// Warm connections after the first, as the control: enough that a path which loses a tenth of the packets shows
/// it in most trials.
pub const WARM_ATTEMPTS: usize = 5;

/// Most pairs of a survey whose results are kept: those of 64 nodes, which take a day with the default gaps.
pub const MAX_RESULTS: usize = 2048;

/// What is to be tried for each pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Ascending, without duplicates.
    gaps: Vec<Duration>,
    /// The time of the whole survey, or what is left of it.
    budget: Duration,
}

impl Plan {
    /// A plan of 1 to [`MAX_GAPS`] ascending gaps from [`MIN_GAP`] to [`MAX_GAP`], in at most [`MAX_BUDGET`].
    #[must_use]
    pub fn new(gaps: Vec<Duration>, budget: Duration) -> Option<Self> {
        let bounded = |gap: &Duration| (MIN_GAP..=MAX_GAP).contains(gap);
        let valid = (1..=MAX_GAPS).contains(&gaps.len())
            && gaps.iter().all(bounded)
            && gaps.iter().zip(gaps.iter().skip(1)).all(|(gap, next)| gap < next)
            && (MIN_GAP..=MAX_BUDGET).contains(&budget);
        valid.then_some(Self { gaps, budget })
    }

    /// The gaps.
    #[must_use]
    pub fn gaps(&self) -> &[Duration] {
        &self.gaps
    }

    /// The time of the whole survey, or what is left of it.
    #[must_use]
    pub const fn budget(&self) -> Duration {
        self.budget
    }

    /// The same gaps in what is left of the budget.
    #[must_use]
    pub fn within(&self, budget: Duration) -> Self {
        Self { gaps: self.gaps.clone(), budget: budget.clamp(MIN_GAP, MAX_BUDGET) }
    }

    /// The time that one trial of the first gap may take.
    #[must_use]
    pub fn least(&self) -> Duration {
        self.gaps.first().copied().unwrap_or_default() + MAX_TRIAL
    }

    /// How long one pair takes, as a rule: each gap in both directions, and a third for what is repeated.
    #[must_use]
    pub fn pair_time(&self) -> Duration {
        self.gaps.iter().sum::<Duration>() * 8 / 3
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self { gaps: DEFAULT_GAPS.to_vec(), budget: DEFAULT_BUDGET }
    }
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
    /// The kernel's round-trip time right after the handshake, before any exchange. By TCP's timestamps, it is
    /// that of the SYN that was answered, which need not be the last one.
    pub rtt: Option<Duration>,
}

impl Attempt {
    /// Whether it connected by its first SYN.
    const fn is_well(&self) -> bool {
        self.connect.is_ok() && self.syn_retransmits == 0
    }
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
    /// Its first SYN was lost, and the warm ones' were not; how much longer it took, `None` if it failed.
    Lost(Option<Duration>),
    /// Its first SYN was answered, but so much later: one of both was held on the way, or the answer was lost.
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
        /// Cold after so long.
        gap: Duration,
        /// The longest gap below it that was warm; zero for none. Within 10 % of `gap`, unless the survey ended
        /// before.
        warm: Duration,
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

impl Coldness {
    /// [`Coldness::After`] with consistent values, else `None`.
    #[must_use]
    pub fn after(
        gap: Duration,
        warm: Duration,
        mark: Mark,
        marked: u8,
        trials: u8,
    ) -> Option<Self> {
        let cold = matches!(mark, Mark::Lost(_) | Mark::Late(_) | Mark::Refused);
        let counted = (1..=trials).contains(&marked);
        (cold && counted && warm < gap).then_some(Self::After { gap, warm, mark, marked, trials })
    }
}

/// The result of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairResult {
    /// Of the direction from this node to the peer.
    pub outgoing: Coldness,
    /// Of the direction from the peer to this node.
    pub incoming: Coldness,
}

impl PairResult {
    /// Nothing is known yet.
    pub const NOT_SURVEYED: Self =
        Self { outgoing: Coldness::NotSurveyed, incoming: Coldness::NotSurveyed };

    /// The same as the other end sees it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { outgoing: self.incoming, incoming: self.outgoing }
    }
}

/// A connection that takes longer by less is not late: a busy host wakes a thread so much later.
const LATE: Duration = Duration::from_millis(50);
/// Nor is one that takes so many round trips more, as many as a handshake below it may take (WireGuard's takes one,
/// a tunnel of IKE two).
const LATE_ROUND_TRIPS: u32 = 3;

/// What a trial shows. A first connection that fared well proves that the path was warm, whatever the control says;
/// one that fared ill proves something only if all of the control fared well.
#[must_use]
pub fn mark(report: &TrialReport) -> Mark {
    let TrialReport { first, warm, disturbed, .. } = report;
    if *disturbed || warm.is_empty() {
        return Mark::Unproven;
    }
    let mut times: Vec<Duration> = warm.iter().filter_map(|attempt| attempt.connect.ok()).collect();
    sort(&mut times);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let slowest = times.last().copied().unwrap_or(MAX_TRIAL);
    let tolerance = LATE.max(median * LATE_ROUND_TRIPS);
    let mark = match first.connect {
        Ok(connect) if first.syn_retransmits == 0 && connect <= slowest + tolerance => Mark::Warm,
        Ok(connect) => {
            let late = connect.saturating_sub(median);
            // A tunnel that waits for a handshake holds all SYNs and then delivers them at once, so that the first is
            // answered. The answer to a retransmit is as fast as any. The part below one is for an answer to a
            // retransmit that was lost as well.
            let first_answered = first.rtt.is_some_and(|rtt| rtt >= connect * 3 / 4);
            if first.syn_retransmits == 0 || first_answered {
                Mark::Late(late)
            } else {
                Mark::Lost(Some(late))
            }
        }
        Err(FailureReason::Refused) => Mark::Refused,
        Err(reason) if reason.phase() == Phase::Connect => Mark::Lost(None),
        // Established, so that the path was warm; the peer may have been suspended.
        Err(_) => Mark::Unproven,
    };
    if mark == Mark::Warm || warm.iter().all(Attempt::is_well) { mark } else { Mark::Unproven }
}

#[cfg(test)]
mod tests;
