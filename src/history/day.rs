//! The last day of the mesh: how many pairs were not up at which time, and what was wrong from when to when.

mod lines;
mod mesh;

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::{DAY, Word};
use crate::matrix::{Cell, FindingKind, Matrix, Past, Row, RowError, unix_millis};
use crate::name::NodeName;
use crate::state::Verdict;
use lines::{BinFindings, Found};
pub use mesh::MeshFaults;
use mesh::Words;

/// Length of a bin in seconds: that of the shortest cell.
pub const BIN: u64 = BIN_SECONDS as u64;
const BIN_SECONDS: u32 = 300;

/// The begin of the bin of this second, both in Unix seconds.
#[must_use]
pub const fn begin_of_bin(unix_seconds: u64) -> u64 {
    unix_seconds - unix_seconds % BIN
}

/// Most findings of a day.
pub const MAX_DAY_FINDINGS: usize = 500;

/// The last day of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// The node whose agent collected it.
    pub node: NodeName,
    /// When, in Unix seconds.
    pub at: u64,
    /// The begin of the first bin, in Unix seconds; `None` if no node remembers anything.
    pub since: Option<u64>,
    /// The times of which any node remembers something, oldest first; the last one is still open.
    pub bins: Vec<Bin>,
    /// What was wrong, in the order of the begin, then of the kind.
    pub findings: Vec<DayFinding>,
    /// Findings that are left out, the oldest ones.
    pub left_out: usize,
    /// Findings were sought from here on, in Unix seconds; `None` if in all bins.
    pub judged_since: Option<u64>,
    /// The nodes that told nothing, and those that told a part (`too_large`), in the order of their names.
    pub missing: Vec<(NodeName, RowError)>,
}

/// The pairs at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bin {
    /// Its begin in Unix seconds, a multiple of [`BIN`].
    pub from: u64,
    /// Pairs of which something is known.
    pub pairs: u32,
    /// Pairs whose worst verdict is `down`, `one-way`, `flaky`, `lossy` and `mtu`.
    pub faulty: [u32; 5],
    /// The clock of a node was set back: this time has occurred before.
    pub is_repeated: bool,
}

/// What was wrong from when to when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayFinding {
    /// Its begin in Unix seconds, a multiple of [`BIN`].
    pub from: u64,
    /// Its end in Unix seconds, a multiple of [`BIN`].
    pub to: u64,
    /// Its kind.
    pub kind: FindingKind,
    /// Whether it should wake a person.
    pub is_grave: bool,
    /// The nodes at fault, in order.
    pub nodes: Vec<NodeName>,
    /// The sentence.
    pub text: String,
    /// It covers a time that occurred twice.
    pub is_repeated: bool,
}

impl Day {
    /// The last 24 h before `now`. Bins are judged from the newest on, as long as `may_judge`, asked before each,
    /// says yes: one of 100 nodes with a tenth of the pairs at fault takes 6 ms, one of 418 nodes 100 ms. One without
    /// a fault, or as the one after it, takes nothing.
    #[must_use]
    pub fn of(mesh: &MeshFaults, now: SystemTime, may_judge: &mut dyn FnMut() -> bool) -> Self {
        let at = unix_millis(now) / 1000;
        let end = begin_of_bin(at) + BIN;
        let judge = Judge::new(mesh);
        let (mut bins, mut found) = (Vec::new(), Vec::new());
        let mut after = (Words::default(), Rc::default());
        let mut judged_since = None;
        for back in 1..=DAY / BIN {
            let Some(from) = end.checked_sub(back * BIN) else { break };
            let words = mesh.words(from, from + BIN);
            let findings = match judged_since {
                Some(_) => Rc::default(),
                None if words.rows == after.0.rows => after.1,
                None if !words.is_told() => Rc::default(),
                None if may_judge() => judge.findings(from, &words),
                None => {
                    judged_since = Some(from + BIN);
                    Rc::default()
                }
            };
            bins.extend(Bin::of(mesh, from, &words));
            found.push(judge.bin(from, &words, Rc::clone(&findings)));
            after = (words, findings);
        }
        bins.reverse();
        found.reverse();
        let mut findings = lines::lines(&found, &judge.names);
        let left_out = findings.len().saturating_sub(MAX_DAY_FINDINGS);
        findings.drain(..left_out);
        let since = bins.first().map(|bin| bin.from);
        let (node, missing) = (mesh.node.clone(), mesh.missing());
        Self { node, at, since, bins, findings, left_out, judged_since, missing }
    }
}

impl Bin {
    /// The pairs at this time; `None` if no node remembers it.
    fn of(mesh: &MeshFaults, from: u64, words: &Words) -> Option<Self> {
        let (mut pairs, mut faulty) = (0, [0_u32; 5]);
        for row in &words.rows {
            let empty = row.said.iter().filter(|said| said.is_empty()).count();
            pairs += mesh.known(row.source).len().saturating_sub(empty);
            for verdict in row.said.iter().filter_map(|said| said.verdict()) {
                let place = match verdict {
                    Verdict::Down(_) => 0,
                    Verdict::OneWay => 1,
                    Verdict::Flaky(_) => 2,
                    Verdict::Lossy => 3,
                    Verdict::Mtu(_) => 4,
                    Verdict::Unknown | Verdict::Draining | Verdict::Up => continue,
                };
                if let Some(count) = faulty.get_mut(place) {
                    *count += 1;
                }
            }
        }
        let pairs = u32::try_from(pairs).unwrap_or(u32::MAX);
        let is_repeated = words.is_repeated;
        (!words.rows.is_empty()).then_some(Self { from, pairs, faulty, is_repeated })
    }
}

/// Makes matrices of the words of single bins.
struct Judge<'a> {
    mesh: &'a MeshFaults,
    /// In order.
    names: Vec<NodeName>,
    /// By the place of a node, its number; and the reverse.
    numbers: Vec<usize>,
    places: Vec<usize>,
}

impl<'a> Judge<'a> {
    fn new(mesh: &'a MeshFaults) -> Self {
        let (names, numbers): (Vec<_>, Vec<_>) =
            mesh.names.iter().map(|(name, number)| (name.clone(), number)).unzip();
        let mut places = vec![0; numbers.len()];
        for (place, number) in numbers.iter().enumerate() {
            if let Some(of_number) = places.get_mut(*number) {
                *of_number = place;
            }
        }
        Self { mesh, names, numbers, places }
    }

    fn place(&self, number: usize) -> usize {
        self.places.get(number).copied().unwrap_or(usize::MAX)
    }

    /// A bin, with what is found in it.
    fn bin(&self, from: u64, words: &Words, found: Rc<Vec<Found>>) -> BinFindings {
        let mut remembers = vec![false; self.names.len()];
        for row in &words.rows {
            if let Some(remembers) = remembers.get_mut(self.place(row.source)) {
                *remembers = true;
            }
        }
        BinFindings { from, is_repeated: words.is_repeated, remembers, found }
    }

    /// What is found at a time, by the function that judges the matrix of a past moment.
    fn findings(&self, from: u64, words: &Words) -> Rc<Vec<Found>> {
        let up = Cell::new(Word::of(Verdict::Up).facts());
        let mut rows: Vec<Result<Row, RowError>> =
            vec![Err(RowError::NotRemembered); self.numbers.len()];
        let at = from.saturating_mul(1000);
        let past = Past { seconds: BIN_SECONDS, is_repeated: words.is_repeated };
        for row in &words.rows {
            let mut cells = vec![None; self.names.len()];
            let mut put = |number: u16, cell| {
                if let Some(place) = cells.get_mut(self.place(number.into())) {
                    *place = cell;
                }
            };
            self.mesh.known(row.source).iter().for_each(|number| put(*number, Some(up)));
            row.said.iter().for_each(|said| put(said.target, said.cell()));
            if let Some(place) = rows.get_mut(self.place(row.source)) {
                *place = Ok(Row::new(at, 0, cells).of_the_past(Some(past)));
            }
        }
        let (node, names) = (self.mesh.node.clone(), self.names.clone());
        let matrix =
            Matrix::from_parts(node, (at, Some(past)), [Duration::ZERO; 2], names, rows, None);
        Rc::new(matrix.as_ref().map(Found::all).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
