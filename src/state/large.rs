//! What the large probes of one peer tell: whether its path carries full-size segments. Pure.

use std::time::{Duration, Instant, SystemTime};

use super::Moment;
use crate::probe::{FailureReason, Outcome, ProbeId};

/// Large probes that a path swallowed although it carried a blank one right after each: one is
/// chance.
const SWALLOWED: u32 = 2;
/// A path that swallows them, or that cannot be judged, is asked again after this time at most.
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
    /// Those that were swallowed since the last that was not.
    swallowed: u32,
    /// The last one was connected and not answered in time; whether for its size, a blank one that
    /// begins later is to show.
    suspected: bool,
    /// The peer says that it answers them.
    able: bool,
    /// When the next one may start, behind a blank probe that succeeds; or when the suspected one
    /// ended.
    due: Option<Instant>,
    /// Zero, which names no probe, for none.
    in_flight: ProbeId,
}

/// A blank probe that succeeded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blank {
    pub(super) began: Instant,
    /// The peer says that it answers large ones.
    pub(super) able: bool,
    /// The path loses packets of any size.
    pub(super) lossy: bool,
}

impl Large {
    /// The same counts, and nothing else known: the peer moved.
    pub(super) fn moved(&self) -> Self {
        Self { successes: self.successes, failures: self.failures, ..Self::default() }
    }

    /// Whether a large probe is to follow the blank one now. The first one comes at the pair's own
    /// share of `interval`, so that a mesh which starts does not send all at once.
    pub(super) fn follows(
        &mut self,
        now: Instant,
        blank: Blank,
        interval: Duration,
        share: impl FnOnce() -> Duration,
    ) -> bool {
        self.able = blank.able;
        if interval.is_zero() || !blank.able || self.in_flight != 0 {
            return false;
        }
        let due = *self.due.get_or_insert_with(|| now + share());
        if self.suspected {
            if blank.began < due {
                return false;
            }
            self.suspected = false;
            // Where packets get lost at random, size proves nothing.
            self.swallowed = self.swallowed.saturating_add(u32::from(!blank.lossy));
            if blank.lossy || self.is_swallowed() {
                self.due = Some(now + interval.min(ASK_AGAIN));
                return false;
            }
        }
        due <= now
    }

    pub(super) fn begin(&mut self, id: ProbeId) {
        self.in_flight = id;
    }

    pub(super) fn is_in_flight(&self, id: ProbeId) -> bool {
        self.in_flight == id
    }

    /// Folds the end of one in.
    pub(super) fn end(&mut self, now: Moment, outcome: &Outcome, interval: Duration) {
        self.in_flight = 0;
        let mut next = interval;
        match outcome {
            Outcome::Success { timings, .. } => {
                self.successes = self.successes.saturating_add(1);
                self.swallowed = 0;
                self.last = Some((now.wall, Ok(timings.total)));
            }
            Outcome::Failure(reason) => {
                self.failures = self.failures.saturating_add(1);
                self.last = Some((now.wall, Err(*reason)));
                if *reason == FailureReason::ResponseTimeout {
                    self.suspected = true;
                    self.due = Some(now.instant);
                    return;
                }
                self.swallowed = 0;
            }
            Outcome::Local(_) => next = next.min(ASK_AGAIN),
        }
        // In step with what was due, not with how long it took.
        let due = self.due.unwrap_or(now.instant) + next;
        self.due = Some(if due > now.instant { due } else { now.instant + next });
    }

    /// A blank probe failed as well: whatever swallowed the large one, it was not for its size.
    pub(super) fn excuse(&mut self) {
        self.suspected = false;
    }

    /// The path carries blank probes, and swallows large ones.
    pub(super) fn is_swallowed(&self) -> bool {
        self.able && self.swallowed >= SWALLOWED
    }
}
