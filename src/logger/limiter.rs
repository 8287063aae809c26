//! Pure: which lines of a flood are written, and which are counted and summed up instead.
//!
//! Two token buckets bound a line: one of its text, so that a single flapping peer does not use up what
//! the others need, and one of the place in the code that wrote it, whatever its text.

use std::collections::hash_map::RandomState;
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher as _, Hash as _, Hasher};
use std::time::{Duration, Instant};

/// Places in the code that write lines. The program has about 40; an unknown one replaces the one that
/// was silent for longest.
const MAX_SITES: usize = 128;
/// Lines of one place in a row: the split of a mesh of 200 nodes is logged peer by peer.
pub(super) const SITE_BURST: u32 = 256;
/// Then one line of each place in this time: 10 a minute.
const SITE_EVERY: Duration = Duration::from_secs(6);

/// Texts that are remembered: more than a burst.
const MAX_TEXTS: usize = 512;
/// The same text in a row: a peer that changes to and fro is logged a few times.
pub(super) const TEXT_BURST: u32 = 5;
/// Then the same text once in this time.
const TEXT_EVERY: Duration = Duration::from_secs(60);

/// How long repeats are counted before one line sums them up.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// How often a bucket lets lines pass.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// Token buckets by key. A bucket is stored as the time at which it is full again.
#[derive(Debug)]
struct Buckets {
    rate: Rate,
    max: usize,
    full_at: Vec<(u64, Instant)>,
}

impl Buckets {
    const fn new(max: usize, rate: Rate) -> Self {
        Self { rate, max, full_at: Vec::new() }
    }

    /// Takes a token; false if none is left.
    fn take(&mut self, key: u64, now: Instant) -> bool {
        let Rate { burst, every } = self.rate;
        if let Some((_, full_at)) = self.full_at.iter_mut().find(|(known, _)| *known == key) {
            let next = (*full_at).max(now) + every;
            let passes = next <= now + every * burst;
            if passes {
                *full_at = next;
            }
            return passes;
        }
        if self.full_at.len() >= self.max {
            let fullest = self.full_at.iter_mut().min_by_key(|(_, full_at)| *full_at);
            fullest.into_iter().for_each(|oldest| *oldest = (key, now + every));
        } else {
            self.full_at.push((key, now + every));
        }
        true
    }
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is written.
    Write,
    /// It is counted as one more of its place.
    Count,
    /// It is counted, and is the first of its place in this window: [`Limiter::begin`] takes its text.
    CountFirst(Site),
}

/// A place in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Site(u64);

/// Lines of one place that were not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repeats<T> {
    site: Site,
    since: Instant,
    /// Their number.
    pub(super) count: u64,
    /// The first of them.
    pub(super) example: T,
}

/// The buckets, and the repeats since the last lines about them. `T` describes a line.
#[derive(Debug)]
pub(super) struct Limiter<T> {
    /// Keyed at random: no remote text can be made to collide with another one.
    hasher: RandomState,
    sites: Buckets,
    texts: Buckets,
    repeats: Vec<Repeats<T>>,
}

impl<T> Limiter<T> {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            sites: Buckets::new(MAX_SITES, Rate { burst: SITE_BURST, every: SITE_EVERY }),
            texts: Buckets::new(MAX_TEXTS, Rate { burst: TEXT_BURST, every: TEXT_EVERY }),
            repeats: Vec::new(),
        }
    }

    /// A hasher for [`key`]: texts are hashed before the limiter is locked, because a text may fail.
    pub(super) fn hasher(&self) -> RandomState {
        self.hasher.clone()
    }

    /// Decides on one line.
    pub(super) fn admit(&mut self, key: Key, now: Instant) -> Admission {
        if self.texts.take(key.text, now) && self.sites.take(key.site.0, now) {
            return Admission::Write;
        }
        if self.count(key.site) || self.repeats.len() >= MAX_SITES {
            Admission::Count
        } else {
            Admission::CountFirst(key.site)
        }
    }

    /// Counts a repeat; false if its place has none yet.
    fn count(&mut self, site: Site) -> bool {
        let known = self.repeats.iter_mut().find(|repeats| repeats.site == site);
        known.map(|repeats| repeats.count = repeats.count.saturating_add(1)).is_some()
    }

    /// Begins to count the repeats of a place, from the line that `example` describes.
    pub(super) fn begin(&mut self, site: Site, example: T, now: Instant) {
        // Another thread may have begun meanwhile.
        if !self.count(site) {
            self.repeats.push(Repeats { site, since: now, count: 1, example });
        }
    }

    /// The repeats of one place whose window has passed.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Repeats<T>> {
        let due = |repeats: &Repeats<T>| now.duration_since(repeats.since) >= WINDOW;
        self.repeats.iter().position(due).map(|at| self.repeats.swap_remove(at))
    }

    /// When the next window has passed; `None` without repeats.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.repeats.iter().map(|repeats| repeats.since + WINDOW).min()
    }
}

/// The identity of a line: its place, and its place with its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    site: Site,
    text: u64,
}

/// The key of a line. Formats `text` without allocating.
pub(super) fn key(
    hasher: &RandomState,
    site: (&str, Option<u32>),
    text: &fmt::Arguments<'_>,
) -> Key {
    let mut state = hasher.build_hasher();
    site.hash(&mut state);
    let site = Site(state.finish());
    let mut state = HashText(state);
    // Fails only if a value refuses to be formatted; the part before it is the text then.
    let _ = write!(state, "{text}");
    Key { site, text: state.0.finish() }
}

/// Hashes what is written.
struct HashText<H>(H);

impl<H: Hasher> fmt::Write for HashText<H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Log {
        limiter: Limiter<String>,
        now: Instant,
        written: Vec<String>,
    }

    impl Log {
        fn new() -> Self {
            Self { limiter: Limiter::new(), now: Instant::now(), written: Vec::new() }
        }

        fn line(&mut self, site: u32, text: &str) {
            let key = key(&self.limiter.hasher(), ("a.rs", Some(site)), &format_args!("{text}"));
            match self.limiter.admit(key, self.now) {
                Admission::Write => self.written.push(text.to_owned()),
                Admission::Count => {}
                Admission::CountFirst(site) => self.limiter.begin(site, text.to_owned(), self.now),
            }
        }

        /// Passes time, and writes what sums up the repeats.
        fn wait(&mut self, time: Duration) {
            self.now += time;
            while let Some(repeats) = self.limiter.take_due(self.now) {
                self.written.push(format!("{} more, as {}", repeats.count, repeats.example));
            }
        }
    }

    #[test]
    fn the_split_of_a_mesh_of_200_nodes_is_logged_peer_by_peer() {
        let mut log = Log::new();
        (0..200).for_each(|peer| log.line(1, &format!("peer {peer} is down")));
        assert_eq!(log.written.len(), 200);
        assert_eq!(log.limiter.next_due(), None);
    }

    #[test]
    fn lines_of_one_place_in_a_row_are_bounded() {
        let mut log = Log::new();
        (0..10_000).for_each(|peer| log.line(1, &format!("peer {peer} is down")));
        let burst = u32::try_from(log.written.len()).unwrap();
        assert!(f64::from(burst) <= wylis_harness::bounds::worst_case("SITE_BURST"), "{burst}");
    }

    #[test]
    fn a_repeated_line_is_written_five_times_then_once_a_minute_and_summed_up() {
        let mut log = Log::new();
        for _ in 0..100 {
            log.line(1, "peer a is up");
        }
        assert_eq!(log.written.len(), 5);
        log.line(1, "peer b is up");
        assert_eq!(log.written.pop().unwrap(), "peer b is up");
        log.written.clear();
        log.wait(WINDOW);
        assert_eq!(log.written, ["95 more, as peer a is up"]);
        log.line(1, "peer a is up");
        log.line(1, "peer a is up");
        assert_eq!(log.written.len(), 2, "once a minute");
        log.wait(WINDOW);
        assert_eq!(log.written.last().unwrap(), "1 more, as peer a is up");
        log.wait(WINDOW * 10);
        assert_eq!((log.written.len(), log.limiter.next_due()), (3, None));
    }

    #[test]
    fn a_flood_of_different_lines_is_bounded_by_its_place_and_leaves_other_places_alone() {
        let mut log = Log::new();
        // 20 lines a second for five minutes.
        for number in 0..6000 {
            log.line(1, &format!("peer {number} is up"));
            if number % 20 == 19 {
                log.wait(Duration::from_secs(1));
            }
        }
        let sums = log.written.iter().filter(|line| line.contains(" more, as ")).count();
        let written = log.written.len() - sums;
        assert!((1..=5).contains(&sums), "{sums}");
        let limit = usize::try_from(SITE_BURST).unwrap() + 50;
        assert!((limit - 1..=limit + 1).contains(&written), "{written} lines in five minutes");
        log.written.clear();
        log.line(2, "peer a is down");
        assert_eq!(log.written, ["peer a is down"]);
        assert!(log.limiter.texts.full_at.len() <= MAX_TEXTS);
    }

    #[test]
    fn places_beyond_the_limit_replace_the_longest_silent() {
        let mut log = Log::new();
        let sites = u32::try_from(MAX_SITES).unwrap() * 3;
        for site in 0..sites {
            for number in 0..10 {
                log.line(site, &format!("line {}", number % 2));
            }
            log.now += Duration::from_millis(1);
        }
        assert_eq!(log.limiter.sites.full_at.len(), MAX_SITES);
        assert!(log.limiter.repeats.len() <= MAX_SITES);
    }

    #[test]
    fn a_silent_place_has_its_whole_burst_again() {
        let mut log = Log::new();
        for round in 0..3 {
            for number in 0..1000 {
                log.line(1, &format!("line {round} {number}"));
            }
            log.wait(SITE_EVERY * SITE_BURST);
        }
        let lines = log.written.iter().filter(|line| line.starts_with("line")).count();
        assert_eq!(lines, 3 * usize::try_from(SITE_BURST).unwrap());
    }
}
