//! When requests of a peer are due: what it announces, and what really arrives. Pure.

use std::time::{Duration, Instant};

/// Gaps between requests of which the median counts: one that is too long (an outage) or too short (two
/// requests at once) changes nothing.
const GAPS: usize = 3;
/// An agent without tokens is not believed to be slower than what arrives by more than this factor: a
/// forged hour would hide that it became silent.
pub(super) const MAX_STRETCH: u32 = 4;

/// The requests of one peer that are believed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rhythm {
    /// When the last one arrived.
    last: Option<Instant>,
    /// The last gaps in milliseconds, the latest first; zero for none.
    gaps: [u32; GAPS],
}

/// Longest silence of something that comes once an interval: two may be lost, and the next may be as
/// late as the default timeout.
pub(super) fn longest_silence(interval: Duration) -> Duration {
    const LATE: Duration = Duration::from_secs(5);
    interval * 3 + LATE
}

impl Rhythm {
    /// The gaps so far say nothing: the peer begins a new life, or proves its requests from now on.
    pub(super) fn restart(&mut self) {
        self.gaps = [0; GAPS];
    }

    /// The peer rested until now: the gap says nothing.
    pub(super) fn resume(&mut self, now: Instant) {
        self.last = self.last.map(|_| now);
    }

    /// A request arrived.
    pub(super) fn hear(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_duration_since(last).as_millis().max(1);
            let [latest, middle, _] = self.gaps;
            self.gaps = [u32::try_from(gap).unwrap_or(u32::MAX), latest, middle];
        }
    }

    /// When the last one arrived.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// The spacing that a peer announces from now on. A proven request is believed: a peer that lies about
    /// itself hides its own fault. Of others the longest counts: waiting longer does less harm than waiting
    /// less.
    pub(super) fn announce(
        known: Option<Duration>,
        announced: Option<Duration>,
        is_proof: bool,
    ) -> Option<Duration> {
        if is_proof { announced.or(known) } else { announced.max(known) }
    }

    /// The spacing by which silence is judged: never less than what really arrives, or than this agent's
    /// `own` interval until something is known. Without proof, never less than `own` at all, since a mesh
    /// normally has one interval, and not much more than what arrives.
    pub(super) fn expected(&self, announced: Duration, proven: bool, own: Duration) -> Duration {
        let mut gaps = self.gaps;
        gaps.sort_unstable();
        let [shortest, median, longest] = gaps;
        let is_complete = shortest > 0;
        let seen = Duration::from_millis(if is_complete { median } else { longest }.into());
        if proven {
            return announced.max(if seen.is_zero() { own } else { seen });
        }
        let floor = seen.max(own);
        let ceiling = if is_complete { floor.saturating_mul(MAX_STRETCH) } else { Duration::MAX };
        announced.min(ceiling).max(floor)
    }
}
