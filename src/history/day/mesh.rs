//! What all nodes remember, with numbers for names, and what it tells of one time.

use crate::history::{CellTime, Faults, Run, Word};
use crate::matrix::{Cell, Names, RowError};
use crate::name::NodeName;
use crate::state::Verdict;

/// Most pairs of a mesh, as of a matrix: 418 nodes.
const MAX_PAIRS: usize = 175_000;

/// What all nodes of a mesh remember, as far as it could be collected.
#[derive(Debug)]
pub struct MeshFaults {
    pub(super) node: NodeName,
    pub(super) names: Names,
    /// By the number of the node; `None` of one that was not asked.
    rows: Vec<Option<Result<Row, RowError>>>,
    /// The pairs of all rows.
    pairs: usize,
}

/// What one node remembers.
#[derive(Debug)]
struct Row {
    times: Vec<CellTime>,
    /// The numbers of the nodes that it remembers.
    known: Vec<u16>,
    /// Of these, those of one node together; the path is the number of the node.
    runs: Vec<Run>,
    is_cut: bool,
}

/// What one node says of another at one time, where that is not plainly `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// The number of the node.
    pub(super) target: u16,
    octet: u8,
    failures: u16,
    probes: u16,
}

impl Said {
    /// As a cell of the matrix; `None` if nothing is known.
    pub(super) fn cell(self) -> Option<Cell> {
        let word = Word::from_octet(self.octet)?;
        Some(word.matrix_cell(self.failures.into(), self.probes.into()))
    }

    /// The verdict, if the pair is at fault.
    pub(super) fn verdict(self) -> Option<Verdict> {
        Word::from_octet(self.octet).filter(|word| !word.is_surveyed).map(|word| word.verdict)
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(self) -> bool {
        self.octet == 0
    }

    /// Whether a finding may tell of it.
    pub(super) fn is_told(self) -> bool {
        Word::from_octet(self.octet)
            .is_some_and(|word| word.is_intercepted || word.rank() > UP_RANK)
    }
}

/// The rank of plain `up`.
const UP_RANK: u8 = Word::of(Verdict::Up).rank();

/// The rank of an octet; 0 where nothing is known.
fn rank(octet: u8) -> u8 {
    Word::from_octet(octet).map_or(0, |word| 1 + word.rank())
}

/// What is said at one time: of each row that remembers it, in the order of the rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) rows: Vec<RowWords>,
    /// The clock of a node was set back: this time has occurred before.
    pub(super) is_repeated: bool,
}

impl Words {
    /// Whether a finding may tell of any of it.
    pub(super) fn is_told(&self) -> bool {
        self.rows.iter().flat_map(|row| &row.said).any(|said| said.is_told())
    }
}

/// What one row says at one time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowWords {
    /// The number of its node.
    pub(super) source: usize,
    /// In the order of the row.
    pub(super) said: Vec<Said>,
}

impl MeshFaults {
    /// What the agent of `node` itself remembers.
    #[must_use]
    pub fn new(node: &NodeName, own: Faults) -> Self {
        let names = Names::new(node, own.nodes.iter().cloned());
        let mut mesh = Self { node: node.clone(), names, rows: Vec::new(), pairs: 0 };
        mesh.add(node, Ok(own));
        mesh
    }

    /// Adds what a peer remembers, or why that is missing. Another of the same peer replaces the first.
    pub fn add(&mut self, peer: &NodeName, faults: Result<Faults, RowError>) {
        let Some(number) = self.names.add(peer) else { return };
        if self.rows.len() <= number {
            self.rows.resize_with(number + 1, || None);
        }
        self.pairs -= self.known(number).len();
        let row = faults.and_then(|faults| self.number(faults));
        self.pairs += row.as_ref().map_or(0, |row| row.known.len());
        if let Some(place) = self.rows.get_mut(number) {
            *place = Some(row);
        }
    }

    /// Puts numbers for names. A name without room is left out, with what is said of it.
    fn number(&mut self, faults: Faults) -> Result<Row, RowError> {
        let Faults { times, nodes, mut runs, left_out, .. } = faults;
        if self.pairs + nodes.len() > MAX_PAIRS {
            return Err(RowError::TooLarge);
        }
        let number = |name| self.names.add(name).and_then(|number| u16::try_from(number).ok());
        let numbers: Vec<Option<u16>> = nodes.iter().map(number).collect();
        runs.retain_mut(|run| {
            let number = numbers.get(usize::from(run.path)).copied().flatten();
            run.path = number.unwrap_or_default();
            number.is_some()
        });
        let known = numbers.into_iter().flatten().collect();
        Ok(Row { times, known, runs, is_cut: left_out > 0 })
    }

    /// The nodes that told nothing, and those that told a part, in the order of their names.
    pub(super) fn missing(&self) -> Vec<(NodeName, RowError)> {
        let of = |number: usize| match self.rows.get(number)?.as_ref()? {
            Err(error) => Some(*error),
            Ok(row) => row.is_cut.then_some(RowError::TooLarge),
        };
        let names = self.names.iter();
        names.filter_map(|(name, number)| Some((name.clone(), of(number)?))).collect()
    }

    /// The nodes whose words came and that remember this one: those first (0) that reach it plainly in their last
    /// cell, then the others (1). In the order of their names.
    #[must_use]
    pub fn reaching(&self, node: &NodeName) -> Vec<(u8, &NodeName)> {
        let number = self.names.number(node).and_then(|number| u16::try_from(number).ok());
        let of = |source: usize| match self.rows.get(source) {
            Some(Some(Ok(row))) => row.is_up_now(number?).map(|is_up| u8::from(!is_up)),
            _ => None,
        };
        let of_rank = |rank: u8| {
            let names = self.names.iter().filter(move |(_, source)| of(*source) == Some(rank));
            names.map(move |(name, _)| (rank, name))
        };
        (0..2).flat_map(of_rank).collect()
    }

    /// The numbers of the nodes that a row knows.
    pub(super) fn known(&self, number: usize) -> &[u16] {
        match self.rows.get(number) {
            Some(Some(Ok(row))) => &row.known,
            _ => &[],
        }
    }

    /// What is said from `from` to `to`, in Unix seconds.
    pub(super) fn words(&self, from: u64, to: u64) -> Words {
        let mut words = Words::default();
        for (source, row) in self.rows.iter().enumerate() {
            let Some(Ok(row)) = row else { continue };
            if let Some((said, is_repeated)) = row.said(from, to) {
                words.rows.push(RowWords { source, said });
                words.is_repeated |= is_repeated;
            }
        }
        words
    }
}

impl Row {
    /// Whether a node was plainly `up` in the last cell; `None` if it is not known.
    fn is_up_now(&self, target: u16) -> Option<bool> {
        let is_last = |run: &Run| run.path == target && run.end() >= self.times.len();
        self.known.contains(&target).then(|| !self.runs.iter().any(is_last))
    }

    /// What it says of the nodes that were not plainly `up` from `from` to `to`, and whether that time has occurred
    /// before; of several cells, the gravest word. `None` if it remembers nothing of that time.
    fn said(&self, from: u64, to: u64) -> Option<(Vec<Said>, bool)> {
        let (mut cells, mut is_repeated): (Vec<usize>, _) = (Vec::new(), false);
        for (place, time) in self.times.iter().enumerate() {
            if time.from < to && from < time.to() {
                cells.push(place);
                is_repeated |= time.is_repeated;
            }
        }
        let (first, last) = (*cells.first()?, *cells.last()?);
        // Cells before a place: looked up, not counted, since a hostile node may send many that overlap.
        let before = |place: usize| cells.partition_point(|cell| *cell < place);
        let mut said = Vec::new();
        for runs in self.runs.chunk_by(|one, next| one.path == next.path) {
            let (mut worst, mut covered): (Option<Said>, _) = (None, 0);
            for run in runs {
                let (begin, end) = (usize::from(run.first), run.end());
                if end <= first || begin > last {
                    continue;
                }
                let count = before(end) - before(begin);
                let Run { path: target, octet, failures, probes, .. } = *run;
                if count > 0 && worst.is_none_or(|worst| rank(octet) > rank(worst.octet)) {
                    worst = Some(Said { target, octet, failures, probes });
                }
                covered += count;
            }
            // In the other cells, it was `up`.
            said.extend(worst.filter(|worst| covered >= cells.len() || worst.is_told()));
        }
        Some((said, is_repeated))
    }
}
