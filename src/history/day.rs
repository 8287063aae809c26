//! The last day of the mesh: how many pairs were not up at which time, and in which words.

use std::time::SystemTime;

use super::Faults;
use crate::matrix::{FindingKind, RowError};
use crate::name::NodeName;

/// Length of a bin in seconds: that of the shortest cell.
pub const BIN: u64 = 300;
/// Most findings of a day.
pub const MAX_DAY_FINDINGS: usize = 500;

/// What all nodes of a mesh remember, as far as it could be collected.
#[derive(Debug)]
pub struct MeshFaults {
    node: NodeName,
    missing: Vec<(NodeName, RowError)>,
}

impl MeshFaults {
    /// What the agent of `node` itself remembers.
    #[must_use]
    pub fn new(node: &NodeName, own: Faults) -> Self {
        let _ = own;
        Self { node: node.clone(), missing: Vec::new() }
    }

    /// Adds what a peer remembers, or why that is missing.
    pub fn add(&mut self, peer: &NodeName, faults: Result<Faults, RowError>) {
        if let Err(error) = faults {
            self.missing.push((peer.clone(), error));
        }
    }
}

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
    /// says yes: one of 418 nodes takes about 30 ms, and one that is as the bin after it is takes nothing.
    #[must_use]
    pub fn of(mesh: &MeshFaults, now: SystemTime, may_judge: &mut dyn FnMut() -> bool) -> Self {
        let _ = (mesh, now, may_judge);
        todo!()
    }
}
