//! The state of one peer, and how each event changes it. Pure.

mod detail;
mod incoming;
mod path_mtu;
mod recent;
mod resting;

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::claims::{Claims, Ruling, Terms};
use super::experiments::{Experiments, Situation};
use super::flaky::{Failures, most_frequent};
use super::gap::Gaps;
use super::large::LargeProbes;
use super::path;
use super::rest::{Rest, Surveyed};
use super::rhythm::Rhythm;
use super::samples::{Histogram, LossWindow, RECENT, Sample};
use super::verdict::{Evidence, Incoming, Verdict};
use super::{Change, Moment};
use crate::name::Instance;
use crate::peer::Peer;
use crate::probe::{
    Answer, FailureReason, KernelView, Outcome, Priority, ProbeId, Report, Syns, Timings,
};

/// The state of one peer.
#[derive(Debug, Clone)]
pub struct PeerRecord {
    /// The peer's identity and addresses.
    pub peer: Peer,
    /// Probes that succeeded.
    pub successes: u64,
    /// Probes that failed, in the order of [`FailureReason::ALL`].
    pub failures: [u32; FailureReason::ALL.len()],
    /// Retransmitted segments.
    pub retransmits: u64,
    /// Total times of the successful probes.
    pub latency: Histogram,
    /// Round-trip time of the last success.
    rtt: Option<Duration>,
    /// The path MTU in bytes: the kernel's, or what a large probe has learned of the path itself since.
    pub path_mtu: Option<u32>,
    /// The kernel's, as it was last.
    cached_path_mtu: Option<u32>,
    /// The largest path MTU so far.
    pub largest_path_mtu: Option<u32>,
    /// Time of the last success.
    pub last_success: Option<SystemTime>,
    /// Reason and time of the last failure.
    pub last_failure: Option<(FailureReason, SystemTime)>,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Slots since the last success.
    missed_slots: u32,
    /// Whether it counts as up; `None` until a success, or until enough failures.
    pub up: Option<bool>,
    /// The last probes, oldest first, at most [`RECENT`].
    pub recent: VecDeque<Sample>,
    /// Which of those before them needed a retransmit because of a loss.
    older_losses: LossWindow,
    /// Keep-alive requests received from it.
    pub incoming: u64,
    /// When its last request arrived.
    pub last_incoming: Option<SystemTime>,
    /// Segments that were retransmitted to it in answers to its proven requests, SYN-ACKs included.
    pub incoming_retransmits: u32,
    /// Its last proven requests.
    incoming_window: LossWindow,
    /// The interval that it announces.
    pub announced_interval: Option<Duration>,
    /// Its requests that are signs of life.
    rhythm: Rhythm,
    /// The times without a packet that went through.
    gaps: Gaps,
    /// Its requests arrived before, and have been missing for too long.
    pub silent: bool,
    /// What comes in from it while it is down or one-way; `None` while unknown.
    pub incoming_kind: Option<Incoming>,
    /// Its requests come from an address that is not its own, so that its SYNs cannot be recognized.
    pub(super) is_rewritten: Option<bool>,
    /// Start of the first failed probe since the last success.
    failing_since: Option<Instant>,
    /// Its large probes.
    pub large: LargeProbes,
    /// What experiments found.
    pub experiments: Experiments,
    /// Whether it rests for a survey.
    pub(super) rest: Rest,
    /// What the last survey found of the pair.
    pub survey: Option<Box<Surveyed>>,
    /// The instance that answered the last successful probe.
    pub responder: Option<Instance>,
    /// Its goodbye is in effect until then.
    pub draining_until: Option<Instant>,
    /// Its tokens, and what it claims.
    pub(super) claims: Claims,
    /// Start of the time in which its requests are expected: it is up, its last probe succeeded, and
    /// it does not drain.
    requests_due_since: Option<Instant>,
    /// The blank probe in flight.
    pub(super) in_flight: Option<ProbeId>,
    /// The verdict on all of this.
    pub verdict: Verdict,
}

/// How many times as long a peer that was flaky before must fail until it is down, and be silent until it is
/// one-way, so that the words do not alternate.
const FLAKY_PATIENCE: u32 = 2;

/// What a scan for half-open connections found of one peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct SynEvidence {
    /// When the scan was made.
    pub(super) scanned: Option<Instant>,
    /// The SYNs from the peer's addresses; `None` without any.
    pub(super) syns: Option<Syns>,
    /// Its packets come from other addresses.
    pub(super) is_rewritten: bool,
}

impl PeerRecord {
    /// The record of a new peer.
    pub(super) fn new(peer: Peer, bounds: usize) -> Self {
        Self {
            peer,
            successes: 0,
            failures: [0; FailureReason::ALL.len()],
            retransmits: 0,
            latency: Histogram::new(bounds),
            rtt: None,
            path_mtu: None,
            cached_path_mtu: None,
            largest_path_mtu: None,
            last_success: None,
            last_failure: None,
            consecutive_failures: 0,
            missed_slots: 0,
            up: None,
            recent: VecDeque::new(),
            older_losses: LossWindow::default(),
            incoming: 0,
            last_incoming: None,
            incoming_retransmits: 0,
            incoming_window: LossWindow::default(),
            announced_interval: None,
            rhythm: Rhythm::default(),
            gaps: Gaps::default(),
            silent: false,
            incoming_kind: None,
            is_rewritten: None,
            failing_since: None,
            large: LargeProbes::default(),
            experiments: Experiments::default(),
            rest: Rest::Never,
            survey: None,
            responder: None,
            draining_until: None,
            claims: Claims::default(),
            requests_due_since: None,
            in_flight: None,
            verdict: Verdict::Unknown,
        }
    }

    /// The peer has another instance or address. Its counters stay, since they belong to the node;
    /// the evidence for a verdict is discarded.
    pub(super) fn relocate(&mut self, peer: Peer) {
        *self = Self {
            successes: self.successes,
            failures: self.failures,
            retransmits: self.retransmits,
            latency: std::mem::take(&mut self.latency),
            last_success: self.last_success,
            last_failure: self.last_failure,
            incoming: self.incoming,
            incoming_retransmits: self.incoming_retransmits,
            gaps: self.gaps,
            large: self.large.counters(),
            survey: self.survey.take(),
            experiments: self.experiments.relocated(self.peer.host == peer.host),
            verdict: self.verdict,
            ..Self::new(peer, 0)
        };
    }

    /// Number of failed probes.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.iter().copied().map(u64::from).sum()
    }

    /// The priority of its next probe.
    #[must_use]
    pub fn priority(&self) -> Priority {
        let healthy = self.up == Some(true) && self.consecutive_failures == 0;
        if healthy { Priority::Healthy } else { Priority::Suspect }
    }

    /// The longest time without a packet that went through, in either direction, over about the last hour; it
    /// grows while nothing does. `None` before the first.
    #[must_use]
    pub fn longest_gap(&self, now: Instant) -> Option<Duration> {
        self.gaps.longest(now)
    }

    /// What experiments need to know.
    pub(super) fn situation(&self) -> Situation {
        Situation {
            address: self.peer.address,
            verdict: self.verdict,
            path_mtu: self.path_mtu,
            largest_path_mtu: self.largest_path_mtu,
        }
    }

    /// Whether no blank probe of it is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }

    pub(super) fn succeed(
        &mut self,
        now: Moment,
        timings: Timings,
        kernel: KernelView,
        bounds: &[f64],
    ) {
        self.successes += 1;
        self.gaps.pass(now.instant);
        self.latency.observe(bounds, timings.total);
        self.rtt = kernel.rtt;
        self.cache_path_mtu(kernel.path_mtu);
        self.last_success = Some(now.wall);
        if self.consecutive_failures > 0 {
            self.experiments.host.turn(false);
        }
        if self.up != Some(true) || self.consecutive_failures > 0 {
            self.up = Some(true);
            // Its silence so far is explained by the outage that has just ended.
            self.requests_due_since = Some(now.instant);
            self.silent = false;
        }
        self.consecutive_failures = 0;
        self.missed_slots = 0;
        self.failing_since = None;
        self.add_sample(now, Ok(timings), timings.total, kernel);
    }

    pub(super) fn fail(
        &mut self,
        now: Moment,
        reason: FailureReason,
        took: Duration,
        kernel: KernelView,
    ) {
        let index = FailureReason::ALL.iter().position(|known| *known == reason);
        if let Some(count) = index.and_then(|index| self.failures.get_mut(index)) {
            *count = count.saturating_add(1);
        }
        self.last_failure = Some((reason, now.wall));
        if self.consecutive_failures == 0 {
            self.experiments.host.turn(true);
        }
        self.large.clear_suspicion();
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.add_sample(now, Err(reason), took, kernel);
    }

    /// Counts the slot of a failed probe, and after a timeout those that passed meanwhile as well: a
    /// timeout above the interval delays no verdict.
    pub(super) fn miss_slots(
        &mut self,
        reason: FailureReason,
        began: Instant,
        took: Duration,
        interval: Duration,
    ) {
        self.failing_since.get_or_insert(began);
        let skipped = match reason {
            FailureReason::ConnectTimeout | FailureReason::ResponseTimeout => {
                u32::try_from(took.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX)
            }
            _ => 0,
        };
        self.missed_slots = self.missed_slots.saturating_add(1).saturating_add(skipped);
    }

    fn add_sample(
        &mut self,
        now: Moment,
        result: Result<Timings, FailureReason>,
        took: Duration,
        kernel: KernelView,
    ) {
        if self.recent.len() == RECENT {
            self.older_losses.add(path::lost(&self.recent, 0));
            self.recent.pop_front();
        } else if self.recent.is_empty() {
            // Otherwise it grows to the next power of two.
            self.recent.reserve_exact(RECENT);
        }
        self.recent.push_back(Sample::new(now.wall, result, took, kernel));
        let counts = match result {
            Ok(_) => path::lost(&self.recent, self.recent.len() - 1) && !self.is_intercepted(),
            Err(_) => true,
        };
        self.retransmits += if counts { u64::from(kernel.retransmits) } else { 0 };
    }

    /// Folds in the answer to a probe: who speaks there, and whether the peer stays.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        began: Instant,
        answer: &Answer,
        terms: Terms,
    ) -> Option<Change> {
        let instances = (self.instance(), answer.instance.as_ref());
        let is_other = matches!(instances, (Some(known), Some(other)) if known != other);
        if self.claims.learn(answer, is_other) {
            self.rhythm.restart();
            // A life that proves no request would push none of the former ones out.
            self.incoming_window = LossWindow::default();
            // Requests of the new life have to become proven first.
            self.requests_due_since = self.requests_due_since.map(|_| now);
        }
        self.responder.clone_from(&answer.instance);
        let is_draining = self.draining_until.is_some();
        let ruling = self.claims.answer(now, began, answer, is_draining, terms)?;
        self.follow(now, ruling)
    }

    /// Folds in the report of a check, if it is the one in flight. It counts neither as a success nor as a
    /// failure: no request moves a counter or a verdict of the peer.
    pub(super) fn end_check(
        &mut self,
        now: Instant,
        report: &Report,
        terms: Terms,
    ) -> Option<Change> {
        let claim = self.claims.end_check(report)?;
        if let Outcome::Success { answer, .. } = &report.outcome {
            return self.learn(now, report.started, answer, terms);
        }
        let is_draining = self.draining_until.is_some();
        let ruling = self.claims.no_answer(now, claim, &report.outcome, is_draining, terms)?;
        self.follow(now, ruling)
    }

    fn follow(&mut self, now: Instant, ruling: Ruling) -> Option<Change> {
        let node = self.peer.node.clone();
        match ruling {
            Ruling::Check => Some(Change::Check(node)),
            Ruling::Pause(holds) => {
                self.draining_until = Some(now + holds);
                Some(Change::Pause(node))
            }
            Ruling::Excuse(holds) => {
                self.draining_until = Some(now + holds);
                None
            }
            Ruling::Resume => {
                self.expire_goodbye(now);
                Some(Change::Resume(node))
            }
        }
    }

    /// Ends the goodbye: the silence until now was announced by it.
    pub(super) fn expire_goodbye(&mut self, now: Instant) {
        self.draining_until = None;
        self.requests_due_since = self.requests_due_since.map(|_| now);
    }

    /// The silence until now says nothing: the peer rested.
    pub(super) fn restart_incoming(&mut self, now: Instant) {
        self.rhythm.resume(now);
    }

    /// The instance that answered last, else that of the peer list.
    pub(super) fn instance(&self) -> Option<&Instance> {
        self.responder.as_ref().or(self.peer.instance.as_ref())
    }

    /// Whether this is the instance of the peer list, or the one that answered a probe (an agent that
    /// does not know its pod's UID); any instance, if neither is known.
    fn is_known_instance(&self, instance: Option<&Instance>) -> bool {
        let known = [self.peer.instance.as_ref(), self.responder.as_ref()];
        known == [None, None] || (instance.is_some() && known.contains(&instance))
    }

    /// Updates the verdict, and returns the change if there is one.
    pub(super) fn update_verdict(&mut self, failure_threshold: u32) -> Option<Change> {
        let failures = Failures::of(&self.recent);
        let patience = if failures.before_last_run().alternate() { FLAKY_PATIENCE } else { 1 };
        if self.missed_slots >= failure_threshold.saturating_mul(patience) {
            self.up = Some(false);
        }
        let known = match self.verdict {
            Verdict::Flaky(reason) => Some(reason),
            _ => None,
        };
        // Until the last failure has left the window: between the two failing runs of a rare fault, there may be
        // one only.
        let flaky = failures.alternate() || (known.is_some() && failures.any());
        let evidence = Evidence {
            draining: self.draining_until.is_some(),
            up: self.up,
            last_failure: self.last_failure.map(|(reason, _)| reason),
            // A peer whose probes fail as well is on its way down.
            silent: self.silent && self.consecutive_failures == 0,
            flaky: flaky.then(|| most_frequent(self.recent.iter(), known)).flatten(),
            lossy: self.loses_packets(),
            mtu: self.large.fault(self.path_mtu < self.largest_path_mtu),
        };
        let to = evidence.verdict();
        if !matches!(to, Verdict::Down(_) | Verdict::OneWay) {
            self.incoming_kind = None;
        }
        let from = std::mem::replace(&mut self.verdict, to);
        if from == to {
            return None;
        }
        self.experiments.follow(to);
        if matches!(to, Verdict::Down(_) | Verdict::OneWay) {
            // The requests before the fault tell nothing of the path after it, however few come meanwhile.
            self.incoming_window = LossWindow::default();
        }
        Some(Change::Verdict { node: self.peer.node.clone(), from, to })
    }
}
