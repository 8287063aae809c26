//! One cell of the matrix: what one node knows of another, in 16 bytes.

use std::time::Duration;

use crate::experiment::{DeadFlows, Detail, HostState, LargestPacket};
use crate::state::{Incoming, PeerRecord, RECENT, Sample, Verdict};

/// Fewest of 20 probes or requests with a retransmit that show loss where others fail: as for `lossy`.
pub const MIN_RETRANSMITS: u8 = 3;

/// What one node knows of another, as it is packed into a [`Cell`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellFacts {
    /// The verdict.
    pub verdict: Verdict,
    /// Median total time of the successes among the recent probes.
    pub latency: Option<Duration>,
    /// Time from the end of the last probe to the row, in milliseconds.
    pub age: Option<u64>,
    /// Failures among the recent probes; of a past cell, as the following two, among all probes of its time.
    pub failures: u32,
    /// Recent probes with a retransmit.
    pub retransmits: u32,
    /// Number of recent probes.
    pub probes: u32,
    /// Of a past cell, and of no other: recent probes with a retransmit while its verdict held.
    pub recent_retransmits: Option<u8>,
    /// Recent requests of the peer whose SYN-ACK or answer needed a retransmit.
    pub incoming_retransmits: u8,
    /// What comes in from a peer that cannot be reached, or whose requests are missing.
    pub incoming: Option<Incoming>,
    /// Twice the round trip exceeds the timeout.
    pub is_slow: bool,
    /// Something completes handshakes in place of the peer.
    pub is_intercepted: bool,
    /// What an experiment adds to the verdict; of another verdict's, nothing is kept.
    pub detail: Option<Detail>,
    /// The pair rests for a survey: all of this is from before.
    pub is_surveyed: bool,
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
            probes: ALL_RECENT.into(),
            recent_retransmits: None,
            incoming_retransmits: 0,
            incoming: None,
            is_slow: false,
            is_intercepted: false,
            detail: None,
            is_surveyed: false,
        }
    }
}

/// What one node knows of another, in 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// In microseconds; or [`NONE`].
    latency: u32,
    /// In milliseconds; or [`NONE`]. Of a past cell: its counts, as codes.
    age: u32,
    verdict: Verdict,
    /// Of the detail of a verdict: the bytes of `mtu`, dead and tried flows of `flaky`, the place of the host's
    /// state in its set, from 1 on. 0: none.
    detail: u16,
    /// Four counts of five bits, what comes in in two, and flags.
    packed: u32,
}

const _: () = assert!(size_of::<Option<Cell>>() == 16);
const _: () = assert!(RECENT <= MAX_COUNT as usize);
#[expect(clippy::cast_possible_truncation, reason = "at most MAX_COUNT")]
const ALL_RECENT: u8 = RECENT as u8;

const NONE: u32 = u32::MAX;
/// The largest count in five bits.
const MAX_COUNT: u8 = 31;
/// Where each count begins.
const FAILURES: u32 = 0;
const RETRANSMITS: u32 = 5;
const PROBES: u32 = 10;
const INCOMING_RETRANSMITS: u32 = 15;
/// Where what comes in begins: its place in its set, from 1 on.
const INCOMING: u32 = 20;
const SLOW: u32 = 1 << 22;
const INTERCEPTED: u32 = 1 << 23;
const SURVEYED: u32 = 1 << 24;
const AT_LEAST: u32 = 1 << 25;
const OF_THE_PAST: u32 = 1 << 26;

/// Bits of the code of a count of a past cell: exact up to 127, then within 1.6 %.
const CODE_BITS: u32 = 10;
/// Bits of it for the number after its first digit; the others tell how far that is shifted.
const DIGITS: u32 = 6;

impl Cell {
    /// The largest count of a past cell; larger ones become this: 2 million.
    pub const MAX_COUNT: u32 = number_of((1 << CODE_BITS) - 1);

    /// Packs a cell.
    #[must_use]
    pub fn new(facts: CellFacts) -> Self {
        let number =
            |number: Option<u128>| number.map_or(NONE, |number| saturating(number).min(NONE - 1));
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        let count = |count: u32, start: u32| count.min(MAX_COUNT.into()) << start;
        let incoming = facts.incoming.map_or(0, |incoming| 1 + incoming as u32);
        let counts = [facts.failures, facts.retransmits, facts.probes];
        let (age, [failures, retransmits, probes]) = match facts.recent_retransmits {
            None => (number(facts.age.map(u128::from)), counts),
            Some(recent) => {
                let codes =
                    counts.into_iter().fold(0, |codes, count| codes << CODE_BITS | code_of(count));
                (codes, [0, recent.into(), 0])
            }
        };
        let (detail, is_at_least) = pack(facts.verdict, facts.detail);
        Self {
            latency: number(facts.latency.map(|latency| latency.as_micros())),
            age,
            verdict: facts.verdict,
            detail,
            packed: count(failures, FAILURES)
                | count(retransmits, RETRANSMITS)
                | count(probes, PROBES)
                | count(facts.incoming_retransmits.into(), INCOMING_RETRANSMITS)
                | count(incoming, INCOMING)
                | flag(facts.recent_retransmits.is_some(), OF_THE_PAST)
                | flag(facts.is_slow, SLOW)
                | flag(facts.is_intercepted, INTERCEPTED)
                | flag(facts.is_surveyed, SURVEYED)
                | flag(is_at_least, AT_LEAST),
        }
    }

    /// The cell of a peer in a row taken at `row_at`, in Unix milliseconds.
    #[must_use]
    pub fn of(record: &PeerRecord, row_at: u64) -> Self {
        let count = |counts: fn(&&Sample) -> bool| {
            u32::try_from(record.recent.iter().filter(counts).count()).unwrap_or(u32::MAX)
        };
        let times = record.recent.iter().filter_map(|sample| Some(sample.result().ok()?.1));
        Self::new(CellFacts {
            latency: median(times),
            age: record.recent.back().map(|sample| row_at.saturating_sub(sample.at_millis())),
            failures: count(|sample| sample.result().is_err()),
            retransmits: count(|sample| sample.failure().is_some() && sample.retransmits() > 0)
                .saturating_add(u32::try_from(record.lossy_probes()).unwrap_or(u32::MAX)),
            probes: count(|_| true),
            incoming_retransmits: record.recent_incoming_retransmits(),
            incoming: record.incoming_kind,
            is_slow: record.is_slower_than_timeout(),
            is_intercepted: record.is_intercepted(),
            detail: record.detail(),
            is_surveyed: record.surveyed(),
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
        (self.age != NONE && !self.is_of_the_past()).then_some(self.age)
    }

    /// Whether its counts are those of all probes of a past time.
    #[must_use]
    pub fn is_of_the_past(&self) -> bool {
        self.packed & OF_THE_PAST != 0
    }

    /// Failures among the recent probes, and how many these are; of a past cell, among all probes of its time.
    #[must_use]
    pub fn failures(&self) -> (u32, u32) {
        (self.probes(FAILURES), self.probes(PROBES))
    }

    /// Recent probes with a retransmit; of a past cell, of all probes of its time.
    #[must_use]
    pub fn retransmits(&self) -> u32 {
        self.probes(RETRANSMITS)
    }

    /// Recent probes with a retransmit; of a past cell, while its verdict held.
    #[must_use]
    pub fn recent_retransmits(&self) -> u8 {
        self.count(RETRANSMITS)
    }

    /// Whether retransmits show that packets are lost, although some probes fail; of a past cell, while its verdict
    /// held.
    #[must_use]
    pub fn shows_loss(&self) -> bool {
        // Each failure may have had one.
        let successes = self.count(RETRANSMITS).saturating_sub(self.count(FAILURES));
        successes.max(self.incoming_retransmits()) >= MIN_RETRANSMITS
    }

    /// Recent requests of the peer whose SYN-ACK or answer needed a retransmit.
    #[must_use]
    pub fn incoming_retransmits(&self) -> u8 {
        self.count(INCOMING_RETRANSMITS)
    }

    /// What comes in from a peer that cannot be reached, or whose requests are missing; `None` where
    /// addresses are rewritten on the way.
    #[must_use]
    pub fn incoming(&self) -> Option<Incoming> {
        let place = (self.packed >> INCOMING) & 3;
        Incoming::ALL.into_iter().find(|incoming| 1 + *incoming as u32 == place)
    }

    /// Whether twice the round trip exceeds the timeout.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.packed & SLOW != 0
    }

    /// Whether something completes handshakes in place of the peer.
    #[must_use]
    pub fn is_intercepted(&self) -> bool {
        self.packed & INTERCEPTED != 0
    }

    /// Whether the pair rests for a survey.
    #[must_use]
    pub fn is_surveyed(&self) -> bool {
        self.packed & SURVEYED != 0
    }

    /// What an experiment adds to the verdict.
    #[must_use]
    pub fn detail(&self) -> Option<Detail> {
        if self.detail == 0 {
            return None;
        }
        let [dead, flows] = self.detail.to_be_bytes();
        match self.verdict {
            Verdict::Mtu(_) => Some(Detail::Largest(LargestPacket {
                bytes: self.detail,
                is_exact: self.packed & AT_LEAST == 0,
            })),
            Verdict::Flaky(_) => Some(Detail::Flows(DeadFlows { dead, flows })),
            Verdict::Down(_) => {
                let states = HostState::ALL.into_iter();
                states.map(Detail::Host).nth(usize::from(self.detail) - 1)
            }
            _ => None,
        }
    }

    fn count(&self, start: u32) -> u8 {
        u8::try_from(self.packed >> start & u32::from(MAX_COUNT)).unwrap_or(MAX_COUNT)
    }

    /// One of the three counts of probes.
    fn probes(&self, start: u32) -> u32 {
        if !self.is_of_the_past() {
            return self.count(start).into();
        }
        let place = (PROBES - start) / (PROBES - RETRANSMITS);
        number_of(self.age >> (place * CODE_BITS) & ((1 << CODE_BITS) - 1))
    }
}

/// The code of the largest number with a code that is not above this one.
const fn code_of(number: u32) -> u32 {
    let number = if number < Cell::MAX_COUNT { number } else { Cell::MAX_COUNT };
    match (number >> DIGITS).checked_ilog2() {
        None => number,
        Some(shift) => (shift << DIGITS) + (number >> shift),
    }
}

/// The number of a code.
const fn number_of(code: u32) -> u32 {
    match (code >> DIGITS).checked_sub(1) {
        None => code,
        Some(shift) => (code - (shift << DIGITS)) << shift,
    }
}

/// The detail of this verdict in 16 bits, and whether it is a lower bound.
fn pack(verdict: Verdict, detail: Option<Detail>) -> (u16, bool) {
    match (verdict, detail) {
        (Verdict::Mtu(_), Some(Detail::Largest(largest))) => (largest.bytes, !largest.is_exact),
        (Verdict::Flaky(_), Some(Detail::Flows(DeadFlows { dead, flows }))) => {
            (u16::from_be_bytes([dead, flows]), false)
        }
        (Verdict::Down(_), Some(Detail::Host(state))) => (1 + state as u16, false),
        _ => (0, false),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Direction, FailureReason};

    /// What a cell with these facts gives back.
    fn again(facts: CellFacts) -> CellFacts {
        let cell = Cell::new(facts);
        let (failures, probes) = cell.failures();
        CellFacts {
            verdict: cell.verdict(),
            latency: cell.latency(),
            age: cell.age().map(u64::from),
            failures,
            retransmits: cell.retransmits(),
            probes,
            recent_retransmits: cell.is_of_the_past().then(|| cell.recent_retransmits()),
            incoming_retransmits: cell.incoming_retransmits(),
            incoming: cell.incoming(),
            is_slow: cell.is_slow(),
            is_intercepted: cell.is_intercepted(),
            detail: cell.detail(),
            is_surveyed: cell.is_surveyed(),
        }
    }

    #[test]
    fn every_fact_is_packed_apart_from_the_others() {
        let reason = FailureReason::ConnectTimeout;
        let verdicts = [
            Verdict::Up,
            Verdict::Down(reason),
            Verdict::Flaky(reason),
            Verdict::Mtu(Direction::Both),
        ];
        for plain in verdicts.map(CellFacts::of) {
            let mut all = vec![
                CellFacts { failures: 20, ..plain },
                CellFacts { retransmits: 20, ..plain },
                CellFacts { probes: 0, ..plain },
                CellFacts { incoming_retransmits: 20, ..plain },
                CellFacts { is_slow: true, ..plain },
                CellFacts { is_intercepted: true, ..plain },
                CellFacts { is_surveyed: true, ..plain },
                CellFacts { latency: Some(Duration::from_micros(7)), age: Some(8), ..plain },
            ];
            let incoming = Incoming::ALL.map(Some);
            all.extend(incoming.map(|incoming| CellFacts { incoming, ..plain }));
            for facts in all {
                assert_eq!(again(facts), facts);
            }
        }
    }

    #[test]
    fn counts_of_the_past_are_kept_within_two_percent_beside_the_recent_ones() {
        let plain = CellFacts::of(Verdict::Lossy);
        let mut last = 0;
        for count in (0..20_000).chain((20_000..Cell::MAX_COUNT).step_by(997)).chain([u32::MAX]) {
            let facts = CellFacts {
                failures: count,
                retransmits: count / 2,
                probes: count.saturating_add(1),
                recent_retransmits: Some(20),
                incoming_retransmits: 7,
                incoming: Some(Incoming::Syns),
                is_surveyed: count % 2 == 0,
                age: Some(5),
                ..plain
            };
            let again = again(facts);
            let [failures, retransmits, probes] =
                [again.failures, again.retransmits, again.probes].map(f64::from);
            let most = |count: f64| count.min(Cell::MAX_COUNT.into());
            for (kept, exact) in [
                (failures, facts.failures),
                (retransmits, facts.retransmits),
                (probes, facts.probes),
            ] {
                let exact = most(f64::from(exact));
                let off = exact - kept;
                assert!(
                    off >= 0.0 && (off == 0.0 || exact >= 128.0 && off < exact * 0.016),
                    "{exact} {kept}"
                );
            }
            assert!(again.failures <= again.probes && again.failures >= last);
            last = again.failures;
            let CellFacts { failures, retransmits, probes, .. } = again;
            // Passed on, they lose no more.
            assert_eq!(super::tests::again(again), again);
            assert_eq!(again, CellFacts { failures, retransmits, probes, age: None, ..facts });
        }
        assert_eq!(Cell::MAX_COUNT, 127 << 14);
    }

    #[test]
    fn a_detail_belongs_to_its_verdict() {
        let reason = FailureReason::ConnectTimeout;
        let largest = |bytes, is_exact| Detail::Largest(LargestPacket { bytes, is_exact });
        let flows = |dead, flows| Detail::Flows(DeadFlows { dead, flows });
        let all = [
            (Verdict::Mtu(Direction::Outgoing), vec![largest(1337, true), largest(65535, false)]),
            (Verdict::Flaky(reason), vec![flows(1, 4), flows(255, 255)]),
            (Verdict::Down(reason), HostState::ALL.map(Detail::Host).to_vec()),
            (Verdict::Up, vec![]),
        ];
        for (verdict, own) in &all {
            for detail in all.iter().flat_map(|(_, details)| details) {
                let facts = CellFacts { detail: Some(*detail), ..CellFacts::of(*verdict) };
                let kept = Some(*detail).filter(|detail| own.contains(detail));
                assert_eq!(again(facts), CellFacts { detail: kept, ..facts }, "{verdict}");
            }
        }
    }
}
