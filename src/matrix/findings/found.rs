//! One finding before it is written out: with all its cells.

use std::cmp::{Ordering, Reverse};

use super::facts::Cells;
use super::{Finding, FindingKind, MAX_LISTED_PAIRS};

/// What explains a part of the matrix, with all the cells that it explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: FindingKind,
    pub(super) is_grave: bool,
    /// In order.
    pub(super) nodes: Vec<usize>,
    pub(super) cells: Cells,
    pub(super) text: String,
}

impl Found {
    /// The order of the list: by kind, the largest first, then by names.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let size = |found: &Self| (found.kind, Reverse(found.cells.len()));
        let names = || self.nodes.cmp(&other.nodes).then_with(|| self.cells.cmp(&other.cells));
        size(self).cmp(&size(other)).then_with(names)
    }

    /// The finding in its final form.
    pub(super) fn finish(mut self) -> Finding {
        self.cells.sort();
        Finding {
            kind: self.kind,
            is_grave: self.is_grave,
            nodes: self.nodes,
            cells: self.cells.len(),
            pairs: self.cells.iter().take(MAX_LISTED_PAIRS).collect(),
            text: self.text,
        }
    }
}
