//! What is known of one peer, and how one outcome changes it. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::large::LargeProbes;
use super::verdict::{Evidence, Verdict};
use super::{Change, Moment, largest};
use crate::name::Instance;
use crate::peer::Peer;
use crate::probe::{FailureReason, KernelView, Priority, ProbeId, Timings};
use crate::wire::KeepAlive;

/// How many of the last probes are kept for people and for the judgement of loss: three minutes at
/// the default interval, 480 octets a peer.
pub const RECENT: usize = 20;

/// A latency histogram with its own bounds elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Observations in each bucket, not cumulated; the last is beyond every bound.
    pub counts: Box<[u64]>,
    /// Sum of all observations in seconds.
    pub sum: f64,
}

impl Histogram {
    /// An empty one for that many bounds.
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

/// One of the last probes, packed: a large mesh keeps twenty thousand of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When it ended, in milliseconds since 1970.
    at: u64,
    /// Segments that were sent again.
    pub retransmits: u16,
    failure: Option<FailureReason>,
    connect_micros: u32,
    total_micros: u32,
}

impl Sample {
    fn new(at: SystemTime, result: Result<Timings, FailureReason>, retransmits: u32) -> Self {
        // The longest timeout is a minute: an hour of microseconds fits.
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let timings = result.ok();
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            at: u64::try_from(at).unwrap_or(u64::MAX),
            retransmits: u16::try_from(retransmits).unwrap_or(u16::MAX),
            failure: result.err(),
            connect_micros: timings.map_or(0, |timings| micros(timings.connect)),
            total_micros: timings.map_or(0, |timings| micros(timings.total)),
        }
    }

    /// When it ended, in milliseconds since 1970.
    #[must_use]
    pub fn at_millis(&self) -> u64 {
        self.at
    }

    /// Time to established and total time, or why it failed.
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

/// A goodbye that was believed.
#[derive(Debug, Clone)]
struct Goodbye {
    /// The life that said it.
    instance: Option<Instance>,
    /// Until when it said that it answers.
    drained: Instant,
    /// A probe has been answered since it was over, and not by "draining": the next one may be
    /// believed.
    refuted: bool,
}

/// What is known of one peer.
#[derive(Debug, Clone)]
pub struct PeerRecord {
    /// Who it is.
    pub peer: Peer,
    /// Probes that succeeded.
    pub successes: u64,
    /// Probes that failed, in the order of [`FailureReason::ALL`].
    pub failures: [u64; FailureReason::ALL.len()],
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Total times of the successful probes.
    pub latency: Histogram,
    /// The kernel's round-trip time of the last probe that needed no retransmit.
    pub rtt: Option<Duration>,
    /// The kernel's path MTU, in bytes.
    pub path_mtu: Option<u32>,
    /// The largest that was ever told.
    pub largest_path_mtu: Option<u32>,
    /// When the last success was.
    pub last_success: Option<SystemTime>,
    /// When the last failure was, and of what kind.
    pub last_failure: Option<(FailureReason, SystemTime)>,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Slots since the last success that brought none.
    missed_slots: u32,
    /// Whether it counts as up; `None` until a success, or until enough failures.
    pub up: Option<bool>,
    /// The last probes, oldest first, at most [`RECENT`].
    pub recent: VecDeque<Sample>,
    /// Keep-alive requests that it sent us.
    pub incoming: u64,
    /// When its last request came.
    pub last_incoming: Option<Moment>,
    /// The interval that it announces.
    pub announced_interval: Option<Duration>,
    /// It was heard before, and has been silent for too long.
    pub silent: bool,
    /// While it is down because our SYNs are not answered: whether its own come here. Then the way to
    /// it is broken, and the one from it is not.
    pub incoming_syns_only: Option<bool>,
    /// When the first of the failures since the last success began.
    failing_since: Option<Instant>,
    /// What its large probes tell.
    pub large: LargeProbes,
    /// The life that answered the last successful probe.
    pub answered_by: Option<Instance>,
    /// Its goodbye is believed until then.
    pub draining_until: Option<Instant>,
    /// The goodbye that was believed last.
    goodbye: Option<Box<Goodbye>>,
    /// Since when its requests are due: up, its last probe succeeded, not draining.
    requests_due_since: Option<Instant>,
    /// The probe in flight, and since when.
    pub(super) in_flight: Option<(ProbeId, Instant)>,
    /// What all of this amounts to.
    pub verdict: Verdict,
}

/// Successful probes that needed a retransmit, among the last twenty, that make a path lossy: one
/// is chance, as on every path through the Internet; two in three minutes are not. Failures do not
/// count: an outage loses every packet, and is told as what it is.
const LOSSY_PROBES: usize = 2;

/// After what silence something that comes once an interval is missing: it may be lost twice, and be
/// as late as the longest default timeout.
fn longest_silence(interval: Duration) -> Duration {
    const LATE: Duration = Duration::from_secs(5);
    interval * 3 + LATE
}

/// No SYN is under way for longer.
const MAX_SYN_TRANSIT: Duration = Duration::from_millis(500);
/// Of a peer that never announced one: the default.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

impl PeerRecord {
    /// Nothing known yet.
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
            answered_by: None,
            draining_until: None,
            goodbye: None,
            requests_due_since: None,
            in_flight: None,
            verdict: Verdict::Unknown,
        }
    }

    /// Failed probes, whatever the reason.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Whether the last probe succeeded, at the place where it is now.
    fn is_healthy(&self) -> bool {
        self.up == Some(true) && self.consecutive_failures == 0
    }

    /// Where its next probe waits when workers are short.
    #[must_use]
    pub fn priority(&self) -> Priority {
        if self.is_healthy() { Priority::Healthy } else { Priority::Suspect }
    }

    /// Whether so many of the last probes needed a retransmit that the path loses packets.
    pub(super) fn is_lossy(&self) -> bool {
        let mended = |sample: &&Sample| sample.result().is_ok() && sample.retransmits > 0;
        self.recent.iter().filter(mended).count() >= LOSSY_PROBES
    }

    /// Retransmits for each successful one of the last probes; `None` without any.
    #[must_use]
    pub fn retransmits_per_probe(&self) -> Option<f64> {
        let good = self.recent.iter().filter(|sample| sample.result().is_ok());
        let (probes, sum) = good.fold((0_u32, 0_u32), |(probes, sum), sample| {
            (probes + 1, sum + u32::from(sample.retransmits))
        });
        (probes > 0).then(|| f64::from(sum) / f64::from(probes))
    }

    /// Whether no probe of it is in flight.
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
        self.largest_path_mtu = largest(self.largest_path_mtu, kernel);
        self.last_success = Some(now.wall);
        if self.up != Some(true) || self.consecutive_failures > 0 {
            self.up = Some(true);
            // Whatever it was silent for, neither did ours reach it.
            self.requests_due_since = Some(now.instant);
            self.silent = false;
        }
        self.consecutive_failures = 0;
        self.missed_slots = 0;
        self.failing_since = None;
        self.add_sample(now, Ok(timings), kernel);
    }

    /// An answer says that the peer stays: its next goodbye may be believed.
    pub(super) fn refute_goodbye(&mut self) {
        if let Some(goodbye) = self.goodbye.as_mut().filter(|_| self.draining_until.is_none()) {
            goodbye.refuted = true;
        }
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

    /// The failing probe ran from `began` to `ended`. Its own slot brought nothing, and where nobody
    /// answered, nor did those that came meanwhile: a timeout above the interval delays no verdict.
    pub(super) fn count_missed_slots(
        &mut self,
        reason: FailureReason,
        began: Instant,
        ended: Instant,
        interval: Duration,
    ) {
        self.failing_since.get_or_insert(began);
        let took = ended.saturating_duration_since(began);
        let held_up = match reason {
            FailureReason::ConnectTimeout | FailureReason::ResponseTimeout => {
                u32::try_from(took.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX)
            }
            _ => 0,
        };
        self.missed_slots = self.missed_slots.saturating_add(1).saturating_add(held_up);
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
            // Left to itself it would grow to the next power of two.
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
            // Perhaps a new life with other settings: more patience harms nobody, less might.
            request.interval.max(self.announced_interval)
        };
        self.silent = false;
    }

    /// The peer is another life or at another place: what was counted stays, since it is counted
    /// by node; what was judged is forgotten.
    pub(super) fn relocate(&mut self, peer: Peer) {
        let new = Self::new(peer, 0);
        let old = std::mem::replace(self, new);
        self.successes = old.successes;
        self.failures = old.failures;
        self.retransmits = old.retransmits;
        self.latency = old.latency;
        self.last_success = old.last_success;
        self.last_failure = old.last_failure;
        self.incoming = old.incoming;
        self.large = old.large.counts_only();
        self.verdict = old.verdict;
    }

    /// Believes a goodbye of the life that we know. The next one is believed only after a probe has
    /// found it staying: repeating a forged goodbye hides an outage no longer than one.
    pub(super) fn goodbye(
        &mut self,
        now: Instant,
        instance: Option<&Instance>,
        drain: Duration,
        until: Instant,
    ) -> Option<Change> {
        if !self.is_known_instance(instance)
            || self.goodbye.as_ref().is_some_and(|before| !before.refuted)
        {
            return None;
        }
        let instance = instance.cloned();
        let goodbye = Goodbye { instance, drained: now + drain, refuted: false };
        self.goodbye = Some(Box::new(goodbye));
        self.draining_until = Some(until);
        Some(Change::Pause(self.peer.node.clone()))
    }

    /// Whether this is the life that the list names, or the one that answered a probe of ours (an
    /// agent that does not know its pod's UID); any, as long as we know none.
    fn is_known_instance(&self, instance: Option<&Instance>) -> bool {
        let known = [self.peer.instance.as_ref(), self.answered_by.as_ref()];
        known == [None, None] || (instance.is_some() && known.contains(&instance))
    }

    /// Whether a blank request shows that a peer which said goodbye is back: as another life at
    /// the address that we know, or as the same pod, started anew after its drain was over.
    pub(super) fn ends_goodbye(&self, now: Instant, instance: Option<&Instance>) -> bool {
        let Some(said) = self.goodbye.as_ref().filter(|_| self.draining_until.is_some()) else {
            return false;
        };
        let same = said.instance.as_ref() == instance;
        // A new pod is found at another address: discovery must tell it first.
        let same_address = self.peer.instance.is_none();
        if same { now > said.drained } else { same_address }
    }

    /// Its goodbye is over: what it was silent for since, it had announced.
    pub(super) fn expire_goodbye(&mut self, now: Instant) {
        self.draining_until = None;
        self.requests_due_since = self.requests_due_since.map(|_| now);
    }

    /// Whether requests that should come do not: for three announced intervals and a timeout.
    /// Judged only when it was heard before, so that upgrades with mixed settings accuse nobody, and
    /// only for the time that it was up: after an outage our probe may come through first.
    pub(super) fn is_silent(&self, now: Instant, listening_since: Option<Instant>) -> bool {
        match (self.last_incoming, self.announced_interval, self.requests_due_since) {
            (Some(heard), Some(interval), Some(up)) if self.draining_until.is_none() => {
                let since = heard.instant.max(up).max(listening_since.unwrap_or(up));
                now.saturating_duration_since(since) > longest_silence(interval)
            }
            _ => false,
        }
    }

    /// Whether a SYN of it that came then, and led to nothing, tells that the way to it is broken and
    /// the one from it is not. It must have come after ours began to fail: one that was under way when
    /// both broke is listed as well. And none of its requests may have come whole since: then our
    /// SYN-ACK reached it, and the path loses packets at random, or swallows new connections only.
    pub(super) fn proves_incoming_syns_only(&self, now: Instant, came: Instant) -> bool {
        let Some(failing) = self.failing_since.map(|since| since + MAX_SYN_TRANSIT) else {
            return false;
        };
        let whole = self.last_incoming.is_some_and(|heard| heard.instant > failing);
        let interval = self.announced_interval.unwrap_or(DEFAULT_INTERVAL);
        came > failing && !whole && now.saturating_duration_since(came) <= longest_silence(interval)
    }

    /// Brings the verdict up to date, and says when it changed.
    pub(super) fn update_verdict(&mut self, failure_threshold: u32) -> Option<Change> {
        if self.missed_slots >= failure_threshold {
            self.up = Some(false);
        }
        let evidence = Evidence {
            draining: self.draining_until.is_some(),
            up: self.up,
            last_failure: self.last_failure.map(|(reason, _)| reason),
            // A peer that our probes do not reach either is on its way down.
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
