//! The large probes of one peer: whether its path carries full-size segments, each direction apart. Pure.
//!
//! While all is well, one probe fills both its request and its answer. Once it fails, or needs retransmits,
//! probes that fill one of them alone tell which direction is at fault.

use std::time::{Duration, Instant};

use super::Moment;
use super::samples::Sample;
use crate::probe::{Direction, FailureReason, KernelView, Large, Outcome, ProbeId};

/// Dropped large probes, each followed by a blank success, that make an MTU fault: one is chance.
const DROPPED_THRESHOLD: u8 = 2;
/// Strained large probes among the last 8 of one direction that make an MTU fault, while no blank probe needed a
/// retransmit: with 0.1 % of all packets lost, less than once in 100,000 hours of a pair at the defaults.
const STRAINED_THRESHOLD: u32 = 3;
/// Probes of one direction that must pass, one after the other, until a strained one counts as chance: of a
/// path that loses every other full-size segment, one in 16 does.
const FOLLOW_UPS: u8 = 4;
/// Longest spacing of large probes of a path that drops them, or that cannot be judged.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// The large probes of one peer.
#[derive(Debug, Clone, Default)]
pub struct LargeProbes {
    /// Large probes that succeeded.
    pub successes: u32,
    /// Large probes that failed, for any reason.
    pub failures: u32,
    /// Those whose request fills a segment.
    pub outgoing: LargeDirection,
    /// Those whose answer fills a segment.
    pub incoming: LargeDirection,
    /// The last one was connected and not answered in time. A later blank probe shows whether its size
    /// was the reason.
    unconfirmed: Option<Large>,
    /// The peer announces that it answers large probes, and they are wanted.
    supported: bool,
    /// Of two directions to follow, the incoming one is next.
    answer_next: bool,
    /// The direction at fault, as far as each has been tested.
    fault: Option<Direction>,
    /// When the next one may start, after a blank success; while `unconfirmed`, when the last one
    /// ended.
    due: Option<Instant>,
    pub(super) in_flight: Option<ProbeId>,
}

/// The large probes that filled a segment in one direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct LargeDirection {
    /// Those that succeeded.
    pub successes: u32,
    /// Those of this direction alone that failed: of both at once, none can tell which.
    pub failures: u32,
    /// The last one.
    pub last: Option<Sample>,
    /// Consecutive ones that were dropped although a blank one passed right after.
    dropped: u8,
    /// The last 8 that prove something, the latest in the lowest bit: 1 for a strained one.
    strained: u8,
    /// So many were strained that full-size segments are lost; until the last 8 all passed.
    loses: bool,
    /// Probes of this direction alone that follow, one after each blank success.
    follow: u8,
}

/// A blank probe that succeeded.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlankSuccess {
    pub(super) began: Instant,
    /// The peer announces that it answers large probes.
    pub(super) supported: bool,
    /// The path loses packets of any size, or is so slow that a large probe has no time for retransmits: then
    /// one without an answer proves nothing.
    pub(super) lossy: bool,
    /// The path MTU is smaller than before.
    pub(super) shrunk: bool,
    /// Bytes of the largest packet so far, if the kernel's cache has less.
    pub(super) packet: Option<u32>,
}

/// Whether a large probe that succeeded needed retransmits in a direction as no blank one did; `None` if that
/// cannot be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strain {
    pub(super) outgoing: Option<bool>,
    pub(super) incoming: Option<bool>,
}

impl LargeDirection {
    fn is_faulty(&self) -> bool {
        self.dropped >= DROPPED_THRESHOLD || self.loses
    }

    fn pass(&mut self) {
        self.dropped = 0;
        self.strained <<= 1;
        self.loses &= self.strained != 0;
        // What loses a part is followed until it is well.
        self.follow = self.follow.saturating_sub(1).max(u8::from(self.loses));
    }

    fn strain(&mut self) {
        self.strained = self.strained << 1 | 1;
        self.loses |= self.strained.count_ones() >= STRAINED_THRESHOLD;
        self.suspect();
    }

    fn drop_one(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
        self.suspect();
    }

    /// A fault is proved again at leisure, a suspicion at once.
    fn suspect(&mut self) {
        self.follow = if self.is_faulty() { 0 } else { FOLLOW_UPS };
    }

    fn succeed(&mut self, sample: Sample, strained: Option<bool>) {
        self.successes = self.successes.saturating_add(1);
        self.last = Some(sample);
        match strained {
            Some(false) => self.pass(),
            Some(true) => self.strain(),
            None => self.follow = self.follow.saturating_sub(1),
        }
    }

    fn counters(&self) -> Self {
        Self { successes: self.successes, failures: self.failures, ..Self::default() }
    }
}

impl LargeProbes {
    /// The counters alone: the peer moved.
    pub(super) fn counters(&self) -> Self {
        Self {
            successes: self.successes,
            failures: self.failures,
            outgoing: self.outgoing.counters(),
            incoming: self.incoming.counters(),
            ..Self::default()
        }
    }

    /// The large probe that is due right after a blank one. The first one is due at the pair's own
    /// `offset` in the interval, so that agents which start together do not send all at once.
    pub(super) fn due_after(
        &mut self,
        now: Instant,
        blank: BlankSuccess,
        interval: Duration,
        offset: Duration,
    ) -> Option<Large> {
        self.supported = blank.supported && !interval.is_zero();
        if !self.supported || self.in_flight.is_some() {
            return None;
        }
        let retry = now + interval.min(RETRY_INTERVAL);
        let mut due = *self.due.get_or_insert(now + offset);
        if let Some(large) = self.unconfirmed {
            if blank.began < due {
                return None;
            }
            self.unconfirmed = None;
            due = if blank.lossy { retry } else { now + interval };
            // On a path with random loss, size proves nothing.
            self.directions(large).filter(|_| !blank.lossy).for_each(LargeDirection::drop_one);
            self.judge();
        }
        if blank.shrunk || self.is_faulty() {
            due = due.min(retry);
        }
        self.due = Some(due);
        if self.follows() == (false, false) {
            if due > now {
                return None;
            }
            if !self.is_faulty() && blank.packet.is_none() {
                return Some(Large::Both);
            }
            self.directions(Large::Both).for_each(|direction| direction.follow = 1);
        }
        let answer = match self.follows() {
            (true, true) => self.answer_next,
            (_, incoming) => incoming,
        };
        Some(if answer { Large::Answer } else { Large::Request { packet: blank.packet } })
    }

    /// Folds in the end of a large probe.
    pub(super) fn end(
        &mut self,
        now: Moment,
        large: Large,
        outcome: &Outcome,
        strain: Strain,
        interval: Duration,
    ) {
        self.in_flight = None;
        self.answer_next = matches!(large, Large::Request { .. });
        let mut next = interval;
        match outcome {
            Outcome::Success { timings, .. } => {
                let kernel = KernelView::default();
                let sample = Sample::new(now.wall, Ok(*timings), timings.total, kernel);
                self.successes = self.successes.saturating_add(1);
                if large != Large::Answer {
                    self.outgoing.succeed(sample, strain.outgoing);
                }
                if matches!(large, Large::Both | Large::Answer) {
                    self.incoming.succeed(sample, strain.incoming);
                }
            }
            Outcome::Failure(reason) => {
                self.fail(now, large, *reason);
                if *reason == FailureReason::ResponseTimeout {
                    self.unconfirmed = Some(large);
                    self.due = Some(now.instant);
                    return;
                }
            }
            Outcome::Local(_) => {
                self.directions(Large::Both).for_each(|direction| direction.follow = 0);
                next = next.min(RETRY_INTERVAL);
            }
        }
        self.judge();
        // Those that follow wait for a blank success, not for their time.
        if self.due.is_some_and(|due| due > now.instant) {
            return;
        }
        // Counted from the due time, so that the duration of a probe shifts nothing.
        let due = self.due.unwrap_or(now.instant) + next;
        self.due = Some(if due > now.instant { due } else { now.instant + next });
    }

    fn fail(&mut self, now: Moment, large: Large, reason: FailureReason) {
        let sample = Sample::new(now.wall, Err(reason), Duration::ZERO, KernelView::default());
        let sample = Some(sample);
        self.failures = self.failures.saturating_add(1);
        for direction in self.directions(large) {
            direction.last = sample;
            if large != Large::Both {
                direction.failures = direction.failures.saturating_add(1);
            }
            if reason != FailureReason::ResponseTimeout {
                (direction.dropped, direction.follow) = (0, 0);
            }
        }
    }

    /// A blank probe failed as well, so the large one did not fail because of its size.
    pub(super) fn clear_suspicion(&mut self) {
        self.unconfirmed = None;
    }

    /// The last one.
    #[must_use]
    pub fn last(&self) -> Option<Sample> {
        let last = self.outgoing.last.into_iter().chain(self.incoming.last);
        last.max_by_key(Sample::at_millis)
    }

    /// Whether they show more than the kernel's cached path MTU: the peer supports them.
    pub(super) fn are_supported(&self) -> bool {
        self.supported
    }

    /// The direction that carries blank probes and loses large ones; outgoing as well if the path MTU is
    /// smaller than before.
    pub(super) fn fault(&self, shrunk: bool) -> Option<Direction> {
        match self.fault.filter(|_| self.supported) {
            None => Direction::of(shrunk, false),
            Some(Direction::Incoming) if shrunk => Some(Direction::Both),
            fault => fault,
        }
    }

    /// Names no direction while the other one may be at fault as well, and calls none well of two before both
    /// were tested again.
    fn judge(&mut self) {
        let (outgoing, incoming) = (self.outgoing.is_faulty(), self.incoming.is_faulty());
        let found = Direction::of(outgoing, incoming);
        let doubtful = |direction: &LargeDirection| direction.dropped > 0 && !direction.is_faulty();
        let is_settled = match (self.fault, found) {
            (None, _) => !doubtful(&self.outgoing) && !doubtful(&self.incoming),
            (Some(Direction::Both), Some(_)) => self.follows() == (false, false),
            _ => true,
        };
        if !is_settled {
            return;
        }
        if self.fault.is_none() && found.is_some() {
            let others = self.directions(Large::Both).filter(|direction| !direction.is_faulty());
            others.for_each(LargeDirection::suspect);
        }
        self.fault = found;
    }

    fn is_faulty(&self) -> bool {
        self.outgoing.is_faulty() || self.incoming.is_faulty()
    }

    fn follows(&self) -> (bool, bool) {
        (self.outgoing.follow > 0, self.incoming.follow > 0)
    }

    /// The directions in which it fills a segment.
    fn directions(&mut self, large: Large) -> impl Iterator<Item = &mut LargeDirection> {
        let outgoing = (large != Large::Answer).then_some(&mut self.outgoing);
        let incoming = matches!(large, Large::Both | Large::Answer).then_some(&mut self.incoming);
        outgoing.into_iter().chain(incoming)
    }
}
