//! What the large probes of one peer tell: whether its path carries full-size segments. Pure.

use std::time::{Duration, Instant, SystemTime};

use crate::probe::{FailureReason, Outcome, ProbeId};

/// Large probes in a row that a path which carries blank ones swallowed: one is chance.
const SWALLOWED: u32 = 2;
/// A path that swallows them is asked at least this often whether it still does.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The large probes of one peer.
#[derive(Debug, Clone, Default)]
pub struct Large {
    /// Large answers that came whole.
    pub successes: u32,
    /// Large probes that failed, for whatever reason.
    pub failures: u32,
    /// When the last one ended, and in what time, or why it failed.
    pub last: Option<(SystemTime, Result<Duration, FailureReason>)>,
    /// Those in a row that were connected and then not answered in time.
    swallowed: u32,
    /// The peer says that it answers them.
    able: bool,
    /// When the next one may start: behind a blank probe that succeeds.
    due: Option<Instant>,
    /// Zero, which names no probe, for none.
    in_flight: ProbeId,
}

impl Large {
    /// The same counts, and nothing else known: the peer moved.
    pub(super) fn moved(&self) -> Self {
        Self { successes: self.successes, failures: self.failures, ..Self::default() }
    }

    /// A blank probe succeeded: whether a large one is to follow now. The first one comes at the
    /// pair's own share of `interval`, so that a mesh which starts does not send all at once.
    pub(super) fn follows(
        &mut self,
        now: Instant,
        able: bool,
        interval: Duration,
        share: impl FnOnce() -> Duration,
    ) -> bool {
        self.able = able;
        if interval.is_zero() || !able {
            return false;
        }
        *self.due.get_or_insert_with(|| now + share()) <= now && self.in_flight == 0
    }

    pub(super) fn begin(&mut self, id: ProbeId) {
        self.in_flight = id;
    }

    pub(super) fn is_in_flight(&self, id: ProbeId) -> bool {
        self.in_flight == id
    }

    /// Folds the end of one in. `true` when another one is to follow at once, to tell a black hole
    /// from chance.
    pub(super) fn end(
        &mut self,
        now: Instant,
        wall: SystemTime,
        outcome: &Outcome,
        interval: Duration,
    ) -> bool {
        self.in_flight = 0;
        let mut next = interval;
        let mut again = false;
        match outcome {
            Outcome::Success { timings, .. } => {
                self.successes += 1;
                self.swallowed = 0;
                self.last = Some((wall, Ok(timings.total)));
            }
            Outcome::Failure(reason) => {
                self.failures += 1;
                self.last = Some((wall, Err(*reason)));
                if *reason == FailureReason::ResponseTimeout {
                    self.swallowed = self.swallowed.saturating_add(1);
                    again = self.swallowed < SWALLOWED;
                    next = next.min(ASK_AGAIN);
                }
            }
            Outcome::Local(_) => next = next.min(ASK_AGAIN),
        }
        if !again {
            // In step with what was due, not with how long it took.
            let due = self.due.unwrap_or(now) + next;
            self.due = Some(if due > now { due } else { now + next });
        }
        again
    }

    /// The path carries blank probes, and swallows large ones.
    pub(super) fn is_swallowed(&self) -> bool {
        self.swallowed >= SWALLOWED
    }
}
