//! What the large probes of one peer tell: whether its path carries full-size segments. Pure.

use std::time::{Duration, Instant, SystemTime};

use super::Moment;
use crate::probe::{FailureReason, Outcome, ProbeId};

/// Large probes that a path swallowed although it carried a blank one right after each: one is
/// chance.
const DROPPED_THRESHOLD: u32 = 2;
/// A path that swallows them, or that cannot be judged, is asked again after this time at most.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The large probes of one peer.
#[derive(Debug, Clone, Default)]
pub struct LargeProbes {
    /// Large answers that came whole.
    pub successes: u32,
    /// Large probes that failed, for whatever reason.
    pub failures: u32,
    /// When the last one ended, and in what time, or why it failed.
    pub last: Option<(SystemTime, Result<Duration, FailureReason>)>,
    /// Those that were swallowed since the last that was not.
    dropped: u32,
    /// The last one was connected and not answered in time; whether for its size, a blank one that
    /// begins later is to show.
    unconfirmed: bool,
    /// The peer says that it answers them.
    supported: bool,
    /// When the next one may start, behind a blank probe that succeeds; or when the suspected one
    /// ended.
    due: Option<Instant>,
    /// Zero, which names no probe, for none.
    in_flight: ProbeId,
}

/// A blank probe that succeeded.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlankSuccess {
    pub(super) began: Instant,
    /// The peer says that it answers large ones.
    pub(super) supported: bool,
    /// The path loses packets of any size.
    pub(super) lossy: bool,
}

impl LargeProbes {
    /// The same counts, and nothing else known: the peer moved.
    pub(super) fn counts_only(&self) -> Self {
        Self { successes: self.successes, failures: self.failures, ..Self::default() }
    }

    /// Whether a large probe is to follow the blank one now. The first one comes at the pair's own
    /// share of `interval`, so that a mesh which starts does not send all at once.
    pub(super) fn is_due_after(
        &mut self,
        now: Instant,
        blank: BlankSuccess,
        interval: Duration,
        share: impl FnOnce() -> Duration,
    ) -> bool {
        self.supported = blank.supported;
        if interval.is_zero() || !blank.supported || self.in_flight != 0 {
            return false;
        }
        let due = *self.due.get_or_insert_with(|| now + share());
        if self.unconfirmed {
            if blank.began < due {
                return false;
            }
            self.unconfirmed = false;
            // Where packets get lost at random, size proves nothing.
            self.dropped = self.dropped.saturating_add(u32::from(!blank.lossy));
            if blank.lossy || self.drops_full_size() {
                self.due = Some(now + interval.min(RETRY_INTERVAL));
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
                self.dropped = 0;
                self.last = Some((now.wall, Ok(timings.total)));
            }
            Outcome::Failure(reason) => {
                self.failures = self.failures.saturating_add(1);
                self.last = Some((now.wall, Err(*reason)));
                if *reason == FailureReason::ResponseTimeout {
                    self.unconfirmed = true;
                    self.due = Some(now.instant);
                    return;
                }
                self.dropped = 0;
            }
            Outcome::Local(_) => next = next.min(RETRY_INTERVAL),
        }
        // In step with what was due, not with how long it took.
        let due = self.due.unwrap_or(now.instant) + next;
        self.due = Some(if due > now.instant { due } else { now.instant + next });
    }

    /// A blank probe failed as well: whatever swallowed the large one, it was not for its size.
    pub(super) fn clear_suspicion(&mut self) {
        self.unconfirmed = false;
    }

    /// The path carries blank probes, and swallows large ones.
    pub(super) fn drops_full_size(&self) -> bool {
        self.supported && self.dropped >= DROPPED_THRESHOLD
    }
}
