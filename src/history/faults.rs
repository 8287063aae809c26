//! When the peers of one node were not up: what agents tell each other for the day of the mesh.

use super::{Cell, CellTime, Recollection, Word};
use crate::matrix::unix_millis;
use crate::name::NodeName;
use crate::sort::sort;
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
        let paths = recollection.sorted_paths();
        let mut runs = Vec::new();
        for (place, (_, path)) in (0_u16..).zip(&paths) {
            let cells = recollection.spans.iter().map(|span| span.cell(*path));
            runs_of_path(place, cells, &mut runs);
        }
        let mut faults = Self {
            at: unix_millis(recollection.taken.wall),
            times: recollection.spans.iter().map(|span| span.time).collect(),
            nodes: paths.into_iter().map(|(name, _)| name).collect(),
            runs,
            left_out: 0,
        };
        faults.cut();
        faults
    }

    /// Leaves so many of the oldest times out that at most [`MAX_RUNS`] runs remain.
    fn cut(&mut self) {
        let fits = |cut: usize| self.runs.iter().filter(|run| run.end() > cut).count() <= MAX_RUNS;
        let (mut cut, mut enough) = (0, self.times.len());
        while cut < enough {
            let middle = usize::midpoint(cut, enough);
            if fits(middle) { enough = middle } else { cut = middle + 1 }
        }
        self.left_out = cut;
        self.times.drain(..cut);
        self.runs.retain(|run| run.end() > cut);
        for run in &mut self.runs {
            let shift = |place: usize| u16::try_from(place).unwrap_or(u16::MAX);
            let (first, end) = (usize::from(run.first).saturating_sub(cut), run.end() - cut);
            (run.first, run.count) = (shift(first), shift(end - first));
        }
    }
}

impl Recollection {
    /// The nodes in the order of their names, each with the number of its path.
    #[must_use]
    pub fn sorted_paths(&self) -> Vec<(NodeName, usize)> {
        let mut sorted: Vec<_> = self.paths().map(|(path, name)| (name.clone(), path)).collect();
        sort(&mut sorted);
        sorted
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant, UNIX_EPOCH};

    use wylis_harness::bounds::worst_case;

    use super::*;
    use crate::history::{Span, Summary};
    use crate::probe::FailureReason;
    use crate::state::Moment;

    /// What is remembered of nodes `n0`, `n1`, … : for each time, a word and the failures of 20 probes a node.
    fn remembered(
        nodes: usize,
        times: usize,
        cell: impl Fn(usize, usize) -> Option<(Verdict, u32)>,
    ) -> Recollection {
        let of = |time: usize, node: usize| {
            let Some((verdict, failures)) = cell(time, node) else { return Cell::EMPTY };
            Cell::new(Summary {
                word: Word::of(verdict),
                probes: 20,
                failures,
                retransmits: 0,
                median: None,
                worst: None,
            })
        };
        let span = |place: usize| {
            let from = 300 * (1 + u64::try_from(place).unwrap());
            let time = CellTime { from, seconds: 300, is_repeated: false };
            Span { time, cells: (0..nodes).map(|node| of(place, node)).collect() }
        };
        let name = |node| NodeName::new(&format!("n{node:03}")).ok();
        let wall = UNIX_EPOCH + Duration::from_millis(86_400_250);
        Recollection {
            taken: Moment { instant: Instant::now(), wall },
            // In an order that is not that of the names.
            names: Arc::new((0..nodes).rev().map(name).collect()),
            spans: (0..times).map(span).collect(),
            changes: Vec::new(),
        }
    }

    const DOWN: Verdict = Verdict::Down(FailureReason::Refused);
    const FLAKY: Verdict = Verdict::Flaky(FailureReason::Refused);

    fn run(path: u16, [first, count]: [u16; 2], verdict: Verdict, failures: u16) -> Run {
        Run { path, first, count, failures, probes: 20, octet: Word::of(verdict).octet() }
    }

    #[test]
    fn consecutive_cells_of_a_word_are_one_run_with_the_counts_of_the_worst() {
        let words = [
            Some((Verdict::Up, 1)),
            Some((FLAKY, 3)),
            Some((FLAKY, 9)),
            Some((FLAKY, 4)),
            Some((DOWN, 20)),
            None,
            Some((FLAKY, 2)),
        ];
        let other = |time| if time == 6 { Some((DOWN, 7)) } else { Some((Verdict::Up, 0)) };
        let recollection =
            remembered(
                2,
                words.len(),
                |time, node| if node == 0 { words[time] } else { other(time) },
            );
        let faults = Faults::of(&recollection);
        assert_eq!((faults.at, faults.times.len(), faults.left_out), (86_400_250, 7, 0));
        assert_eq!(faults.nodes, ["n000", "n001"].map(|name| NodeName::new(name).unwrap()));
        let empty = Run { path: 1, first: 5, count: 1, failures: 0, probes: 0, octet: 0 };
        // The first of the paths is the last of the names.
        let expected = [
            run(0, [6, 1], DOWN, 7),
            run(1, [1, 3], FLAKY, 9),
            run(1, [4, 1], DOWN, 20),
            empty,
            run(1, [6, 1], FLAKY, 2),
        ];
        assert_eq!(faults.runs, expected);
    }

    #[test]
    fn runs_beyond_their_bound_go_with_their_times() {
        let flap = |time, _| Some(if time % 2 == 0 { (FLAKY, 1) } else { (DOWN, 20) });
        let whole = Faults::of(&remembered(8, 128, flap));
        assert_eq!((whole.runs.len(), whole.times.len(), whole.left_out), (MAX_RUNS, 128, 0));
        assert!(f64::from(u32::try_from(whole.runs.len()).unwrap()) <= worst_case("MAX_RUNS"));
        for (nodes, times) in [(8, 129), (9, 128), (418, 288), (1025, 3)] {
            let remembered = remembered(nodes, times, flap);
            let faults = Faults::of(&remembered);
            let kept = MAX_RUNS / nodes;
            assert_eq!((faults.times.len(), faults.left_out), (kept, times - kept));
            assert_eq!(faults.runs.len(), kept * nodes);
            let last = remembered.spans.last().unwrap().time;
            assert!(faults.times.last().is_none_or(|time| *time == last));
            assert!(faults.runs.iter().all(|run| run.end() <= kept && run.count == 1));
        }
        // A long run is cut, and does not go.
        let long = |time, node| Some(if node == 0 { (DOWN, 20) } else { flap(time, node)? });
        let faults = Faults::of(&remembered(9, 200, long));
        assert_eq!((faults.times.len(), faults.left_out, faults.runs.len()), (127, 73, 1017));
        assert_eq!(faults.runs.last(), Some(&run(8, [0, 127], DOWN, 20)));
    }
}
