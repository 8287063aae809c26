//! The state of one peer, and how each event changes it. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::large::LargeProbes;
use super::verdict::{Evidence, Verdict};
use super::{Change, Moment};
use crate::name::Instance;
use crate::peer::Peer;
use crate::probe::{FailureReason, KernelView, Priority, ProbeId, Timings};
use crate::wire::KeepAlive;

/// Number of recent probes that are stored for people and for the verdict `lossy`: three minutes at
/// the default interval, 480 bytes a peer.
pub const RECENT: usize = 20;

/// A latency histogram; its bounds are stored elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Observations in each bucket, not cumulative; the last bucket is above every bound.
    pub counts: Box<[u64]>,
    /// Sum of all observations in seconds.
    pub sum: f64,
}

impl Histogram {
    /// An empty histogram for that many bounds.
    #[must_use]
    pub fn new(bounds: usize) -> Self {
        Self { counts: vec![0; bounds + 1].into(), sum: 0.0 }
    }

    /// Counts one observation.
    pub fn observe(&mut self, bounds: &[f64], value: Duration) {
        let seconds = value.as_secs_f64();
        let bucket = bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }
}

/// One recent probe, packed: a large mesh stores 20,000 of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// End of the probe, in milliseconds since 1970.
    ended_millis: u64,
    /// Retransmitted segments.
    pub retransmits: u16,
    failure: Option<FailureReason>,
    connect_micros: u32,
    total_micros: u32,
}

impl Sample {
    fn new(ended: SystemTime, result: Result<Timings, FailureReason>, retransmits: u32) -> Self {
        // The longest timeout is a minute; an hour of microseconds fits.
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let timings = result.ok();
        let ended = ended.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            ended_millis: u64::try_from(ended).unwrap_or(u64::MAX),
            retransmits: u16::try_from(retransmits).unwrap_or(u16::MAX),
            failure: result.err(),
            connect_micros: timings.map_or(0, |timings| micros(timings.connect)),
            total_micros: timings.map_or(0, |timings| micros(timings.total)),
        }
    }

    /// End of the probe, in milliseconds since 1970.
    #[must_use]
    pub fn at_millis(&self) -> u64 {
        self.ended_millis
    }

    /// Connect time and total time.
    ///
    /// # Errors
    /// The reason of a failed probe.
    pub fn result(&self) -> Result<(Duration, Duration), FailureReason> {
        let micros = |micros: u32| Duration::from_micros(micros.into());
        match self.failure {
            Some(reason) => Err(reason),
            None => Ok((micros(self.connect_micros), micros(self.total_micros))),
        }
    }
}

/// An accepted goodbye.
#[derive(Debug, Clone)]
struct Goodbye {
    /// The instance that sent it.
    instance: Option<Instance>,
    /// End of the announced drain.
    drained: Instant,
    /// An answer after its end showed that the peer stays: the next goodbye may be accepted.
    refuted: bool,
}

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
    /// The kernel's round-trip time in the last probe without a retransmit.
    pub rtt: Option<Duration>,
    /// The kernel's path MTU, in bytes.
    pub path_mtu: Option<u32>,
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
    /// The interval that it announces.
    pub announced_interval: Option<Duration>,
    /// Its requests arrived before, and have been missing for too long.
    pub silent: bool,
    /// While it is down because SYNs to it are not answered: whether its own SYNs arrive. Then only
    /// the path to it is broken.
    pub incoming_syns_only: Option<bool>,
    /// Start of the first failed probe since the last success.
    failing_since: Option<Instant>,
    /// Its large probes.
    pub large: LargeProbes,
    /// The instance that answered the last successful probe.
    pub responder: Option<Instance>,
    /// Its goodbye is in effect until then.
    pub draining_until: Option<Instant>,
    /// The last accepted goodbye.
    goodbye: Option<Box<Goodbye>>,
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

/// Longest silence of something that comes once an interval: two may be lost, and the next may be as
/// late as the default timeout.
fn longest_silence(interval: Duration) -> Duration {
    const LATE: Duration = Duration::from_secs(5);
    interval * 3 + LATE
}

/// Longest transit time of a SYN.
const MAX_SYN_TRANSIT: Duration = Duration::from_millis(500);
/// The interval of a peer that never announced one.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

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
            largest_path_mtu: None,
            last_success: None,
            last_failure: None,
            consecutive_failures: 0,
            missed_slots: 0,
            up: None,
            recent: VecDeque::new(),
            incoming: 0,
            last_incoming: None,
            announced_interval: None,
            silent: false,
            incoming_syns_only: None,
            failing_since: None,
            large: LargeProbes::default(),
            responder: None,
            draining_until: None,
            goodbye: None,
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

    /// Whether so many recent probes needed a retransmit that the path loses packets.
    pub(super) fn is_lossy(&self) -> bool {
        let lossy = |sample: &&Sample| sample.result().is_ok() && sample.retransmits > 0;
        self.recent.iter().filter(lossy).count() >= LOSSY_PROBES
    }

    /// Mean retransmits of the recent successful probes; `None` without any.
    #[must_use]
    pub fn retransmits_per_probe(&self) -> Option<f64> {
        let good = self.recent.iter().filter(|sample| sample.result().is_ok());
        let (probes, sum) = good.fold((0_u32, 0_u32), |(probes, sum), sample| {
            (probes + 1, sum + u32::from(sample.retransmits))
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
        self.latency.observe(bounds, timings.total);
        self.rtt = kernel.rtt.or(self.rtt);
        self.path_mtu = kernel.path_mtu.or(self.path_mtu);
        self.largest_path_mtu = self.largest_path_mtu.max(kernel.path_mtu);
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
        self.add_sample(now, Ok(timings), kernel);
    }

    pub(super) fn fail(&mut self, now: Moment, reason: FailureReason, kernel: KernelView) {
        let index = FailureReason::ALL.iter().position(|known| *known == reason);
        if let Some(count) = index.and_then(|index| self.failures.get_mut(index)) {
            *count += 1;
        }
        self.last_failure = Some((reason, now.wall));
        self.large.clear_suspicion();
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.add_sample(now, Err(reason), kernel);
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
        kernel: KernelView,
    ) {
        self.retransmits += u64::from(kernel.retransmits);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        } else if self.recent.is_empty() {
            // Otherwise it grows to the next power of two.
            self.recent.reserve_exact(RECENT);
        }
        self.recent.push_back(Sample::new(now.wall, result, kernel.retransmits));
    }

    pub(super) fn receive_request(&mut self, now: Moment, request: &KeepAlive) {
        self.incoming += 1;
        self.last_incoming = Some(now);
        self.announced_interval = if self.is_known_instance(request.instance.as_ref()) {
            request.interval.or(self.announced_interval)
        } else {
            // Perhaps a new instance with other settings, perhaps forged: waiting longer does no harm,
            // waiting less might.
            request.interval.max(self.announced_interval)
        };
        self.silent = false;
    }

    /// Accepts a goodbye of the known instance, for its drain and one refresh of the peer list. The
    /// next one is accepted only after an answer has refuted this one: repeating a forged goodbye
    /// hides an outage no longer than sending it once.
    pub(super) fn accept_goodbye(
        &mut self,
        now: Instant,
        instance: Option<&Instance>,
        drain: Duration,
        refresh_within: Duration,
    ) -> Option<Change> {
        let pending = self.goodbye.as_ref().is_some_and(|goodbye| !goodbye.refuted);
        if pending || !self.is_known_instance(instance) {
            return None;
        }
        let (instance, drained) = (instance.cloned(), now + drain);
        self.goodbye = Some(Box::new(Goodbye { instance, drained, refuted: false }));
        self.draining_until = Some(drained + refresh_within);
        Some(Change::Pause(self.peer.node.clone()))
    }

    /// An answer shows that the peer stays: its next goodbye may be accepted.
    pub(super) fn refute_goodbye(&mut self) {
        if let Some(goodbye) = self.goodbye.as_mut().filter(|_| self.draining_until.is_none()) {
            goodbye.refuted = true;
        }
    }

    /// Whether a blank request shows that a draining peer is back: as another instance at the known
    /// address, or as the same pod, restarted after its drain.
    pub(super) fn ends_goodbye(&self, now: Instant, instance: Option<&Instance>) -> bool {
        let Some(goodbye) = self.goodbye.as_ref().filter(|_| self.draining_until.is_some()) else {
            return false;
        };
        if goodbye.instance.as_ref() == instance {
            now > goodbye.drained
        } else {
            // A new pod has another address, which only discovery can provide.
            self.peer.instance.is_none()
        }
    }

    /// Ends the goodbye: the silence until now was announced by it.
    pub(super) fn expire_goodbye(&mut self, now: Instant) {
        self.draining_until = None;
        self.requests_due_since = self.requests_due_since.map(|_| now);
    }

    /// Whether this is the instance of the peer list, or the one that answered a probe (an agent that
    /// does not know its pod's UID); any instance, if neither is known.
    fn is_known_instance(&self, instance: Option<&Instance>) -> bool {
        let known = [self.peer.instance.as_ref(), self.responder.as_ref()];
        known == [None, None] || (instance.is_some() && known.contains(&instance))
    }

    /// Whether expected requests have been missing for three announced intervals and a timeout.
    /// Only if requests arrived before, so that upgrades with mixed settings raise no false alarm, and
    /// only for the time that the peer was up: after an outage this agent's probe may come first.
    pub(super) fn is_silent(&self, now: Instant, listening_since: Option<Instant>) -> bool {
        match (self.last_incoming, self.announced_interval, self.requests_due_since) {
            (Some(last), Some(interval), Some(due)) if self.draining_until.is_none() => {
                let since = last.instant.max(due).max(listening_since.unwrap_or(due));
                now.saturating_duration_since(since) > longest_silence(interval)
            }
            _ => false,
        }
    }

    /// Whether a half-open SYN of it proves that only the path to it is broken. The SYN must have
    /// arrived after probes began to fail: one that was in transit when both directions broke is
    /// listed as well. And no complete request may have arrived since: it proves that the SYN-ACK
    /// arrived, so that the path loses packets at random, or drops new connections only.
    pub(super) fn proves_incoming_syns_only(&self, now: Instant, arrival: Instant) -> bool {
        let Some(failing) = self.failing_since.map(|since| since + MAX_SYN_TRANSIT) else {
            return false;
        };
        let complete = self.last_incoming.is_some_and(|last| last.instant > failing);
        let longest = longest_silence(self.announced_interval.unwrap_or(DEFAULT_INTERVAL));
        arrival > failing && !complete && now.saturating_duration_since(arrival) <= longest
    }

    /// Updates the verdict, and returns the change if there is one.
    pub(super) fn update_verdict(&mut self, failure_threshold: u32) -> Option<Change> {
        if self.missed_slots >= failure_threshold {
            self.up = Some(false);
        }
        let evidence = Evidence {
            draining: self.draining_until.is_some(),
            up: self.up,
            last_failure: self.last_failure.map(|(reason, _)| reason),
            // A peer whose probes fail as well is on its way down.
            silent: self.silent && self.consecutive_failures == 0,
            lossy: self.is_lossy(),
            drops_full_size: self.large.drops_full_size(),
            path_mtu_shrunk: self.path_mtu < self.largest_path_mtu,
        };
        let to = evidence.verdict();
        let unanswered = to == Verdict::Down(FailureReason::ConnectTimeout);
        self.incoming_syns_only = unanswered.then(|| self.incoming_syns_only.unwrap_or(false));
        let from = std::mem::replace(&mut self.verdict, to);
        (from != to).then(|| Change::Verdict { node: self.peer.node.clone(), from, to })
    }
}
