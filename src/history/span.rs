//! Times of the cells, and what is remembered of them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::{Cell, VerdictChange};
use crate::name::NodeName;
use crate::state::Moment;

/// The time that a cell covers, by the wall clock of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellTime {
    /// Its begin in Unix seconds.
    pub from: u64,
    /// Its length in seconds.
    pub seconds: u32,
    /// The clock was set back: this time of the wall clock has occurred before.
    pub is_repeated: bool,
}

impl CellTime {
    /// Its end in Unix seconds.
    #[must_use]
    pub const fn to(&self) -> u64 {
        self.from.saturating_add(self.seconds as u64)
    }

    /// Whether it covers this second.
    #[must_use]
    pub const fn contains(&self, unix_seconds: u64) -> bool {
        self.from <= unix_seconds && unix_seconds < self.to()
    }
}

/// The cells of all paths of one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// When.
    pub time: CellTime,
    /// By the number of the path; beyond the end, nothing is known.
    pub cells: Cells,
}

impl Span {
    /// The cell of a path.
    #[must_use]
    pub fn cell(&self, path: usize) -> Cell {
        self.cells.get(path).copied().unwrap_or(Cell::EMPTY)
    }
}

/// The cells of one time: a part of a block, so that a day of few paths is no heap of small pieces. Clones share it.
#[derive(Clone)]
pub struct Cells {
    block: Arc<[Cell]>,
    start: u32,
    end: u32,
}

impl Cells {
    /// Whether they are all of their block.
    pub(super) fn is_all(&self) -> bool {
        self.len() == self.block.len()
    }

    /// Where their block is, and its size in octets.
    #[cfg(test)]
    pub(super) fn block(&self) -> (*const Cell, usize) {
        (self.block.as_ptr(), size_of_val(&*self.block))
    }

    /// The cells of this block from `start` on.
    pub(super) fn part(block: &Arc<[Cell]>, start: usize, len: usize) -> Self {
        let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Self { block: Arc::clone(block), start: number(start), end: number(start + len) }
    }
}

impl Deref for Cells {
    type Target = [Cell];

    fn deref(&self) -> &[Cell] {
        self.block.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl From<Arc<[Cell]>> for Cells {
    fn from(block: Arc<[Cell]>) -> Self {
        let end = u32::try_from(block.len()).unwrap_or(u32::MAX);
        Self { block, start: 0, end }
    }
}

impl FromIterator<Cell> for Cells {
    fn from_iter<T: IntoIterator<Item = Cell>>(cells: T) -> Self {
        Self::from(cells.into_iter().collect::<Arc<[Cell]>>())
    }
}

impl PartialEq for Cells {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Cells {}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What an agent remembers at one moment; it shares the cells.
#[derive(Debug, Clone)]
pub struct Recollection {
    /// The time of it.
    pub taken: Moment,
    /// The node of each path, by its number; `None` of a number that is free.
    pub names: Arc<Vec<Option<NodeName>>>,
    /// In the order in which they were; the last one is still open, and has the length that it will have.
    pub spans: Vec<Span>,
    /// The last changes of verdict, oldest first.
    pub changes: Vec<VerdictChange>,
}

impl Recollection {
    /// When the first cell begins, in Unix seconds; `None` without any.
    #[must_use]
    pub fn since(&self) -> Option<u64> {
        self.spans.iter().map(|span| span.time.from).min()
    }

    /// The last cell that covers this second.
    #[must_use]
    pub fn at(&self, unix_seconds: u64) -> Option<&Span> {
        self.spans.iter().rfind(|span| span.time.contains(unix_seconds))
    }

    /// The number of a path.
    #[must_use]
    pub fn path(&self, node: &NodeName) -> Option<usize> {
        self.names.iter().position(|name| name.as_ref() == Some(node))
    }

    /// The paths with a name, each with its number.
    pub fn paths(&self) -> impl Iterator<Item = (usize, &NodeName)> {
        self.names.iter().enumerate().filter_map(|(number, name)| Some((number, name.as_ref()?)))
    }
}
