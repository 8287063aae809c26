//! The matrix: what every node knows of every other, in a compact form. Pure.

mod cell;
mod clock;
mod findings;
mod names;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::name::NodeName;
use crate::probe::FailureReason;
use crate::sort::sort;
use crate::state::{PeerRecord, Snapshot, Verdict};
pub use cell::{Cell, CellFacts, MIN_RETRANSMITS, median};
pub use clock::ClockOffset;
pub use findings::{Finding, FindingKind, MAX_LISTED_PAIRS};
pub(crate) use names::Names;

/// Maximum cells of one matrix, 16 bytes each: 418 nodes.
const MAX_CELLS: usize = 175_000;

/// What one node knows of all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    at: u64,
    /// Milliseconds from its arrival to that of the other rows.
    age: u64,
    clock: Option<ClockOffset>,
    /// The node that passed it on, if not its own.
    through: Option<NodeName>,
    /// Of a past moment: the time that its cells cover.
    past: Option<Past>,
    /// By the number of the node; cells beyond the end are unknown.
    cells: Vec<Option<Cell>>,
}

impl Row {
    /// A row taken at `at`, in Unix milliseconds, and collected `age` milliseconds before the others,
    /// whose cells are in the order of the names.
    #[must_use]
    pub fn new(at: u64, age: u64, cells: Vec<Option<Cell>>) -> Self {
        Self { at, age, clock: None, through: None, past: None, cells }
    }

    /// The same row, with what is known of the clock of its node.
    #[must_use]
    pub fn with_clock(self, clock: Option<ClockOffset>) -> Self {
        Self { clock, ..self }
    }

    /// The clock of its node; `None` where it is not known.
    #[must_use]
    pub fn clock(&self) -> Option<ClockOffset> {
        self.clock
    }

    /// The same row, passed on by this node.
    #[must_use]
    pub fn passed_on(self, through: Option<NodeName>) -> Self {
        Self { through, ..self }
    }

    /// When it was taken, by the clock of its node, in Unix milliseconds.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Milliseconds from its arrival to that of the other rows: 0 unless it comes from the collection
    /// before, because its node was too busy to send another.
    #[must_use]
    pub fn age(&self) -> u64 {
        self.age
    }

    /// The node that passed it on, because it did not come from its own.
    #[must_use]
    pub fn through(&self) -> Option<&NodeName> {
        self.through.as_ref()
    }

    /// The same row, of a past moment.
    #[must_use]
    pub fn of_the_past(self, past: Option<Past>) -> Self {
        Self { past, ..self }
    }

    /// Of a past moment: the time that its cells cover, from [`Row::at`] on.
    #[must_use]
    pub fn past(&self) -> Option<Past> {
        self.past
    }

    /// The number of its cells, the unknown ones before the last known included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.cells.len()
    }
}

/// What distinguishes a row or a matrix of a past moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Seconds that its cells cover.
    pub seconds: u32,
    /// The clock of its node was set back: this time has occurred before.
    pub is_repeated: bool,
}

/// The row of a peer as it was read: each cell with the name of its node.
#[derive(Debug)]
pub struct NamedRow {
    /// When it was taken, by the clock of its node, in Unix milliseconds.
    pub at: u64,
    /// Milliseconds since it was received.
    pub age: u64,
    /// The clock of its node; `None` where it is not known.
    pub clock: Option<ClockOffset>,
    /// The node that passed it on, if not its own.
    pub through: Option<NodeName>,
    /// Of a past moment: the time that its cells cover.
    pub past: Option<Past>,
    /// In any order.
    pub cells: Vec<(NodeName, Cell)>,
}

/// Why a row is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowError {
    /// The peer or the path failed.
    Failure(FailureReason),
    /// The row or the whole matrix exceeds its bound.
    TooLarge,
    /// Not fetched before the deadline, by this agent or by the peer's; or a local fault.
    Busy,
    /// The peer's agent has no such route, or another version of it.
    Unsupported,
    /// Not asked for while the node rests for a survey.
    Surveyed,
    /// Not in this agent's list of peers, only in the rows of others.
    NoPeer,
    /// Of a past moment: the peer's agent remembers nothing of it.
    NotRemembered,
}

impl RowError {
    /// All that are no failure of the peer or the path.
    pub const OTHERS: [Self; 6] = [
        Self::TooLarge,
        Self::Busy,
        Self::Unsupported,
        Self::Surveyed,
        Self::NoPeer,
        Self::NotRemembered,
    ];

    /// The same of a question about the past: an agent without such a route remembers nothing.
    #[must_use]
    pub fn of_the_past(self) -> Self {
        if self == Self::Unsupported { Self::NotRemembered } else { self }
    }

    /// The error with this text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::all().find(|error| error.as_str() == text)
    }

    /// All errors.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        FailureReason::ALL.into_iter().map(Self::Failure).chain(Self::OTHERS)
    }

    /// The text in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failure(reason) => reason.as_str(),
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Unsupported => "unsupported",
            Self::Surveyed => "surveyed",
            Self::NoPeer => "no_peer",
            Self::NotRemembered => "not_remembered",
        }
    }
}

/// The rows of all nodes, as far as they could be collected.
#[derive(Debug)]
pub struct Matrix {
    node: NodeName,
    at: u64,
    duration: Duration,
    deadline: Duration,
    /// Of a past moment: the time that its cells cover.
    past: Option<Past>,
    names: Names,
    /// By the number of the node.
    rows: Vec<Result<Row, RowError>>,
    /// Cells of all rows.
    cells: usize,
    /// Of a finished matrix.
    findings: Vec<Finding>,
}

impl Matrix {
    /// A matrix with the own row only; it is to be collected within `deadline`.
    #[must_use]
    pub fn new(node: &NodeName, snapshot: &Snapshot, deadline: Duration) -> Self {
        let at = unix_millis(snapshot.taken.wall);
        let peers = snapshot.peers.iter().map(|record| record.peer.node.clone());
        let names = Names::new(node, peers);
        let cell = |record: &Arc<PeerRecord>| (record.peer.node.clone(), Cell::of(record, at));
        let cells = snapshot.peers.iter().map(cell).collect();
        let own_row = NamedRow { at, age: 0, clock: None, through: None, past: None, cells };
        Self::with_row(node, (at, None), names, Ok(own_row), deadline)
    }

    /// A matrix of a past moment, at `at` in Unix milliseconds, with the own row only, or why this agent has none;
    /// the rows of the peers, in any order, are to be collected within `deadline`.
    #[must_use]
    pub fn of_the_past(
        own: &NodeName,
        at: u64,
        past: Past,
        peers: impl Iterator<Item = NodeName>,
        own_row: Result<NamedRow, RowError>,
        deadline: Duration,
    ) -> Self {
        let mut peers: Vec<NodeName> = peers.collect();
        sort(&mut peers);
        peers.dedup();
        let names = Names::new(own, peers.into_iter());
        Self::with_row(own, (at, Some(past)), names, own_row, deadline)
    }

    /// A matrix with the own row only.
    fn with_row(
        node: &NodeName,
        (at, past): (u64, Option<Past>),
        names: Names,
        own_row: Result<NamedRow, RowError>,
        deadline: Duration,
    ) -> Self {
        let mut matrix = Self {
            node: node.clone(),
            at,
            duration: Duration::ZERO,
            deadline,
            past,
            rows: vec![Err(RowError::Busy); names.len()],
            names,
            cells: 0,
            findings: Vec::new(),
        };
        matrix.add(node, own_row);
        matrix
    }

    /// A finished matrix of these parts; `None` unless the names are in order. Each row belongs to the
    /// name at its place. The time is in Unix milliseconds, with what distinguishes a past moment. Findings that
    /// are not given are found.
    #[must_use]
    pub fn from_parts(
        node: NodeName,
        (at, past): (u64, Option<Past>),
        [duration, deadline]: [Duration; 2],
        names: Vec<NodeName>,
        rows: Vec<Result<Row, RowError>>,
        known: Option<Vec<Finding>>,
    ) -> Option<Self> {
        let names = Names::all(names)?;
        let findings = Vec::new();
        let mut matrix =
            Self { node, at, duration, deadline, past, names, rows, cells: 0, findings };
        matrix.findings = known.unwrap_or_else(|| findings::findings(&matrix));
        Some(matrix)
    }

    /// Whether there is room for another row.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.cells < MAX_CELLS
    }

    /// Adds the row of a peer, or why it is missing.
    pub fn add(&mut self, peer: &NodeName, row: Result<NamedRow, RowError>) {
        let row = row.and_then(|row| self.number_cells(row));
        if let Some(place) = self.names.number(peer).and_then(|number| self.rows.get_mut(number)) {
            *place = row;
        }
    }

    /// Sets what the time of a row that is there tells of the clock of its node.
    pub fn set_clock(&mut self, node: &NodeName, clock: impl FnOnce(u64) -> ClockOffset) {
        let row = self.names.number(node).and_then(|number| self.rows.get_mut(number));
        if let Some(Ok(row)) = row {
            row.clock = Some(clock(row.at));
        }
    }

    /// Takes a row out, if there is one.
    pub fn take_row(&mut self, node: &NodeName) -> Option<Row> {
        let place = self.names.number(node).and_then(|number| self.rows.get_mut(number))?;
        std::mem::replace(place, Err(RowError::Busy)).ok()
    }

    /// A row of this matrix for another one, with the names of its cells.
    #[must_use]
    pub fn with_names(&self, row: &Row) -> NamedRow {
        let cell = |(name, number): (&NodeName, usize)| {
            Some((name.clone(), row.cells.get(number).copied().flatten()?))
        };
        let cells = self.names.iter().filter_map(cell).collect();
        let through = row.through.clone();
        NamedRow { at: row.at, age: row.age, clock: row.clock, through, past: row.past, cells }
    }

    /// Orders the cells by number. A name without room is left out; one that occurs twice makes the
    /// row malformed. No name of a refused row stays.
    fn number_cells(&mut self, row: NamedRow) -> Result<Row, RowError> {
        let known = self.names.len();
        let mut cells = vec![None; known];
        let mut put = |(name, cell)| {
            let Some(number) = self.names.add(&name) else { return true };
            if cells.len() <= number {
                cells.resize(number + 1, None);
            }
            cells.get_mut(number).is_some_and(|place| place.replace(cell).is_none())
        };
        let refused = if !row.cells.into_iter().all(&mut put) {
            RowError::Failure(FailureReason::BadResponse)
        } else if self.cells + cells.len() > MAX_CELLS {
            RowError::TooLarge
        } else {
            self.cells += cells.len();
            let NamedRow { at, age, clock, through, past, .. } = row;
            return Ok(Row { at, age, clock, through, past, cells });
        };
        self.names.truncate(known);
        Err(refused)
    }

    /// The node whose agent collected it.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// When the collection began, in Unix milliseconds.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// How long the collection took.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The time that the collection could take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Of a past moment: the time that its cells cover, from [`Matrix::at`] on.
    #[must_use]
    pub fn past(&self) -> Option<Past> {
        self.past
    }

    /// Sets the time of a past moment: when it begins, in Unix milliseconds, and what distinguishes it.
    pub fn set_past(&mut self, at: u64, past: Past) {
        (self.at, self.past) = (at, Some(past));
    }

    /// All nodes, in the order of their names, each with its row or why it is missing.
    pub fn rows(&self) -> impl Iterator<Item = (&NodeName, Result<&Row, RowError>)> {
        self.names.iter().map(|(name, number)| {
            let row = self.rows.get(number).map(|row| row.as_ref().map_err(|error| *error));
            (name, row.unwrap_or(Err(RowError::NoPeer)))
        })
    }

    /// The cells of a row of this matrix, in the order of the names.
    pub fn cells<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = Option<Cell>> + 'a {
        self.names.iter().map(|(_, number)| row.cells.get(number).copied().flatten())
    }

    /// What is wrong, the gravest first.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many cells are up, and how many there are. What rests for a survey is not known to be up.
    #[must_use]
    pub fn pairs(&self) -> (usize, usize) {
        let rows = self.rows().filter_map(|(_, row)| row.ok());
        let cells = rows.flat_map(|row| row.cells.iter().flatten());
        cells.fold((0, 0), |(up, all), cell| {
            let is_up = cell.verdict() == Verdict::Up && !cell.is_surveyed();
            (up + usize::from(is_up), all + 1)
        })
    }

    /// The verdicts of all nodes on this one whose rows came from themselves, in the order of their names; not of
    /// those that rest with it for a survey.
    pub fn verdicts_on(&self, target: &NodeName) -> impl Iterator<Item = (&NodeName, Verdict)> {
        let number = self.names.number(target);
        self.rows().filter_map(move |(name, row)| {
            let row = row.ok().filter(|row| row.through.is_none() && row.age == 0)?;
            let cell = row.cells.get(number?).copied().flatten();
            Some((name, cell.filter(|cell| !cell.is_surveyed())?.verdict()))
        })
    }

    /// Ends the collection, which took `duration`; documents give it in microseconds.
    #[must_use]
    pub fn finish(mut self, duration: Duration) -> Self {
        self.findings = findings::findings(&self);
        self.duration = Duration::new(duration.as_secs(), duration.subsec_micros() * 1000);
        self
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
