//! When the peers of one node were not up: what agents tell each other for the day of the mesh.

use super::{Cell, CellTime, Recollection};
use crate::name::NodeName;

/// Most runs of one node, 12 bytes each; of 418 nodes, 5 MB. A pair that flaps all night has 144 at most.
pub const MAX_RUNS: usize = 1024;

/// When the peers of one node were not up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// When this was so, in Unix milliseconds.
    pub at: u64,
    /// The times of its cells, oldest first; the last one is still open.
    pub times: Vec<CellTime>,
    /// All nodes that it remembers, by the number of the path.
    pub nodes: Vec<NodeName>,
    /// What is not plainly `up`, in the order of the paths, then of the times.
    pub runs: Vec<Run>,
    /// The number of times before these that are left out, because there would be more than [`MAX_RUNS`] runs.
    pub left_out: u32,
}

/// Consecutive cells of one path with the same word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The number of the path.
    pub path: u16,
    /// The place of its first cell among the times.
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

impl Faults {
    /// The faults within what an agent remembers.
    #[must_use]
    pub fn of(recollection: &Recollection) -> Self {
        let _ = (recollection, Cell::EMPTY);
        todo!()
    }

    /// Whether a peer is plainly `up` in the last cell.
    #[must_use]
    pub fn is_up_now(&self, peer: &NodeName) -> bool {
        let _ = peer;
        todo!()
    }
}
