//! What the rows say, by the places of the nodes: cells, who is reached, and which cells are explained.

use crate::matrix::{Cell, Matrix, Row, RowError};
use crate::probe::FailureReason;
use crate::sort::sort;
use crate::state::{Incoming, Verdict};

/// A cell by the places of its source and its target.
pub(super) type Pair = (usize, usize);

/// The same in 4 bytes: places are below the longest list of a document, 16,384.
pub(super) fn pack((source, target): Pair) -> [u16; 2] {
    [source, target].map(|place| u16::try_from(place).unwrap_or(u16::MAX))
}

/// A pair from 4 bytes.
pub(super) fn unpack([source, target]: [u16; 2]) -> Pair {
    (source.into(), target.into())
}

/// Many cells, packed: a finding may explain all.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cells(Vec<[u16; 2]>);

impl Cells {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Pair> {
        self.0.iter().copied().map(unpack)
    }

    pub(super) fn sort(&mut self) {
        sort(&mut self.0);
    }
}

impl Extend<Pair> for Cells {
    fn extend<T: IntoIterator<Item = Pair>>(&mut self, pairs: T) {
        self.0.extend(pairs.into_iter().map(pack));
    }
}

impl FromIterator<Pair> for Cells {
    fn from_iter<T: IntoIterator<Item = Pair>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(pack).collect())
    }
}

/// The rows of a matrix, and which of its cells are explained. A table of all pairs would be too large:
/// names can be many while rows are few.
pub(super) struct Facts<'a> {
    /// Of all nodes, in order.
    pub(super) names: Vec<&'a str>,
    /// The place of the collecting node.
    pub(super) own: Option<usize>,
    /// The number of each node in the rows.
    numbers: Vec<usize>,
    rows: Vec<Result<&'a Row, RowError>>,
    /// Nodes whose row came.
    sources: Vec<usize>,
    /// For each row that came, the marks of its cells, so that most passes read one byte a cell.
    marks: Vec<Vec<u8>>,
}

/// The source reaches the target.
const UP: u8 = 1;
/// The source does not reach the target.
const DOWN: u8 = 2;
/// A finding must explain the cell, and none does yet.
const OPEN: u8 = 4;

fn mark(cell: Option<&Cell>) -> u8 {
    match cell.map(Cell::verdict) {
        None | Some(Verdict::Unknown | Verdict::Draining) => 0,
        Some(Verdict::Up) => UP,
        // It answers, though too late.
        Some(Verdict::Down(_)) if cell.is_some_and(Cell::is_slow) => UP | OPEN,
        Some(Verdict::Down(_)) => DOWN | OPEN,
        Some(Verdict::OneWay | Verdict::Flaky(_) | Verdict::Lossy | Verdict::Mtu(_)) => UP | OPEN,
    }
}

/// Nodes that are reached and nodes that are not, counted at one node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Nodes that reach it.
    pub(super) in_up: usize,
    /// Nodes that do not.
    pub(super) in_down: usize,
    /// Nodes that it reaches.
    pub(super) out_up: usize,
    /// Nodes that it does not.
    pub(super) out_down: usize,
}

impl Counts {
    /// Whether anything is known of it.
    pub(super) fn any(self) -> bool {
        self.in_up + self.in_down + self.out_up + self.out_down > 0
    }
}

impl<'a> Facts<'a> {
    pub(super) fn new(matrix: &'a Matrix) -> Self {
        let names: Vec<&str> = matrix.rows().map(|(name, _)| name.as_str()).collect();
        let rows: Vec<_> = matrix.rows().map(|(_, row)| row).collect();
        let size = names.len();
        let mut facts = Self {
            own: names.iter().position(|name| *name == matrix.node().as_str()),
            names,
            numbers: matrix.names.iter().map(|(_, number)| number).collect(),
            sources: (0..size).filter(|node| matches!(rows.get(*node), Some(Ok(_)))).collect(),
            rows,
            marks: Vec::new(),
        };
        let marks = |source| (0..size).map(|target| mark(facts.cell((source, target)))).collect();
        let of_row = |(source, row): (usize, &Result<_, _>)| {
            row.as_ref().map_or(Vec::new(), |_| marks(source))
        };
        facts.marks = facts.rows.iter().enumerate().map(of_row).collect();
        if matrix.past().is_some() {
            facts.leave_out_rows_not_had();
        }
        facts
    }

    /// Leaves out the rows that the collecting agent could not have had at a past moment, as it knows by its own.
    fn leave_out_rows_not_had(&mut self) {
        let Some(own) = self.own.filter(|own| self.row(*own).is_ok()) else { return };
        let whys: Vec<_> = (0..self.size()).map(|node| self.why_not_had(own, node)).collect();
        for ((row, marks), why) in self.rows.iter_mut().zip(&mut self.marks).zip(&whys) {
            if let Some(why) = why {
                *row = Err(*why);
                marks.clear();
            }
        }
        self.sources.retain(|node| whys.get(*node) == Some(&None));
    }

    /// Why the own agent could not have had the row of a node: it did not reach it, and no node whose row it had
    /// could pass that one on.
    fn why_not_had(&self, own: usize, node: usize) -> Option<RowError> {
        let passes_on = |by: &usize| {
            let is_down = |cell: &Cell| matches!(cell.verdict(), Verdict::Down(_));
            let reaches = self.reaches((*by, node)) == Some(true);
            reaches && !self.cell((*by, node)).is_some_and(is_down)
        };
        let mut had = self.sources.iter().filter(|by| self.why_not_fetched(own, **by).is_none());
        let why = self.why_not_fetched(own, node)?;
        (why == RowError::NoPeer || !had.any(passes_on)).then_some(why)
    }

    /// Why the own agent could not have fetched the row of a node itself.
    fn why_not_fetched(&self, own: usize, node: usize) -> Option<RowError> {
        if node == own {
            return None;
        }
        match self.any_cell((own, node)).map(|cell| (cell.verdict(), cell.is_slow())) {
            None => Some(RowError::NoPeer),
            Some((Verdict::Down(reason), false)) => Some(RowError::Failure(reason)),
            Some(_) => None,
        }
    }

    /// Number of nodes.
    pub(super) fn size(&self) -> usize {
        self.names.len()
    }

    /// The row of a node, or why it is missing.
    pub(super) fn row(&self, node: usize) -> Result<&'a Row, RowError> {
        self.rows.get(node).copied().unwrap_or(Err(RowError::NoPeer))
    }

    /// Nodes whose row came.
    pub(super) fn sources(&self) -> &[usize] {
        &self.sources
    }

    /// What the source knows of the target; nothing while they rest for a survey, since that is from before.
    pub(super) fn cell(&self, pair: Pair) -> Option<&'a Cell> {
        self.any_cell(pair).filter(|cell| !cell.is_surveyed())
    }

    /// Whether the source rests with the target for a survey.
    pub(super) fn is_surveyed(&self, pair: Pair) -> bool {
        self.any_cell(pair).is_some_and(Cell::is_surveyed)
    }

    fn any_cell(&self, (source, target): Pair) -> Option<&'a Cell> {
        if source == target {
            return None;
        }
        let number = self.numbers.get(target)?;
        self.row(source).ok()?.cells.get(*number)?.as_ref()
    }

    fn mark(&self, pair: Pair) -> u8 {
        self.marks.get(pair.0).and_then(|row| row.get(pair.1)).copied().unwrap_or(0)
    }

    /// Whether the source reaches the target; `None` if that is not known.
    pub(super) fn reaches(&self, pair: Pair) -> Option<bool> {
        match self.mark(pair) & (UP | DOWN) {
            0 => None,
            mark => Some(mark == UP),
        }
    }

    /// The cell, if a finding must explain it and none does yet.
    pub(super) fn open(&self, pair: Pair) -> Option<&'a Cell> {
        if self.mark(pair) & OPEN == 0 { None } else { self.cell(pair) }
    }

    /// Whether no finding is needed for any path.
    pub(super) fn is_well(&self) -> bool {
        self.marks.iter().flatten().all(|mark| mark & OPEN == 0)
    }

    /// Explains those of the pairs that are open, and returns them.
    pub(super) fn explain(&mut self, pairs: &mut dyn Iterator<Item = Pair>) -> Cells {
        let mut taken = Cells::default();
        for pair in pairs {
            let mark = self.marks.get_mut(pair.0).and_then(|row| row.get_mut(pair.1));
            if let Some(mark) = mark.filter(|mark| **mark & OPEN != 0) {
                *mark &= !OPEN;
                taken.0.push(pack(pair));
            }
        }
        taken
    }

    /// Calls `each` for all known pairs among the nodes of a set, with whether the source reaches the target.
    pub(super) fn each_known(&self, set: &[bool], each: &mut dyn FnMut(Pair, bool)) {
        for (source, row) in self.marks.iter().enumerate() {
            if set.get(source) != Some(&true) {
                continue;
            }
            for (target, (mark, is_in)) in row.iter().zip(set).enumerate() {
                if *is_in && mark & (UP | DOWN) != 0 {
                    each((source, target), mark & UP != 0);
                }
            }
        }
    }

    /// The targets of the open cells of a row.
    pub(super) fn open_targets(&self, source: usize) -> impl Iterator<Item = usize> {
        let row = self.marks.get(source).into_iter().flatten().enumerate();
        row.filter(|(_, mark)| **mark & OPEN != 0).map(|(target, _)| target)
    }

    /// The counts at each node, among the nodes of a set.
    pub(super) fn counts(&self, set: &[bool]) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.size()];
        self.each_known(set, &mut |(source, target), up| {
            if let Some(counts) = counts.get_mut(source) {
                *(if up { &mut counts.out_up } else { &mut counts.out_down }) += 1;
            }
            if let Some(counts) = counts.get_mut(target) {
                *(if up { &mut counts.in_up } else { &mut counts.in_down }) += 1;
            }
        });
        counts
    }

    /// Of these pairs, at how many sources something arrives from the target, and at how many nothing;
    /// some do not know.
    pub(super) fn arrivals(&self, pairs: &[Pair]) -> (usize, usize) {
        let (mut some, mut none) = (0, 0);
        for incoming in pairs.iter().filter_map(|pair| self.cell(*pair)?.incoming()) {
            match incoming {
                Incoming::Requests | Incoming::Syns => some += 1,
                Incoming::Nothing => none += 1,
            }
        }
        (some, none)
    }

    /// Whether whole requests arrive at the source of one of these pairs.
    pub(super) fn whole_requests(&self, pairs: &[Pair]) -> bool {
        let whole = |pair: &Pair| self.cell(*pair)?.incoming();
        pairs.iter().filter_map(whole).any(|incoming| incoming == Incoming::Requests)
    }

    /// The reasons of the down cells among these pairs, each once, in order.
    pub(super) fn reasons(&self, pairs: &Cells) -> Vec<FailureReason> {
        let has = |reason: &FailureReason| {
            let down = Some(Verdict::Down(*reason));
            pairs.iter().any(|pair| self.cell(pair).map(Cell::verdict) == down)
        };
        FailureReason::ALL.into_iter().filter(has).collect()
    }
}
