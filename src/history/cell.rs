//! One cell: what one node knew of another for some minutes, in five octets.

use std::time::Duration;

use super::Word;
use super::scale::{self, FAILURES, PROBES, RETRANSMITS};

/// What one node knew of another for some minutes, as it is packed into a [`Cell`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The worst verdict, and what belongs to it.
    pub word: Word,
    /// Probes that ended.
    pub probes: u32,
    /// Those that failed.
    pub failures: u32,
    /// Those that needed a retransmit because a packet was lost.
    pub retransmits: u32,
    /// Median total time of the successes.
    pub median: Option<Duration>,
    /// The longest one.
    pub worst: Option<Duration>,
}

/// A cell in five octets: the word, then probes (7 bits), failures (6), retransmits (5), median (7) and worst (7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell([u8; Self::OCTETS]);

/// The code of failures and retransmits for all probes.
const ALL_FAILED: u8 = 63;
const ALL_RETRANSMITTED: u8 = 31;

impl Cell {
    /// Size of a cell in octets.
    pub const OCTETS: usize = 5;
    /// A cell of which nothing is known.
    pub const EMPTY: Self = Self([0; Self::OCTETS]);

    /// Packs a cell.
    #[must_use]
    pub fn new(summary: Summary) -> Self {
        let Summary { word, probes, failures, retransmits, median, worst } = summary;
        let of_all = |count: u32, all: u8, code: u8| {
            if count >= probes && probes > 0 { all } else { code }
        };
        let failures = of_all(failures, ALL_FAILED, FAILURES.code(failures));
        let retransmits = of_all(retransmits, ALL_RETRANSMITTED, RETRANSMITS.code(retransmits));
        let packed = u32::from(PROBES.code(probes)) << 25
            | u32::from(failures) << 19
            | u32::from(retransmits) << 14
            | u32::from(scale::time_code(median)) << 7
            | u32::from(scale::time_code(worst));
        let [b1, b2, b3, b4] = packed.to_be_bytes();
        Self([word.octet(), b1, b2, b3, b4])
    }

    /// What it holds; `None` if it is empty.
    #[must_use]
    pub fn summary(self) -> Option<Summary> {
        let [word, b1, b2, b3, b4] = self.0;
        let word = Word::from_octet(word)?;
        let packed = u32::from_be_bytes([b1, b2, b3, b4]);
        let bits = |start: u32, count: u32| {
            u8::try_from(packed >> start & ((1 << count) - 1)).unwrap_or_default()
        };
        let probes = PROBES.number(bits(25, 7));
        let of_all =
            |code: u8, all: u8, number: u32| if code == all { probes } else { number.min(probes) };
        Some(Summary {
            word,
            probes,
            failures: of_all(bits(19, 6), ALL_FAILED, FAILURES.number(bits(19, 6))),
            retransmits: of_all(bits(14, 5), ALL_RETRANSMITTED, RETRANSMITS.number(bits(14, 5))),
            median: scale::time(bits(7, 7)),
            worst: scale::time(bits(0, 7)),
        })
    }

    /// Its octets.
    #[must_use]
    pub const fn octets(self) -> [u8; Self::OCTETS] {
        self.0
    }

    /// A cell of these octets; `None` if its word is none. No other value is invalid.
    #[must_use]
    pub fn from_octets(octets: [u8; Self::OCTETS]) -> Option<Self> {
        let [word, ..] = octets;
        let cell = Self(octets);
        (word == 0 || cell.summary().is_some()).then_some(cell)
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(self) -> bool {
        let [word, ..] = self.0;
        word == 0
    }
}
