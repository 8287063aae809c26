//! The matrix of a past moment, from what each agent remembers of it.

use std::time::Instant;

use super::{Collected, Reads, deadline_of_all};
use crate::agent::detour;
use crate::document::{MAX_ROW, read_row};
use crate::history::{BIN, Recollection, is_row_of};
use crate::matrix::{Matrix, NamedRow, Past, RowError};
use crate::name::NodeName;
use crate::probe::FailureReason;
use crate::state::Snapshot;
use crate::wire;

/// The begin of the cell with this second, in Unix seconds: all seconds of it have the same matrix.
pub(super) fn cell_of(recollection: &Recollection, seconds: u64) -> u64 {
    recollection.at(seconds).map_or(seconds - seconds % BIN, |span| span.time.from)
}

/// Collects the matrix of a past second.
pub(super) fn collect(
    own: &NodeName,
    snapshot: &Snapshot,
    reads: &Reads,
    recollection: &Recollection,
    seconds: u64,
) -> Matrix {
    let began = Instant::now();
    let deadline = deadline_of_all(snapshot);
    let row = recollection.row_at(seconds).ok_or(RowError::NotRemembered);
    let known = row.as_ref().ok().and_then(|row| Some((row.at, row.past?)));
    let width = u32::try_from(BIN).unwrap_or(u32::MAX);
    let unknown = Past { seconds: width, is_repeated: false };
    let (at, past) =
        known.unwrap_or((cell_of(recollection, seconds).saturating_mul(1000), unknown));
    let peers = snapshot.peers.iter().map(|record| record.peer.node.clone());
    let matrix = Matrix::of_the_past(own, at, past, peers, row, deadline);
    let mut rows = Rows { matrix, path: format!("{}/{seconds}", wire::PAST_ROW_PATH), seconds };
    super::collect(&mut rows, own, snapshot, reads, began + deadline);
    let mut matrix = rows.matrix;
    if known.is_none() {
        let times = matrix.rows().filter_map(|(_, row)| Some((row.ok()?.at(), row.ok()?.past()?)));
        if let Some((at, past)) = times.max_by_key(|(_, past)| past.seconds) {
            matrix.set_past(at, past);
        }
    }
    matrix.finish(began.elapsed())
}

/// The rows so far.
struct Rows {
    matrix: Matrix,
    path: String,
    seconds: u64,
}

impl Collected for Rows {
    fn path(&self) -> &str {
        &self.path
    }

    fn max_bytes(&self) -> usize {
        MAX_ROW
    }

    fn has_room(&self) -> bool {
        self.matrix.has_room()
    }

    fn read(
        &mut self,
        node: &NodeName,
        document: &[u8],
        through: Option<NodeName>,
    ) -> Result<(), RowError> {
        let row = read_row(node, document)?;
        if !is_row_of(&row, self.seconds) {
            return Err(RowError::Failure(FailureReason::BadResponse));
        }
        self.matrix.add(node, Ok(NamedRow { through, ..row }));
        Ok(())
    }

    fn miss(&mut self, node: &NodeName, error: RowError) {
        self.matrix.add(node, Err(error.of_the_past()));
    }

    /// Those that reached it then, first: their rows tell nothing of now.
    fn reaching(&self, node: &NodeName) -> Vec<(u8, &NodeName)> {
        let best = detour::reaching(&self.matrix, node);
        let others = self.matrix.verdicts_on(node).map(|(peer, _)| (2, peer));
        let others = others.filter(|(_, peer)| best.iter().all(|(_, one)| one != peer));
        others.chain(best.iter().copied()).collect()
    }
}
