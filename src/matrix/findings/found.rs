//! One finding before it is written out: with all its cells.

use super::facts::Pair;
use super::{Finding, FindingKind, MAX_LISTED_PAIRS};

/// What explains a part of the matrix, with all the cells that it explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: FindingKind,
    pub(super) is_grave: bool,
    /// In order.
    pub(super) nodes: Vec<usize>,
    pub(super) cells: Vec<Pair>,
    pub(super) text: String,
}

impl Found {
    /// The finding in its final form.
    pub(super) fn finish(mut self) -> Finding {
        self.cells.sort_unstable();
        let (cells, kind, is_grave) = (self.cells.len(), self.kind, self.is_grave);
        self.cells.truncate(MAX_LISTED_PAIRS);
        self.cells.shrink_to_fit();
        Finding { kind, is_grave, nodes: self.nodes, cells, pairs: self.cells, text: self.text }
    }
}
