//! The open cell of one path: what it counts until it is packed.

use std::time::Duration;

use super::scale::{self, TIME_CODES, time_code};
use super::{Cell, Summary, Word};

/// Times that are stored for the median: as many as an interval of 8 s leaves in 5 minutes. Of more, every second
/// one stays, then every fourth.
const TIMES: usize = 38;

/// The open cell of one path.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenCell {
    probes: u32,
    failures: u32,
    retransmits: u32,
    gravest: Gravest,
    /// The octet of the word when it was looked at last; 0 if it was not in this cell.
    now: u8,
    /// The code of the longest time; 0 for none.
    worst: u8,
    /// Number of times that are stored.
    stored: u8,
    /// The power of two of which the stored times are one each.
    every: u8,
    /// Codes of times.
    times: [u8; TIMES],
}

/// Sized for 5,000 paths: 320 KB.
const _: () = assert!(size_of::<OpenCell>() <= 64);

impl OpenCell {
    /// A cell of which nothing is known.
    pub(super) const EMPTY: Self = Self {
        probes: 0,
        failures: 0,
        retransmits: 0,
        gravest: Gravest::NONE,
        now: 0,
        worst: 0,
        stored: 0,
        every: 0,
        times: [0; TIMES],
    };

    /// Whether nothing is known.
    pub(super) const fn is_empty(&self) -> bool {
        self.gravest.octet == 0
    }

    /// Looks at the word of the path.
    pub(super) fn note(&mut self, word: Word) {
        self.now = word.octet();
        self.gravest.add(self.now, word.rank(), 1);
    }

    /// Counts a probe: its total time, `None` of a failure, and whether it needed a retransmit because of a loss.
    pub(super) fn count(&mut self, time: Option<Duration>, lost: bool) {
        let successes = self.probes - self.failures;
        self.probes = self.probes.saturating_add(1);
        self.retransmits = self.retransmits.saturating_add(lost.into());
        let Some(time) = time else {
            self.failures = self.failures.saturating_add(1);
            return;
        };
        let code = time_code(Some(time));
        self.worst = self.worst.max(code);
        let is_due = |every: u8| successes.trailing_zeros() >= every.into();
        if is_due(self.every) && usize::from(self.stored) == TIMES {
            self.thin_out();
        }
        if is_due(self.every)
            && let Some(place) = self.times.get_mut(usize::from(self.stored))
        {
            *place = code;
            self.stored += 1;
        }
    }

    /// Leaves every second time.
    fn thin_out(&mut self) {
        let mut rest = [0; TIMES];
        for (place, code) in rest.iter_mut().zip(self.times.iter().step_by(2)) {
            *place = *code;
        }
        (self.times, self.stored, self.every) = (rest, self.stored.div_ceil(2), self.every + 1);
    }

    /// The word is not known any more, unless it is looked at again.
    pub(super) const fn lose_sight(&mut self) {
        self.now = 0;
    }

    /// The next cell: it begins with the word that was seen last.
    pub(super) fn next(&self) -> Self {
        let mut next = Self::EMPTY;
        if let Some(word) = Word::from_octet(self.now) {
            next.note(word);
        }
        next
    }

    /// Packs it.
    pub(super) fn cell(&self) -> Cell {
        let Some(word) = Word::from_octet(self.gravest.octet) else { return Cell::EMPTY };
        let mut median = Median::default();
        self.times.iter().take(self.stored.into()).for_each(|code| median.add(*code, 1));
        Cell::new(Summary {
            word,
            probes: self.probes,
            failures: self.failures,
            retransmits: self.retransmits,
            median: median.time(),
            worst: scale::time(self.worst),
        })
    }
}

/// The median of codes of times, each with its weight.
pub(super) struct Median([u32; TIME_CODES]);

impl Default for Median {
    fn default() -> Self {
        Self([0; TIME_CODES])
    }
}

impl Median {
    pub(super) fn add(&mut self, code: u8, weight: u32) {
        if let Some(sum) = self.0.get_mut(usize::from(code)) {
            *sum = sum.saturating_add(weight);
        }
    }

    /// Of an even number, the lower middle, as everywhere.
    pub(super) fn time(&self) -> Option<Duration> {
        let half = self.0.iter().fold(0, |sum: u32, one| sum.saturating_add(*one)).div_ceil(2);
        let mut sum: u32 = 0;
        let middle = (0_u8..).zip(self.0).find(|(_, weight)| {
            sum = sum.saturating_add(*weight);
            half > 0 && sum >= half
        });
        scale::time(middle?.0)
    }
}

/// The word of the highest rank; of several, the one with most votes, if it has more than half of them (the
/// majority vote of Boyer and Moore).
#[derive(Debug, Clone, Copy)]
pub(super) struct Gravest {
    octet: u8,
    rank: u8,
    votes: u16,
}

impl Gravest {
    pub(super) const NONE: Self = Self { octet: 0, rank: 0, votes: 0 };

    /// Adds votes for a word.
    pub(super) fn add(&mut self, octet: u8, rank: u8, votes: u16) {
        if rank > self.rank || self.octet == 0 {
            *self = Self { octet, rank, votes };
        } else if rank == self.rank && octet == self.octet {
            self.votes = self.votes.saturating_add(votes);
        } else if rank == self.rank {
            // What outvotes it takes its place, with the votes that are left.
            let left = self.votes.abs_diff(votes);
            self.octet = if votes > self.votes { octet } else { self.octet };
            self.votes = left;
        }
    }

    /// The word; `None` before the first.
    pub(super) fn word(self) -> Option<Word> {
        Word::from_octet(self.octet)
    }
}
