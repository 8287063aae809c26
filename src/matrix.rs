//! The matrix: what every node says of every other, in a compact form, and as JSON. Pure.
//!
//! Whatever comes from a peer is checked and bounded before it is kept: names, numbers, and how many
//! of them.

mod json;
mod names;
mod read;
mod reader;

use std::time::{Duration, UNIX_EPOCH};

use crate::name::NodeName;
use crate::probe::FailureReason;
use crate::state::{PeerRecord, RECENT, Sample, Snapshot, Verdict};
pub use json::{matrix_json, pair_json, row_json};
use names::Names;
pub use read::{PeerLine, Peers, ReadError, peer_of};

/// Of the matrix, of a row and of a pair: rises when a field changes its meaning or goes, and with a new
/// verdict, reason or error, since a reader refuses words that it does not know.
pub const VERSION: u32 = 1;
/// Octets that a peer's row may have: over a thousand peers with names of usual length.
pub const MAX_ROW: usize = 128 * 1024;
/// Octets of all rows of one matrix: some four hundred nodes.
const MAX_ROWS: usize = 16 * 1024 * 1024;
/// Cells of one matrix, twelve octets each: 418 nodes.
const MAX_CELLS: usize = 175_000;

/// What one node says of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Median of the successes among the last probes, in microseconds; [`NONE`] without one.
    latency: u32,
    /// How long before its row was taken the last probe ended, in milliseconds; [`NONE`] without one.
    age: u32,
    verdict: Verdict,
    /// How many of the last probes failed.
    failures: u8,
    /// How many of the last probes were sent again.
    retransmits: u8,
    /// How many of the last probes there are; and in [`SYNS_ONLY`] whether it is half heard.
    probes: u8,
}

const _: () = assert!(size_of::<Option<Cell>>() == 12);

const NONE: u32 = u32::MAX;
const SYNS_ONLY: u8 = 0x80;

impl Cell {
    /// What `record` amounts to in a row taken at `at`, in milliseconds since 1970.
    fn of(record: &PeerRecord, at: u64) -> Self {
        let count = |counts: fn(&&Sample) -> bool| {
            u8::try_from(record.recent.iter().filter(counts).count()).unwrap_or(u8::MAX)
        };
        let times = record.recent.iter().filter_map(|sample| Some(sample.result().ok()?.1));
        let ended = record.recent.back().map(|sample| at.saturating_sub(sample.at_millis()));
        let incoming_syns_only =
            if record.incoming_syns_only == Some(true) { SYNS_ONLY } else { 0 };
        Self {
            latency: median(times).map_or(NONE, |time| below_none(time.as_micros())),
            age: ended.map_or(NONE, |age| below_none(age.into())),
            verdict: record.verdict,
            failures: count(|sample| sample.result().is_err()),
            retransmits: count(|sample| sample.retransmits > 0),
            probes: count(|_| true) | incoming_syns_only,
        }
    }

    /// What it amounts to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The median of the successes among the last probes.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        (self.latency != NONE).then(|| Duration::from_micros(self.latency.into()))
    }

    /// How many of the last probes failed, and of how many.
    #[must_use]
    pub fn failures(&self) -> (u8, u8) {
        (self.failures, self.probes & !SYNS_ONLY)
    }

    fn is_incoming_syns_only(&self) -> bool {
        self.probes & SYNS_ONLY != 0
    }
}

/// The one in the middle, of two the smaller.
fn median(times: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut sorted: Vec<Duration> = Vec::with_capacity(RECENT);
    for time in times {
        sorted.insert(sorted.partition_point(|known| *known < time), time);
    }
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// The number, or the largest that is one.
fn below_none(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(NONE).min(NONE - 1)
}

/// What one node says of all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When it was taken, by its own clock, in milliseconds since 1970.
    at: u64,
    /// By the number of the node. What lies beyond the end is not known.
    cells: Vec<Option<Cell>>,
}

/// Why there is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The peer's or the path's fault.
    Failure(FailureReason),
    /// It, or the matrix with it, is larger than may be.
    TooLarge,
    /// Nobody came to it before the deadline, here or there; or a fault of our own.
    Busy,
    /// An agent that has no rows, or other ones.
    Unsupported,
    /// No peer of ours: only others know it.
    NoPeer,
}

impl Missing {
    /// All that are no failure.
    pub const OTHERS: [Self; 4] = [Self::TooLarge, Self::Busy, Self::Unsupported, Self::NoPeer];

    /// What that value means.
    fn of(word: &str) -> Option<Self> {
        let failures = FailureReason::ALL.into_iter().map(Self::Failure);
        failures.chain(Self::OTHERS).find(|missing| missing.as_str() == word)
    }

    /// The value in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failure(reason) => reason.as_str(),
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Unsupported => "unsupported",
            Self::NoPeer => "no_peer",
        }
    }
}

/// What all nodes say of all others, as far as it was had.
#[derive(Debug)]
pub struct Matrix {
    node: NodeName,
    /// When the collection began, in milliseconds since 1970.
    at: u64,
    took: Duration,
    deadline: Duration,
    names: Names,
    /// By the number of the node.
    rows: Vec<Result<Row, Missing>>,
    /// Octets of the rows that came.
    octets: usize,
    cells: usize,
}

impl Matrix {
    /// With our own row, and with none of our peers'.
    #[must_use]
    pub fn new(node: &NodeName, snapshot: &Snapshot, deadline: Duration) -> Self {
        let peers = snapshot.peers.iter().map(|record| record.peer.node.clone());
        let names = Names::new(node, peers);
        let at = millis(snapshot);
        let mut cells = vec![None; names.len()];
        for record in &snapshot.peers {
            let number = names.number(record.peer.node.as_str());
            if let Some(cell) = number.and_then(|number| cells.get_mut(number)) {
                *cell = Some(Cell::of(record, at));
            }
        }
        let mut matrix = Self {
            node: node.clone(),
            at,
            took: Duration::ZERO,
            deadline,
            rows: vec![Err(Missing::Busy); names.len()],
            names,
            octets: 0,
            cells: 0,
        };
        matrix.put(node, Ok(Row { at, cells }));
        matrix
    }

    /// Whether there is room for the row of one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.octets < MAX_ROWS && self.cells < MAX_CELLS
    }

    /// Takes the document that a peer gave for its row.
    pub fn take(&mut self, peer: &NodeName, document: &[u8]) {
        self.octets = self.octets.saturating_add(document.len());
        let row = if self.has_room() {
            read::row(peer, document, &mut self.names).map_err(Missing::from)
        } else {
            Err(Missing::TooLarge)
        };
        self.put(peer, row);
    }

    /// Notes why a peer gave none.
    pub fn miss(&mut self, peer: &NodeName, why: Missing) {
        self.put(peer, Err(why));
    }

    fn put(&mut self, node: &NodeName, row: Result<Row, Missing>) {
        let row = row.and_then(|row| {
            let cells = self.cells + row.cells.len();
            if cells > MAX_CELLS {
                return Err(Missing::TooLarge);
            }
            self.cells = cells;
            Ok(row)
        });
        let number = self.names.number(node.as_str());
        if let Some(place) = number.and_then(|number| self.rows.get_mut(number)) {
            *place = row;
        }
    }

    /// Reads `/api/v1/cluster`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn read(document: &[u8]) -> Result<Self, ReadError> {
        read::matrix(document)
    }

    /// Who collected it.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// How long that took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// All nodes, in the order of their names, each with its row or why there is none.
    pub fn rows(&self) -> impl Iterator<Item = (&NodeName, Result<&Row, Missing>)> {
        self.names.iter().map(|(name, number)| {
            let row = self.rows.get(number).map(|row| row.as_ref().map_err(|why| *why));
            (name, row.unwrap_or(Err(Missing::NoPeer)))
        })
    }

    /// What `row`, one of [`Self::rows`], says of each node, in the same order.
    pub fn cells<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = Option<Cell>> + 'a {
        self.names.iter().map(|(_, number)| row.cells.get(number).copied().flatten())
    }

    /// Nothing more will come.
    #[must_use]
    pub fn finish(mut self, took: Duration) -> Self {
        self.took = took;
        self.rows.resize(self.names.len(), Err(Missing::NoPeer));
        self
    }
}

/// When it was taken, in milliseconds since 1970.
fn millis(snapshot: &Snapshot) -> u64 {
    let since = snapshot.taken.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
