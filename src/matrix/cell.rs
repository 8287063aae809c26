//! One cell of the matrix: what one node knows of another, in 12 bytes.

use std::time::Duration;

use crate::state::{PeerRecord, RECENT, Sample, Verdict};

/// What one node knows of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Median total time of the successes among the recent probes, in microseconds; or [`NONE`].
    latency: u32,
    /// Time from the end of the last probe to the row, in milliseconds; or [`NONE`].
    age: u32,
    verdict: Verdict,
    /// Failures among the recent probes.
    failures: u8,
    /// Recent probes with a retransmit.
    retransmits: u8,
    /// Number of recent probes, and [`SYNS_ONLY`].
    probes: u8,
}

const _: () = assert!(size_of::<Option<Cell>>() == 12);

const NONE: u32 = u32::MAX;
const SYNS_ONLY: u8 = 0x80;

impl Cell {
    /// Packs a cell; `age` is in milliseconds.
    #[must_use]
    pub fn new(
        verdict: Verdict,
        latency: Option<Duration>,
        age: Option<u64>,
        [failures, retransmits, probes]: [u8; 3],
        incoming_syns_only: bool,
    ) -> Self {
        let number =
            |number: Option<u128>| number.map_or(NONE, |number| saturating(number).min(NONE - 1));
        Self {
            latency: number(latency.map(|latency| latency.as_micros())),
            age: number(age.map(u128::from)),
            verdict,
            failures,
            retransmits,
            probes: probes | if incoming_syns_only { SYNS_ONLY } else { 0 },
        }
    }

    /// The cell of a peer in a row taken at `row_at`, in Unix milliseconds.
    #[must_use]
    pub fn of(record: &PeerRecord, row_at: u64) -> Self {
        let count = |counts: fn(&&Sample) -> bool| {
            u8::try_from(record.recent.iter().filter(counts).count()).unwrap_or(u8::MAX)
        };
        let counts = [
            count(|sample| sample.result().is_err()),
            count(|sample| sample.retransmits > 0),
            count(|_| true),
        ];
        let times = record.recent.iter().filter_map(|sample| Some(sample.result().ok()?.1));
        let age = record.recent.back().map(|sample| row_at.saturating_sub(sample.at_millis()));
        let incoming_syns_only = record.incoming_syns_only == Some(true);
        Self::new(record.verdict, median(times), age, counts, incoming_syns_only)
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
        (self.failures, self.probes & !SYNS_ONLY)
    }

    /// Recent probes with a retransmit.
    #[must_use]
    pub fn retransmits(&self) -> u8 {
        self.retransmits
    }

    /// Whether the peer is down and its own SYNs arrive.
    #[must_use]
    pub fn is_incoming_syns_only(&self) -> bool {
        self.probes & SYNS_ONLY != 0
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
