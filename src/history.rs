//! What this agent saw of its peers within the last day. Pure.
//!
//! A [`Cell`] summarizes some minutes of one path in five octets; a [`Span`] has the cells of all paths for one
//! time. The last changes of verdict are kept beside them. Cells run on the monotonic clock and carry the time of
//! the wall clock.

mod cell;
mod clock;
mod day;
mod faults;
mod file;
mod memory;
mod merge;
mod open;
mod row;
mod scale;
mod span;
mod word;

use crate::experiment::Detail;
use crate::name::NodeName;
use crate::state::Verdict;
pub use cell::{Cell, Summary};
pub use day::{BIN, Bin, Day, DayFinding, MAX_DAY_FINDINGS, MeshFaults, begin_of_bin};
pub use faults::{Faults, MAX_RUNS, Run};
pub use file::{FileError, MAX_HISTORY, decode, encode};
pub use memory::History;
pub use row::is_row_of;
pub use span::{CellTime, Cells, Recollection, Span};
pub use word::Word;

/// How long is remembered, in seconds.
pub const DAY: u64 = 24 * 3600;
/// Length of a cell in seconds, and the most paths that have it: together their cells take 300 KB at most. Each
/// length divides the next one.
pub const WIDTHS: [(u32, usize); 4] = [(300, 200), (900, 600), (3600, 2400), (7200, MAX_PATHS)];
/// Most paths that are remembered, those of nodes that have left included.
pub const MAX_PATHS: usize = 5000;
/// Most changes of verdict that are remembered.
pub const MAX_CHANGES: usize = 256;
/// Most closed cells of all paths, those of [`WIDTHS`]: beyond it, the oldest go.
pub const MAX_CELLS: usize = 60_000;
/// Most spans that are remembered: twice as many as a day has. Restarts and steps of the clock make short ones.
pub const MAX_SPANS: usize = 600;

/// A change of verdict, or of what an experiment adds to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictChange {
    /// When, in Unix milliseconds.
    pub at: u64,
    /// The peer.
    pub node: NodeName,
    /// The verdict since then.
    pub verdict: Verdict,
    /// What an experiment adds to it.
    pub detail: Option<Detail>,
}

#[cfg(test)]
mod tests;
