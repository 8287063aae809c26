//! Times of the cells, and what is remembered of them.

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
    pub cells: Box<[Cell]>,
}

impl Span {
    /// The cell of a path.
    #[must_use]
    pub fn cell(&self, path: usize) -> Cell {
        self.cells.get(path).copied().unwrap_or(Cell::EMPTY)
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
    pub spans: Vec<Arc<Span>>,
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
        self.spans.iter().rfind(|span| span.time.contains(unix_seconds)).map(AsRef::as_ref)
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
