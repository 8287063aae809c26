//! The large probes of one peer: whether its path carries full-size segments. Pure.

use std::time::{Duration, Instant, SystemTime};

use super::Moment;
use crate::probe::{FailureReason, Outcome, ProbeId};

/// Dropped large probes, each followed by a blank success, that make an MTU fault: one is chance.
const DROPPED_THRESHOLD: u32 = 2;
/// Longest spacing of large probes of a path that drops them, or that cannot be judged.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The large probes of one peer.
#[derive(Debug, Clone, Default)]
pub struct LargeProbes {
    /// Large probes that succeeded.
    pub successes: u32,
    /// Large probes that failed, for any reason.
    pub failures: u32,
    /// When the last one ended, and its total time or why it failed.
    pub last: Option<(SystemTime, Result<Duration, FailureReason>)>,
    /// Consecutive large probes that were dropped although a blank one passed right after.
    dropped: u32,
    /// The last one was connected and not answered in time. A later blank probe shows whether its size
    /// was the reason.
    unconfirmed: bool,
    /// The peer announces that it answers large probes.
    supported: bool,
    /// When the next one may start, after a blank success; while `unconfirmed`, when the last one
    /// ended.
    due: Option<Instant>,
    pub(super) in_flight: Option<ProbeId>,
}

/// A blank probe that succeeded.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlankSuccess {
    pub(super) began: Instant,
    /// The peer announces that it answers large probes.
    pub(super) supported: bool,
    /// The path loses packets of any size.
    pub(super) lossy: bool,
}

impl LargeProbes {
    /// The counters alone: the peer moved.
    pub(super) fn counters(&self) -> Self {
        Self { successes: self.successes, failures: self.failures, ..Self::default() }
    }

    /// Whether a large probe is due right after a blank one. The first one is due at the pair's own
    /// `offset` in the interval, so that agents which start together do not send all at once.
    pub(super) fn is_due_after(
        &mut self,
        now: Instant,
        blank: BlankSuccess,
        interval: Duration,
        offset: Duration,
    ) -> bool {
        self.supported = blank.supported;
        if interval.is_zero() || !blank.supported || self.in_flight.is_some() {
            return false;
        }
        let due = *self.due.get_or_insert(now + offset);
        if self.unconfirmed {
            if blank.began < due {
                return false;
            }
            self.unconfirmed = false;
            // On a path with random loss, size proves nothing.
            self.dropped = self.dropped.saturating_add(u32::from(!blank.lossy));
            if blank.lossy || self.drops_full_size() {
                self.due = Some(now + interval.min(RETRY_INTERVAL));
                return false;
            }
        }
        due <= now
    }

    /// Folds in the end of a large probe.
    pub(super) fn end(&mut self, now: Moment, outcome: &Outcome, interval: Duration) {
        self.in_flight = None;
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
        // Counted from the due time, so that the duration of a probe shifts nothing.
        let due = self.due.unwrap_or(now.instant) + next;
        self.due = Some(if due > now.instant { due } else { now.instant + next });
    }

    /// A blank probe failed as well, so the large one did not fail because of its size.
    pub(super) fn clear_suspicion(&mut self) {
        self.unconfirmed = false;
    }

    /// Whether the path carries blank probes and drops large ones.
    pub(super) fn drops_full_size(&self) -> bool {
        self.supported && self.dropped >= DROPPED_THRESHOLD
    }
}
