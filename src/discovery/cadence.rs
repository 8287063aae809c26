//! When to refresh next: regularly, early, or after a failure. Pure: takes `now`, never waits.
//!
//! The list of whole pods is the most expensive request of the agent. `n` agents that each list `n` pods
//! of about 8.8 KB every `T` seconds make the API server send `n² · 8.8 KB / T`. The intervals therefore
//! grow with `n²`, which bounds the bytes for every `n`:
//!
//! | agents | regular | early, within | all agents together, at most | at rest |
//! |---|---|---|---|---|
//! | 10 | 30 s | 3 ms | 88 KB/s while something changes | 3 KB/s |
//! | 100 | 30 s | 0.33 s | 8.8 MB/s | 0.2 MB/s |
//! | 300 | 30 s | 3 s | 79 MB/s | 1.7 MB/s |
//! | 1,000 | 330 s | 33 s | 270 MB/s | 1.7 MB/s |
//! | 2,500 | 34 min | 206 s | 270 MB/s | 1.7 MB/s |
//!
//! At rest most refreshes read only a table (see `kubernetes`), but in some clusters something changes
//! all the time.
//!
//! A list with starting pods is followed by another after 10 s (or the early window, where that is
//! longer), then after 20 s, and so on up to the regular interval. If one of them already sends requests,
//! so that only its status is late, by 3 s each. Most of these find the table unchanged and read no pods.

use std::time::{Duration, Instant};

use crate::name::{Instance, NodeName};
use crate::random::Random;

/// The regular interval for `n` peers, in microseconds per `n²`: a pod of 8.8 KB at 27 MB/s.
const REGULAR_MICROS: u64 = 330;
/// The window that spreads early refreshes, in microseconds per `n²`: a pod of 8.8 KB at 270 MB/s,
/// since all agents see the same change at the same time.
const EARLY_MICROS: u64 = 33;
/// Shortest time from the start of one early refresh to the next.
const EARLY_INTERVAL: Duration = Duration::from_secs(10);
/// Time to the next list while a pod is starting and a request has come that no list explains yet: the pod
/// runs, and the API server learns of it late, up to ten seconds on a busy node. (With the intervals of other
/// starting pods, up to the regular one, such a pod was not probed for 40 s.)
const AWAITED_INTERVAL: Duration = Duration::from_secs(3);
/// How long such a request counts; further ones of its cause are ignored for longer each time. A client that
/// invents names while a pod never starts causes five lists for each of [`NAMES_MAX`] names in 40 minutes, most
/// of them tables.
const AWAITED_FOR: Duration = Duration::from_secs(15);
/// The first retry after a failure; each further failure doubles it.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest retry interval, and longest `Retry-After` that is honoured.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a cause is ignored after a refresh that did not answer it; each further one doubles it.
const IGNORE_FIRST: Duration = Duration::from_secs(10);
/// Longest time that a cause is ignored.
const IGNORE_MAX: Duration = Duration::from_secs(600);
/// Unanswered names that are remembered. While there are so many, a new name waits for the regular
/// refresh, so that a client that invents names causes 24 refreshes an hour, not 360.
const NAMES_MAX: usize = 16;
/// How long a cause is remembered once it is no longer ignored. See [`NAMES_MAX`].
const REMEMBER: Duration = Duration::from_secs(40 * 60);

/// Why a refresh should come early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlyCause {
    /// A peer starts to fail.
    Failing(NodeName),
    /// A request comes from a node that is no peer. The instance, if the request has one, distinguishes
    /// a pod from its successor.
    Unknown(NodeName, Option<Instance>),
    /// A request comes from a known node, but from another instance of its agent.
    NewInstance(NodeName, Instance),
}

impl EarlyCause {
    /// Whether a request named the cause, so that a client can invent it.
    const fn is_name(&self) -> bool {
        !matches!(self, Self::Failing(_))
    }
}

/// The history of a cause.
#[derive(Debug)]
struct CauseHistory {
    /// Whether the cause waits for the next refresh.
    waiting: bool,
    /// Consecutive refreshes that did not answer the cause.
    unanswered: u32,
    ignored_until: Instant,
    /// When it was noted last, and not ignored.
    noted: Instant,
}

/// Decides when the next refresh starts.
#[derive(Debug)]
pub(super) struct Cadence {
    interval: Duration,
    random: Random,
    peers: usize,
    /// Consecutive failures.
    failures: u32,
    /// Consecutive lists with starting pods.
    incomplete: u32,
    /// When the last list came.
    last_list: Instant,
    /// The start of the last early refresh.
    last_early: Option<Instant>,
    /// The regular refresh, or the retry after a failure.
    regular: Instant,
    early: Option<Instant>,
    causes: Vec<(EarlyCause, CauseHistory)>,
}

impl Cadence {
    /// The first refresh is due at once.
    pub(super) const fn new(interval: Duration, random: Random, now: Instant) -> Self {
        Self {
            interval,
            random,
            peers: 0,
            failures: 0,
            incomplete: 0,
            last_list: now,
            last_early: None,
            regular: now,
            early: None,
            causes: Vec::new(),
        }
    }

    /// Spreads the first refresh over the early window of so many peers, which a cached list shows.
    /// After a power cut all agents start at once, but those with a cache have peers to probe already.
    pub(super) fn spread_first(&mut self, peers: usize, now: Instant) {
        self.peers = peers;
        self.regular = now + self.random.between(Duration::ZERO, self.window());
    }

    /// When the next refresh starts.
    pub(super) fn due(&self) -> Instant {
        match self.early {
            // After a failure no cause shortens the pause.
            Some(early) if self.failures == 0 => early.min(self.regular),
            _ => self.regular,
        }
    }

    /// Schedules an early refresh, unless the cause is to be ignored.
    pub(super) fn note(&mut self, cause: EarlyCause, now: Instant) {
        let is_name = cause.is_name();
        let names = self.causes.iter().filter(|(cause, _)| cause.is_name()).count();
        match self.causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, history)) if now < history.ignored_until => return,
            Some((_, history)) => (history.waiting, history.noted) = (true, now),
            None if is_name && names >= NAMES_MAX => return,
            None => {
                let history =
                    CauseHistory { waiting: true, unanswered: 0, ignored_until: now, noted: now };
                self.causes.push((cause, history));
            }
        }
        if is_name && self.incomplete > 0 && self.failures == 0 {
            let soon = self.last_list + self.awaited_interval();
            self.regular = self.regular.min(soon.max(now));
        }
        if self.early.is_none() {
            let interval = EARLY_INTERVAL.max(self.window());
            let earliest = self.last_early.map_or(now, |start| now.max(start + interval));
            self.early = Some(earliest + self.random.between(Duration::ZERO, self.window()));
        }
    }

    /// A refresh that started at `start` brought a list of so many peers. `starting`: some of its pods
    /// are not running yet, or have no address. `answers`: whether the list answers a cause.
    pub(super) fn listed(
        &mut self,
        start: Instant,
        now: Instant,
        peers: usize,
        starting: bool,
        answers: impl Fn(&EarlyCause) -> bool,
    ) {
        let was_early = self.started(start);
        self.peers = peers;
        self.failures = 0;
        self.last_list = now;
        self.incomplete = match starting {
            // An early list does not put off the next one.
            true if was_early => self.incomplete.max(1),
            true => self.incomplete.saturating_add(1),
            false => 0,
        };
        self.early = None;
        self.causes.retain_mut(|(cause, history)| {
            if std::mem::take(&mut history.waiting) {
                history.ignored_until = now + doubled(IGNORE_FIRST, history.unanswered, IGNORE_MAX);
                history.unanswered = history.unanswered.saturating_add(1);
            }
            !answers(cause) && now < history.ignored_until + REMEMBER
        });
        let is_awaited = |(cause, history): &(EarlyCause, CauseHistory)| {
            cause.is_name() && now < history.noted + AWAITED_FOR
        };
        let interval = if starting && self.causes.iter().any(is_awaited) {
            self.awaited_interval()
        } else {
            self.next_interval()
        };
        self.regular = now + self.random.between(interval.mul_f64(0.9), interval.mul_f64(1.1));
    }

    /// A refresh that started at `start` failed; the causes wait for the next one.
    pub(super) fn failed(&mut self, start: Instant, now: Instant, retry_after: Option<Duration>) {
        self.started(start);
        // A large mesh starts higher, since its retries cost as much as its lists.
        let first = RETRY_FIRST.max(self.window());
        let pause = doubled(first, self.failures, RETRY_MAX.max(first));
        let requested = retry_after.unwrap_or_default().min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        let (low, high) = (pause.mul_f64(0.5).max(requested), pause.max(requested.mul_f64(1.25)));
        self.regular = now + self.random.between(low, high);
    }

    /// Records the start of a refresh. Returns whether it is an early one.
    fn started(&mut self, start: Instant) -> bool {
        let is_early = self.early.is_some_and(|early| early <= start);
        if is_early {
            self.last_early = Some(start);
        }
        is_early
    }

    /// Consecutive failures.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Longest time to the next regular refresh, its jitter included.
    pub(super) fn regular_within(&self) -> Duration {
        self.regular_interval().mul_f64(1.1)
    }

    /// The time to the next list if nothing happens. It grows while pods are starting, because some
    /// never run.
    fn next_interval(&self) -> Duration {
        let regular = self.regular_interval();
        let Some(times) = self.incomplete.checked_sub(1) else { return regular };
        doubled(EARLY_INTERVAL.max(self.window()), times, regular)
    }

    fn awaited_interval(&self) -> Duration {
        AWAITED_INTERVAL.max(self.window()).min(self.next_interval())
    }

    fn regular_interval(&self) -> Duration {
        self.interval.max(squared(REGULAR_MICROS, self.peers))
    }

    fn window(&self) -> Duration {
        squared(EARLY_MICROS, self.peers)
    }
}

fn squared(micros: u64, peers: usize) -> Duration {
    let peers = u64::try_from(peers).unwrap_or(u64::MAX);
    Duration::from_micros(micros.saturating_mul(peers.saturating_mul(peers)))
}

fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(max)
}

#[cfg(test)]
mod tests;
