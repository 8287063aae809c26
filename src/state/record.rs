//! The state of one peer, and how each event changes it. Pure.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use super::claims::{Claims, Ruling, Standing, Terms};
use super::flaky::{Failures, most_frequent};
use super::gap::Gaps;
use super::large::{LargeProbes, Strain};
use super::path;
use super::rhythm::{Rhythm, longest_silence};
use super::samples::{Histogram, IncomingWindow, RECENT, Sample};
use super::verdict::{Evidence, Incoming, Verdict};
use super::{Change, Moment};
use crate::name::{Instance, NodeName};
use crate::peer::Peer;
use crate::probe::{
    Answer, FailureReason, KernelView, Large, Outcome, Priority, ProbeId, Report, Timings,
};
use crate::token::TokenKey;
use crate::wire::KeepAlive;

/// The state of one peer.
#[derive(Debug, Clone)]
pub struct PeerRecord {
    /// The peer's identity and addresses.
    pub peer: Peer,
    /// Probes that succeeded.
    pub successes: u64,
    /// Probes that failed, in the order of [`FailureReason::ALL`].
    pub failures: [u64; FailureReason::ALL.len()],
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
    /// Keep-alive requests received from it.
    pub incoming: u64,
    /// When its last request arrived.
    pub last_incoming: Option<Moment>,
    /// Segments that were retransmitted to it in answers to its proven requests, SYN-ACKs included.
    pub incoming_retransmits: u32,
    /// Its last proven requests.
    incoming_window: IncomingWindow,
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

/// Successful probes with a retransmit among the recent ones that make a path lossy: one is chance, as
/// on every path through the Internet; two in three minutes are not. Failed probes do not count: an
/// outage loses every packet, and has a verdict of its own.
const LOSSY_PROBES: usize = 2;

/// The same for requests of the peer whose SYN-ACK or answer needed a retransmit: what this node sends to it
/// is lost. The peer's own probes show none of it.
const LOSSY_REQUESTS: u8 = 2;

/// How many times as long a peer that was flaky before must fail until it is down, and be silent until it is
/// one-way, so that the words do not alternate.
const FLAKY_PATIENCE: u32 = 2;

/// Intervals of a peer within which something of it arrives if it lives and its path does.
const SILENT_INTERVALS: u32 = 2;
/// A probe that takes so long leaves a large one, which ends after 3 s, no time for three retransmits.
const SLOW: Duration = Duration::from_secs(1);
/// How much later an answer comes that was sent again: the kernel's shortest RTO (TCP_RTO_MIN, 200 ms), less
/// what one answer varies more than the last 20.
const LATE_ANSWER: Duration = Duration::from_millis(180);

/// Longest transit time of a SYN.
const MAX_SYN_TRANSIT: Duration = Duration::from_millis(500);
/// The interval of a peer that never announced one.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// What a scan for half-open connections found of one peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct SynEvidence {
    /// When the scan was made.
    pub(super) scanned: Option<Instant>,
    /// When the last SYN from one of the peer's addresses arrived.
    pub(super) syn: Option<Instant>,
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
            incoming: 0,
            last_incoming: None,
            incoming_retransmits: 0,
            incoming_window: IncomingWindow::default(),
            announced_interval: None,
            rhythm: Rhythm::default(),
            gaps: Gaps::default(),
            silent: false,
            incoming_kind: None,
            is_rewritten: None,
            failing_since: None,
            large: LargeProbes::default(),
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
            verdict: self.verdict,
            ..Self::new(peer, 0)
        };
    }

    /// Number of failed probes.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
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

    /// Whether so many recent probes needed a retransmit that the path loses packets.
    pub(super) fn is_lossy(&self) -> bool {
        self.lossy_probes() >= LOSSY_PROBES
    }

    /// Recent successes that needed a retransmit because of a loss. None where something answers handshakes in
    /// place of the peer: they tell nothing of the path.
    #[must_use]
    pub fn lossy_probes(&self) -> usize {
        if self.is_intercepted() {
            return 0;
        }
        (0..self.recent.len()).filter(|index| path::lost(&self.recent, *index)).count()
    }

    /// Whether something completes handshakes in place of the peer.
    #[must_use]
    pub fn is_intercepted(&self) -> bool {
        path::is_intercepted(&self.recent)
    }

    /// Whether it is down only because twice the round trip exceeds the timeout.
    #[must_use]
    pub fn is_slower_than_timeout(&self) -> bool {
        self.verdict == Verdict::Down(FailureReason::ResponseTimeout)
            && path::too_slow(&self.recent).is_some()
    }

    /// The round-trip time of the last success; `None` if something else answers handshakes.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.filter(|_| !self.is_intercepted())
    }

    /// As [`Self::rtt`], while one of the recent probes succeeded.
    #[must_use]
    pub fn recent_rtt(&self) -> Option<Duration> {
        self.rtt().filter(|_| self.recent.iter().any(|sample| sample.failure().is_none()))
    }

    /// How long one round trip takes now, if that is known.
    #[must_use]
    pub fn expected_round_trip(&self) -> Option<Duration> {
        path::too_slow(&self.recent).or_else(|| self.recent_rtt())
    }

    /// Whether its probes fail and succeed in turns.
    pub(super) fn is_flaky(&self) -> bool {
        matches!(self.verdict, Verdict::Flaky(_)) || Failures::of(&self.recent).alternate()
    }

    /// Failures among the recent probes, and how many these are.
    #[must_use]
    pub fn recent_failures(&self) -> (usize, usize) {
        let failed = self.recent.iter().filter(|sample| sample.failure().is_some()).count();
        (failed, self.recent.len())
    }

    /// The longest total and response time of the recent successful probes.
    fn longest_times(&self) -> Option<(Duration, Duration)> {
        let times = self.recent.iter().filter_map(|sample| sample.result().ok());
        let times = times.map(|(connect, total)| (total, total.saturating_sub(connect)));
        times.reduce(|longest, (total, response)| (longest.0.max(total), longest.1.max(response)))
    }

    /// Whether the path is so slow that a large probe has no time for retransmits.
    pub(super) fn is_slow_for_large(&self) -> bool {
        self.longest_times().is_some_and(|(total, _)| total >= SLOW)
    }

    /// How a large probe that succeeded went through in each direction. Of its request the kernel tells; an
    /// answer was sent again if it comes later than any recent one by nearly an RTO, and the request was not.
    pub(super) fn strain_of(&self, report: &Report) -> Strain {
        let request = report.kernel.is_some_and(|kernel| kernel.request_retransmits() > 0);
        let late = match (&report.outcome, self.longest_times()) {
            (Outcome::Success { timings, .. }, Some((_, usual))) => {
                timings.response >= usual + LATE_ANSWER
            }
            _ => false,
        };
        let clean = self.recent.iter().all(|sample| sample.retransmits == 0);
        Strain {
            outgoing: if request { clean.then_some(true) } else { Some(false) },
            incoming: if late { (clean && !request).then_some(true) } else { Some(false) },
        }
    }

    /// Takes the kernel's path MTU of a blank probe. That it is larger again shows only that its cache has
    /// forgotten a router's word: the next large probe hears it again, or passes.
    fn cache_path_mtu(&mut self, path_mtu: Option<u32>) {
        let Some(cached) = path_mtu.filter(|_| path_mtu != self.cached_path_mtu) else { return };
        self.cached_path_mtu = Some(cached);
        let forgotten = self.path_mtu < self.largest_path_mtu && self.path_mtu < Some(cached);
        if !forgotten || !self.large.are_supported() {
            self.path_mtu = Some(cached);
        }
        self.largest_path_mtu = self.largest_path_mtu.max(self.path_mtu);
    }

    /// Bytes of the packet that a large probe sends past the kernel's cache, which has a smaller path MTU than
    /// there was.
    pub(super) fn packet_to_ask(&self) -> Option<u32> {
        self.largest_path_mtu.filter(|_| self.cached_path_mtu < self.largest_path_mtu)
    }

    /// Takes the path MTU that a large probe of full-size requests has learned.
    pub(super) fn learn_path_mtu(&mut self, large: Large, report: &Report) {
        let is_success = matches!(report.outcome, Outcome::Success { .. });
        let learned = report.kernel.and_then(|kernel| kernel.path_mtu).filter(|_| is_success);
        let Some(learned) = learned else { return };
        match large {
            Large::Request { packet: Some(_) } => self.path_mtu = Some(learned),
            Large::Answer => {}
            Large::Both | Large::Request { packet: None } => {
                self.cached_path_mtu = Some(learned);
                self.path_mtu = Some(learned);
            }
        }
        self.largest_path_mtu = self.largest_path_mtu.max(self.path_mtu);
    }

    /// Mean retransmits of the recent successful probes; `None` without any.
    #[must_use]
    pub fn retransmits_per_probe(&self) -> Option<f64> {
        let good = self.recent.iter().enumerate().filter(|(_, sample)| sample.result().is_ok());
        let (probes, sum) = good.fold((0_u32, 0_u32), |(probes, sum), (index, sample)| {
            let lost = path::lost(&self.recent, index);
            (probes + 1, sum + if lost { u32::from(sample.retransmits) } else { 0 })
        });
        (probes > 0).then(|| f64::from(sum) / f64::from(probes))
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
            *count += 1;
        }
        self.last_failure = Some((reason, now.wall));
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

    /// Counts a request to the agent of `own_node`, which has this key, and rules on what it claims.
    pub(super) fn receive_request(
        &mut self,
        now: Moment,
        (request, client): (&KeepAlive, Option<IpAddr>),
        (own_node, key): (&NodeName, &TokenKey),
        terms: Terms,
    ) -> Option<Change> {
        self.incoming += 1;
        self.last_incoming = Some(now);
        let had_proven = self.claims.has_proven;
        let is_proof = self.claims.identify(request, key, own_node);
        if is_proof {
            self.incoming_window.add();
        }
        if is_proof && !had_proven {
            self.rhythm.restart();
            self.announced_interval = None;
        }
        if is_proof || !self.claims.has_proven {
            let known = self.announced_interval;
            self.announced_interval = Rhythm::announce(known, request.interval, is_proof);
            self.rhythm.hear(now.instant);
            self.gaps.pass(now.instant);
            self.silent = false;
            let is_own = |client: IpAddr| self.addresses().any(|own| own == client.to_canonical());
            self.is_rewritten = client.map(|client| !is_own(client)).or(self.is_rewritten);
        }
        let standing = Standing {
            is_known: self.is_known_instance(request.instance.as_ref()),
            is_listed: self.peer.instance.is_some(),
            is_draining: self.draining_until.is_some(),
            is_failing: self.consecutive_failures > 0,
        };
        let ruling = self.claims.claim(now.instant, request.goodbye, is_proof, standing, terms)?;
        self.follow(now.instant, ruling)
    }

    /// Counts retransmits to a peer that has proven the request.
    pub(super) fn count_incoming_retransmits(&mut self, segments: u32) {
        self.incoming_retransmits = self.incoming_retransmits.saturating_add(segments);
        self.incoming_window.mark();
    }

    /// Of its last [`RECENT`] proven requests, those whose SYN-ACK or answer needed a retransmit.
    #[must_use]
    pub fn recent_incoming_retransmits(&self) -> u8 {
        self.incoming_window.marked()
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

    /// Whether expected requests have been missing for three of its intervals and a timeout.
    /// Only if requests arrived before, so that upgrades with mixed settings raise no false alarm, and
    /// only for the time that the peer was up: after an outage this agent's probe may come first.
    pub(super) fn is_silent(
        &self,
        now: Instant,
        listening_since: Option<Instant>,
        own_interval: Duration,
    ) -> bool {
        match (self.rhythm.last(), self.announced_interval, self.requests_due_since) {
            (Some(last), Some(announced), Some(due)) if self.draining_until.is_none() => {
                let since = last.max(due).max(listening_since.unwrap_or(due));
                let proven = self.claims.has_proven;
                let interval = self.rhythm.expected(announced, proven, own_interval);
                // Of a peer that is reached now and then, requests are lost as well.
                let times = if self.is_flaky() { FLAKY_PATIENCE } else { 1 };
                now.saturating_duration_since(since) > longest_silence(interval) * times
            }
            _ => false,
        }
    }

    /// Its known addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let peer = &self.peer;
        let all = peer.other_addresses.iter().copied().chain([peer.address.ip()]);
        all.map(|address| address.to_canonical())
    }

    /// Whether it matters what comes in from it: it is down, about to be, or one-way.
    pub(super) fn awaits_incoming(&self) -> bool {
        self.failing_since.is_some()
            || self.verdict == Verdict::OneWay
            || self.incoming_kind.is_some()
    }

    /// What comes in from it while it is down or one-way. It must have arrived after the fault began: a SYN
    /// that was in transit when both directions broke is listed as well. A whole request proves that the
    /// SYN-ACK arrived, so that the path loses packets at random, or drops new connections only. That nothing
    /// comes in is known once a peer that lives would have sent something, and a scan was made since.
    pub(super) fn judge_incoming(
        &self,
        now: Instant,
        listening_since: Option<Instant>,
        seen: SynEvidence,
    ) -> Option<Incoming> {
        let began = match self.verdict {
            Verdict::Down(_) => self.failing_since,
            Verdict::OneWay => self.rhythm.last(),
            _ => None,
        }?;
        let began = listening_since.map_or(began, |since| since.max(began)) + MAX_SYN_TRANSIT;
        let interval = self.announced_interval.unwrap_or(DEFAULT_INTERVAL);
        let longest = longest_silence(interval);
        let counts = |at: &Instant| *at > began && now.saturating_duration_since(*at) <= longest;
        let SynEvidence { scanned, syn, is_rewritten } = seen;
        if self.rhythm.last().filter(counts).is_some() {
            Some(Incoming::Requests)
        } else if is_rewritten {
            None
        } else if syn.filter(counts).is_some() {
            Some(Incoming::Syns)
        } else {
            let is_known = scanned.is_some_and(|at| at >= began + interval * SILENT_INTERVALS);
            is_known.then_some(Incoming::Nothing)
        }
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
            lossy: self.is_lossy() || self.incoming_window.marked() >= LOSSY_REQUESTS,
            mtu: self.large.fault(self.path_mtu < self.largest_path_mtu),
        };
        let to = evidence.verdict();
        if !matches!(to, Verdict::Down(_) | Verdict::OneWay) {
            self.incoming_kind = None;
        }
        let from = std::mem::replace(&mut self.verdict, to);
        (from != to).then(|| Change::Verdict { node: self.peer.node.clone(), from, to })
    }
}
