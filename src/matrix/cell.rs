//! One cell of the matrix: what one node knows of another, in 16 bytes.

use std::time::Duration;

use crate::state::{Incoming, PeerRecord, RECENT, Sample, Verdict};

/// What one node knows of another, as it is packed into a [`Cell`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellFacts {
    /// The verdict.
    pub verdict: Verdict,
    /// Median total time of the successes among the recent probes.
    pub latency: Option<Duration>,
    /// Time from the end of the last probe to the row, in milliseconds.
    pub age: Option<u64>,
    /// Failures among the recent probes.
    pub failures: u8,
    /// Recent probes with a retransmit.
    pub retransmits: u8,
    /// Number of recent probes.
    pub probes: u8,
    /// Recent requests of the peer whose SYN-ACK or answer needed a retransmit.
    pub incoming_retransmits: u8,
    /// What comes in from a peer that cannot be reached, or whose requests are missing.
    pub incoming: Option<Incoming>,
    /// Twice the round trip exceeds the timeout.
    pub is_slow: bool,
    /// Something completes handshakes in place of the peer.
    pub is_intercepted: bool,
}

impl CellFacts {
    /// This verdict after [`RECENT`] probes, and nothing else.
    #[must_use]
    pub fn of(verdict: Verdict) -> Self {
        Self {
            verdict,
            latency: None,
            age: None,
            failures: 0,
            retransmits: 0,
            probes: u8::try_from(RECENT).unwrap_or(u8::MAX),
            incoming_retransmits: 0,
            incoming: None,
            is_slow: false,
            is_intercepted: false,
        }
    }
}

/// What one node knows of another, in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// In microseconds; or [`NONE`].
    latency: u32,
    /// In milliseconds; or [`NONE`].
    age: u32,
    verdict: Verdict,
    failures: u8,
    retransmits: u8,
    probes: u8,
    incoming_retransmits: u8,
    incoming: Option<Incoming>,
    /// [`SLOW`] and [`INTERCEPTED`].
    flags: u8,
}

const _: () = assert!(size_of::<Option<Cell>>() == 16);

const NONE: u32 = u32::MAX;
const SLOW: u8 = 1;
const INTERCEPTED: u8 = 2;

impl Cell {
    /// Packs a cell.
    #[must_use]
    pub fn new(facts: CellFacts) -> Self {
        let number =
            |number: Option<u128>| number.map_or(NONE, |number| saturating(number).min(NONE - 1));
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        Self {
            latency: number(facts.latency.map(|latency| latency.as_micros())),
            age: number(facts.age.map(u128::from)),
            verdict: facts.verdict,
            failures: facts.failures,
            retransmits: facts.retransmits,
            probes: facts.probes,
            incoming_retransmits: facts.incoming_retransmits,
            incoming: facts.incoming,
            flags: flag(facts.is_slow, SLOW) | flag(facts.is_intercepted, INTERCEPTED),
        }
    }

    /// The cell of a peer in a row taken at `row_at`, in Unix milliseconds.
    #[must_use]
    pub fn of(record: &PeerRecord, row_at: u64) -> Self {
        let count = |counts: fn(&&Sample) -> bool| {
            u8::try_from(record.recent.iter().filter(counts).count()).unwrap_or(u8::MAX)
        };
        let times = record.recent.iter().filter_map(|sample| Some(sample.result().ok()?.1));
        Self::new(CellFacts {
            latency: median(times),
            age: record.recent.back().map(|sample| row_at.saturating_sub(sample.at_millis())),
            failures: count(|sample| sample.result().is_err()),
            retransmits: count(|sample| sample.failure().is_some() && sample.retransmits() > 0)
                .saturating_add(u8::try_from(record.lossy_probes()).unwrap_or(u8::MAX)),
            probes: count(|_| true),
            incoming_retransmits: record.recent_incoming_retransmits(),
            incoming: record.incoming_kind,
            is_slow: record.is_slower_than_timeout(),
            is_intercepted: record.is_intercepted(),
            ..CellFacts::of(record.verdict)
        })
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Median total time of the successes among the recent probes.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        (self.latency != NONE).then(|| Duration::from_micros(self.latency.into()))
    }

    /// Time from the end of the last probe to the row, in milliseconds.
    #[must_use]
    pub fn age(&self) -> Option<u32> {
        (self.age != NONE).then_some(self.age)
    }

    /// Failures among the recent probes, and how many these are.
    #[must_use]
    pub fn failures(&self) -> (u8, u8) {
        (self.failures, self.probes)
    }

    /// Recent probes with a retransmit.
    #[must_use]
    pub fn retransmits(&self) -> u8 {
        self.retransmits
    }

    /// Recent requests of the peer whose SYN-ACK or answer needed a retransmit.
    #[must_use]
    pub fn incoming_retransmits(&self) -> u8 {
        self.incoming_retransmits
    }

    /// What comes in from a peer that cannot be reached, or whose requests are missing; `None` where
    /// addresses are rewritten on the way.
    #[must_use]
    pub fn incoming(&self) -> Option<Incoming> {
        self.incoming
    }

    /// Whether twice the round trip exceeds the timeout.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.flags & SLOW != 0
    }

    /// Whether something completes handshakes in place of the peer.
    #[must_use]
    pub fn is_intercepted(&self) -> bool {
        self.flags & INTERCEPTED != 0
    }
}

/// The median; of an even number of times, the lower middle.
pub fn median(times: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut sorted: Vec<Duration> = Vec::with_capacity(RECENT);
    for time in times {
        sorted.insert(sorted.partition_point(|known| *known < time), time);
    }
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

fn saturating(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
