//! When the peers of one node were not up: what agents tell each other for the day of the mesh.

use std::cmp::Reverse;

use super::{Cell, CellTime, Recollection, Word};
use crate::matrix::unix_millis;
use crate::name::NodeName;
use crate::state::Verdict;

/// Most runs of one node, 12 bytes each; of 418 nodes, 5 MB. A pair that flaps all night has 144.
pub const MAX_RUNS: usize = 1024;

/// When the peers of one node were not up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// When this was so, in Unix milliseconds.
    pub at: u64,
    /// The times of its cells, oldest first; the last one is still open.
    pub times: Vec<CellTime>,
    /// All nodes that it remembers, in the order of their names.
    pub nodes: Vec<NodeName>,
    /// What is not plainly `up`, in the order of the nodes, then of the times.
    pub runs: Vec<Run>,
    /// The number of times before these that are left out, because there would be more than [`MAX_RUNS`] runs.
    pub left_out: usize,
}

/// Consecutive cells of one path with the same word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The place of the node.
    pub path: u16,
    /// The place of the first cell among the times.
    pub first: u16,
    /// Number of cells.
    pub count: u16,
    /// Failed probes of the cell with the largest share of them.
    pub failures: u16,
    /// Probes of that cell.
    pub probes: u16,
    /// The octet of the word; 0 where nothing is known.
    pub octet: u8,
}

impl Run {
    /// The place after that of its last cell.
    #[must_use]
    pub fn end(&self) -> usize {
        usize::from(self.first) + usize::from(self.count)
    }

    /// Takes another cell in.
    fn extend(&mut self, [failures, probes]: [u16; 2]) {
        self.count = self.count.saturating_add(1);
        let share = |one: u16, of: u16| u32::from(one) * u32::from(of);
        if self.probes == 0 || share(failures, self.probes) > share(self.failures, probes) {
            (self.failures, self.probes) = (failures, probes);
        }
    }
}

impl Faults {
    /// The faults within what an agent remembers.
    #[must_use]
    pub fn of(recollection: &Recollection) -> Self {
        let mut paths: Vec<(usize, &NodeName)> = recollection.paths().collect();
        paths.sort_by_key(|(_, name)| *name);
        let mut runs = Vec::new();
        for (place, (path, _)) in (0_u16..).zip(&paths) {
            let cells = recollection.spans.iter().map(|span| span.cell(*path));
            runs_of_path(place, cells, &mut runs);
        }
        let mut faults = Self {
            at: unix_millis(recollection.taken.wall),
            times: recollection.spans.iter().map(|span| span.time).collect(),
            nodes: paths.into_iter().map(|(_, name)| name.clone()).collect(),
            runs,
            left_out: 0,
        };
        faults.cut(MAX_RUNS);
        faults
    }

    /// Leaves so many of the oldest times out that at most `max` runs remain.
    fn cut(&mut self, max: usize) {
        let mut ends: Vec<usize> = self.runs.iter().map(Run::end).collect();
        ends.sort_unstable_by_key(|end| Reverse(*end));
        let Some(cut) = ends.get(max).copied() else { return };
        self.left_out = cut;
        self.times.drain(..cut.min(self.times.len()));
        self.runs.retain(|run| run.end() > cut);
        for run in &mut self.runs {
            let shift = |place: usize| u16::try_from(place).unwrap_or(u16::MAX);
            let (first, end) = (usize::from(run.first).saturating_sub(cut), run.end() - cut);
            (run.first, run.count) = (shift(first), shift(end - first));
        }
    }

    /// Whether a peer is plainly `up` in the last cell.
    #[must_use]
    pub fn is_up_now(&self, peer: &NodeName) -> bool {
        let Ok(place) = self.nodes.binary_search(peer) else { return false };
        let is_last = |run: &Run| usize::from(run.path) == place && run.end() >= self.times.len();
        !self.times.is_empty() && !self.runs.iter().any(is_last)
    }
}

/// The runs of one path.
fn runs_of_path(path: u16, cells: impl Iterator<Item = Cell>, runs: &mut Vec<Run>) {
    let up = Word::of(Verdict::Up).octet();
    let begun = runs.len();
    for (place, cell) in (0_u16..).zip(cells) {
        let [octet, ..] = cell.octets();
        if octet == up {
            continue;
        }
        let count = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let counts =
            cell.summary().map_or([0; 2], |cell| [count(cell.failures), count(cell.probes)]);
        let before = runs.get_mut(begun..).and_then(<[Run]>::last_mut);
        match before {
            Some(run) if run.octet == octet && run.end() == usize::from(place) => {
                run.extend(counts);
            }
            _ => {
                let [failures, probes] = counts;
                runs.push(Run { path, first: place, count: 1, failures, probes, octet });
            }
        }
    }
}
