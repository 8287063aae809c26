//! When to refresh next: regularly, early, or after a failure. Pure: takes `now`, waits for nothing.
//!
//! A list of whole pods is the dearest thing this agent asks of anybody. With `n` agents that each list
//! `n` pods of about 8.8 KB every `T` seconds, the API server sends `n² · 8.8 KB / T`. So the spacings
//! grow with the square of the number of peers, which bounds the bytes whatever `n` is:
//!
//! | agents | regular | early, within | together at most | at rest |
//! |---|---|---|---|---|
//! | 10 | 30 s | 0.25 s | 88 KB/s while something changes | 3 KB/s |
//! | 100 | 30 s | 0.33 s | 8.8 MB/s | 0.2 MB/s |
//! | 300 | 30 s | 3 s | 79 MB/s | 1.7 MB/s |
//! | 1,000 | 330 s | 33 s | 270 MB/s | 1.7 MB/s |
//! | 5,000 | 1 h | 825 s | 270 MB/s | 4 MB/s |
//!
//! At rest most refreshes read rows alone (see `kubernetes`); but something may change all the time.
//!
//! A list with pods that are about to run is followed by another after 10 s (the early window where that
//! is longer), then 20 s, and so on up to the regular spacing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::random::Random;
use crate::name::{Instance, NodeName};

/// The regular spacing for `n` peers, in microseconds per `n²`: a pod of 8.8 KB against 27 MB/s.
const REGULAR_MICROS: u64 = 330;
/// No mesh is so large that its members may be unknown for longer.
const REGULAR_MOST: Duration = Duration::from_secs(3600);
/// The window over which early refreshes spread, in microseconds per `n²`: 8.8 KB against
/// 270 MB/s, since all agents see the same change at the same time.
const EARLY_MICROS: u64 = 33;
/// The least window: a handful of agents need not land in the same millisecond.
const EARLY_WINDOW_LEAST: Duration = Duration::from_millis(250);
/// At most one early refresh in this time, counted from the start of the early one before.
const EARLY_SPACING: Duration = Duration::from_secs(10);
/// The first retry after a failure; doubles from there.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest pause between two retries, and the longest `Retry-After` that is honoured.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// How long a cause that did not help is left alone at first; doubles from there.
const STRIKE_FIRST: Duration = Duration::from_secs(10);
/// The longest that a cause is left alone.
const STRIKE_MOST: Duration = Duration::from_secs(600);
/// Causes remembered: more than change at once in a healthy mesh. Past it, a name waits for the
/// regular refresh, so that a stranger with ever new names costs nothing.
const CAUSES_MOST: usize = 64;
/// Early refreshes for the sake of names that turned out useless, before such names have to wait
/// for the regular refresh; each one comes back after [`CREDIT_EVERY`].
const CREDIT_MOST: u32 = 16;
/// See [`CREDIT_MOST`]. A stranger with ever new names gets 24 refreshes an hour, not 360.
const CREDIT_EVERY: Duration = Duration::from_secs(150);

/// Why a refresh should come early.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EarlyCause {
    /// A peer began to fail, for whatever reason.
    Failing(NodeName),
    /// A request came from a node that is no peer; the instance, where it says one, tells a pod from
    /// its successor.
    Unknown(NodeName, Option<Instance>),
    /// A request came from a known node, but from another life of its agent.
    NewInstance(NodeName, Instance),
}

/// What came of a refresh.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finish {
    /// A list.
    Listed {
        /// Its peers.
        peers: usize,
        /// It has pods that are about to run: not started, or without an address yet.
        starting: bool,
    },
    /// No list; the server may have said when to come back.
    Failed(Option<Duration>),
}

/// How often a cause brought nothing, and until when it is left alone.
#[derive(Debug)]
struct Strike {
    count: u32,
    until: Instant,
}

/// The state behind the decision.
#[derive(Debug)]
pub(super) struct Cadence {
    interval: Duration,
    random: Random,
    peers: usize,
    failures: u32,
    /// Lists in a row with pods that are about to run.
    incomplete: u32,
    last_early: Option<Instant>,
    /// The regular refresh, or the retry after a failure.
    regular: Instant,
    early: Option<Instant>,
    /// The refresh under way is an early one.
    is_early: bool,
    /// What the early refresh is for.
    pending: Vec<EarlyCause>,
    strikes: BTreeMap<EarlyCause, Strike>,
    credit: u32,
    credited: Instant,
}

impl Cadence {
    /// The first refresh is due at once.
    #[must_use]
    pub(super) fn new(interval: Duration, random: Random, now: Instant) -> Self {
        Self {
            interval,
            random,
            peers: 0,
            failures: 0,
            incomplete: 0,
            last_early: None,
            regular: now,
            early: None,
            is_early: false,
            pending: Vec::new(),
            strikes: BTreeMap::new(),
            credit: CREDIT_MOST,
            credited: now,
        }
    }

    /// A kept list tells how large the mesh is: after a power cut all agents start at once, each
    /// with peers to probe already, so they can spread their first list.
    pub(super) fn know(&mut self, peers: usize, now: Instant) {
        self.peers = peers;
        self.regular = now + self.random.between(Duration::ZERO, self.window());
    }

    /// When the next refresh starts.
    #[must_use]
    pub(super) fn due(&self) -> Instant {
        match self.early {
            // While the server fails or throttles us, its pause holds for every cause.
            Some(early) if self.failures == 0 => early.min(self.regular),
            _ => self.regular,
        }
    }

    /// Takes note of a cause; nothing changes for one that lately did not help.
    pub(super) fn note(&mut self, cause: EarlyCause, now: Instant) {
        self.earn(now);
        if self.pending.contains(&cause) {
            return;
        }
        let left_alone = self.strikes.get(&cause).is_some_and(|strike| now < strike.until);
        let is_name = !matches!(cause, EarlyCause::Failing(_));
        let full = self.pending.len() >= CAUSES_MOST;
        if left_alone || (is_name && (full || self.credit == 0)) {
            return;
        }
        if !full {
            self.pending.push(cause);
        }
        if self.early.is_none() {
            let spacing = EARLY_SPACING.max(self.window());
            let earliest = self.last_early.map_or(now, |start| now.max(start + spacing));
            self.early = Some(earliest + self.random.between(Duration::ZERO, self.window()));
        }
    }

    /// A refresh starts; it serves all causes noted before.
    pub(super) fn started(&mut self, now: Instant) {
        self.is_early = self.early.is_some_and(|early| early <= now);
        if self.is_early {
            self.last_early = Some(now);
        }
    }

    /// A refresh ended. `helped` tells whether the new list answers a cause.
    pub(super) fn finished(
        &mut self,
        now: Instant,
        finish: Finish,
        helped: impl Fn(&EarlyCause) -> bool,
    ) {
        match finish {
            Finish::Listed { peers, starting } => {
                self.peers = peers;
                self.failures = 0;
                self.incomplete = match starting {
                    // A list that came before its time does not put the next one off.
                    true if self.is_early => self.incomplete.max(1),
                    true => self.incomplete.saturating_add(1),
                    false => 0,
                };
                let interval = self.spacing();
                self.regular =
                    now + self.random.between(interval.mul_f64(0.9), interval.mul_f64(1.1));
                self.early = None;
                self.judge(now, helped);
            }
            Finish::Failed(retry_after) => {
                let pause = self.backoff();
                self.failures = self.failures.saturating_add(1);
                let asked = retry_after.unwrap_or_default().min(RETRY_MOST);
                let least = pause.mul_f64(0.5).max(asked);
                self.regular = now + self.random.between(least, pause.max(asked.mul_f64(1.25)));
            }
        }
    }

    /// How many refreshes in a row have failed.
    #[must_use]
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the causes that were answered, and leaves the others alone for longer each time.
    fn judge(&mut self, now: Instant, helped: impl Fn(&EarlyCause) -> bool) {
        let (mut useful, mut useless) = (false, false);
        for cause in std::mem::take(&mut self.pending) {
            let is_name = !matches!(cause, EarlyCause::Failing(_));
            if helped(&cause) {
                useful |= is_name;
                self.strikes.remove(&cause);
                continue;
            }
            useless |= is_name;
            self.make_room(now);
            let known = self.strikes.len();
            let entry = self.strikes.entry(cause);
            if known >= CAUSES_MOST
                && matches!(entry, std::collections::btree_map::Entry::Vacant(_))
            {
                continue;
            }
            let strike = entry.or_insert(Strike { count: 0, until: now });
            if now >= strike.until + STRIKE_MOST {
                // Quiet for so long that this is another story.
                strike.count = 0;
            }
            strike.until = now + doubled(STRIKE_FIRST, strike.count, STRIKE_MOST);
            strike.count = strike.count.saturating_add(1);
        }
        if useless && !useful {
            self.earn(now);
            self.credit = self.credit.saturating_sub(1);
        }
    }

    /// Drops the strikes of causes that have been quiet for long.
    fn make_room(&mut self, now: Instant) {
        if self.strikes.len() >= CAUSES_MOST {
            self.strikes.retain(|_, strike| now < strike.until + STRIKE_MOST);
        }
        if self.strikes.len() >= CAUSES_MOST {
            self.strikes.retain(|_, strike| now < strike.until);
        }
    }

    fn earn(&mut self, now: Instant) {
        while self.credit < CREDIT_MOST && now >= self.credited + CREDIT_EVERY {
            self.credit += 1;
            self.credited += CREDIT_EVERY;
        }
        if self.credit == CREDIT_MOST {
            self.credited = now;
        }
    }

    /// The longest that a regular refresh may be away, its jitter included.
    #[must_use]
    pub(super) fn regular_within(&self) -> Duration {
        self.regular_spacing().mul_f64(1.1)
    }

    /// To the next list, if nothing happens. Pods that are about to run are looked for sooner, and less
    /// and less so, since some never will.
    fn spacing(&self) -> Duration {
        let regular = self.regular_spacing();
        let Some(times) = self.incomplete.checked_sub(1) else { return regular };
        doubled(EARLY_SPACING.max(self.window()), times, regular)
    }

    fn regular_spacing(&self) -> Duration {
        self.interval.max(squared(REGULAR_MICROS, self.peers).min(REGULAR_MOST))
    }

    fn window(&self) -> Duration {
        squared(EARLY_MICROS, self.peers).clamp(EARLY_WINDOW_LEAST, REGULAR_MOST)
    }

    /// Doubles with each failure. A large mesh starts higher: its retries cost what lists cost.
    fn backoff(&self) -> Duration {
        let first = RETRY_FIRST.max(self.window());
        doubled(first, self.failures, RETRY_MOST.max(first))
    }
}

fn squared(micros: u64, peers: usize) -> Duration {
    let peers = u64::try_from(peers).unwrap_or(u64::MAX);
    Duration::from_micros(micros.saturating_mul(peers.saturating_mul(peers)))
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(most)
}

#[cfg(test)]
mod tests;
