//! The matrix of now. Rows of the last one stand in for those that peers are too busy to send.

use std::time::{Duration, Instant};

use super::cached::Finished;
use super::{Collected, Reads, deadline_of_all};
use crate::agent::detour;
use crate::document::{MAX_ROW, read_row};
use crate::matrix::{ClockOffset, Matrix, NamedRow, RowError, unix_millis};
use crate::name::NodeName;
use crate::prober::Origin;
use crate::state::Snapshot;
use crate::wire;

/// Longest age of a row that stands in for one that is not sent: it bridges two refreshes of the page.
pub(super) const STALE_TIME: Duration = Duration::from_secs(30);
/// The same while its node rests for a survey.
const LONGEST_REST: Duration = Duration::from_secs(720);

/// Collects the matrix; rows of the `last` one may stand in.
pub(super) fn collect(
    own: &NodeName,
    snapshot: &Snapshot,
    reads: &Reads,
    last: Option<Finished<Matrix>>,
) -> Matrix {
    let began = Instant::now();
    let deadline = deadline_of_all(snapshot);
    let matrix = Matrix::new(own, snapshot, deadline);
    let mut rows = Rows { matrix, last: last.and_then(Last::new) };
    super::collect(&mut rows, own, snapshot, reads, began + deadline);
    rows.matrix.finish(began.elapsed())
}

/// The rows so far.
struct Rows {
    matrix: Matrix,
    /// Its rows go as new ones come, so that both together take little more than one.
    last: Option<Last>,
}

/// The last matrix, and when it was finished.
struct Last {
    at: Instant,
    matrix: Matrix,
}

impl Last {
    /// `None` while the matrix is still being sent: two would take too much memory.
    fn new((at, matrix): Finished<Matrix>) -> Option<Self> {
        Some(Self { at, matrix: std::sync::Arc::into_inner(matrix)? })
    }

    /// Takes the row of a peer, unless it is too old.
    fn take_row(&mut self, peer: &NodeName, now: Instant, stale: Duration) -> Option<NamedRow> {
        let mut row = self.matrix.take_row(peer).map(|row| self.matrix.with_names(&row))?;
        let since = now.saturating_duration_since(self.at).as_millis();
        row.age = row.age.saturating_add(u64::try_from(since).unwrap_or(u64::MAX));
        (Duration::from_millis(row.age) < stale).then_some(row)
    }
}

impl Rows {
    fn take_last(&mut self, peer: &NodeName, stale: Duration) -> Option<NamedRow> {
        self.last.as_mut()?.take_row(peer, Instant::now(), stale)
    }
}

impl Collected for Rows {
    fn path(&self) -> &str {
        wire::ROW_PATH
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
        self.take_last(node, Duration::ZERO);
        self.matrix.add(node, Ok(NamedRow { through, ..row }));
        Ok(())
    }

    /// The last row of a peer stands in for one that it does not send.
    fn miss(&mut self, node: &NodeName, error: RowError) {
        let stale = match error {
            RowError::Busy => STALE_TIME,
            RowError::Surveyed => LONGEST_REST,
            _ => Duration::ZERO,
        };
        let last = self.take_last(node, stale);
        self.matrix.add(node, last.ok_or(error));
    }

    fn reaching(&self, node: &NodeName) -> Vec<(u8, &NodeName)> {
        detour::reaching(&self.matrix, node)
    }

    fn made(&mut self, node: &NodeName, origin: Origin) {
        let Origin { age, arrival, took } = origin;
        self.matrix.set_clock(node, |at| {
            ClockOffset::of(at.saturating_add(age), unix_millis(arrival), took)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::collect::tests::snapshot;
    use crate::matrix::{Cell, CellFacts, Row};
    use crate::state::Verdict;

    #[test]
    fn the_last_row_of_a_busy_peer_stands_in_for_30_seconds() {
        let names = ["n1", "n2"].map(|text| NodeName::new(text).unwrap());
        let peer = names[1].clone();
        let cell = Some(Cell::new(CellFacts::of(Verdict::Up)));
        let matrix = || {
            let rows = [vec![None, cell], vec![cell, None]];
            let rows = rows.map(|cells| Ok(Row::new(7, 0, cells))).into();
            let times = [Duration::ZERO; 2];
            Matrix::from_parts(names[0].clone(), (8, None), times, names.to_vec(), rows, None)
                .unwrap()
        };
        let now = Instant::now();
        for (seconds, stands_in) in [(6, true), (29, true), (30, false)] {
            let mut last = Last { at: now, matrix: matrix() };
            let row = last.take_row(&peer, now + Duration::from_secs(seconds), STALE_TIME);
            let found = row.map(|row| (row.at, row.age, row.cells.len()));
            let age = Duration::from_millis(found.map_or(0, |(_, age, _)| age));
            assert!(age.as_secs_f64() <= wylis_harness::bounds::worst_case("STALE_TIME"));
            assert_eq!(found, stands_in.then_some((7, seconds * 1000, 1)), "{seconds}");
            assert!(last.take_row(&peer, now, STALE_TIME).is_none(), "taken");
        }
        // Its age adds up over collections.
        let mut last = Last { at: now, matrix: matrix() };
        let row = last.take_row(&peer, now + STALE_TIME / 2, STALE_TIME).unwrap();
        let mut again = matrix();
        again.add(&peer, Ok(row));
        let mut last = Last { at: now + STALE_TIME / 2, matrix: again };
        assert!(last.take_row(&peer, now + STALE_TIME, STALE_TIME).is_none(), "too old in total");
        for (error, shown) in [
            (RowError::Busy, Ok(())),
            (RowError::Surveyed, Ok(())),
            (RowError::Unsupported, Err(RowError::Unsupported)),
        ] {
            let mut rows =
                Rows { matrix: matrix(), last: Some(Last { at: now, matrix: matrix() }) };
            rows.miss(&peer, error);
            let (_, row) = rows.matrix.rows().find(|(name, _)| **name == peer).unwrap();
            assert_eq!(row.map(|_| ()), shown);
            assert!(rows.last.unwrap().matrix.take_row(&peer).is_none(), "memory is freed");
        }
    }

    #[test]
    fn a_new_row_frees_the_last_one() {
        let (own, snapshot) = (NodeName::new("n1").unwrap(), snapshot().unwrap());
        let matrix = || Matrix::new(&own, &snapshot, Duration::ZERO);
        let mut rows =
            Rows { matrix: matrix(), last: Some(Last { at: Instant::now(), matrix: matrix() }) };
        let row = br#"{"version":1,"node":"n1","at":1.5,"cells":[]}"#;
        rows.read(&own, row, None).unwrap();
        assert!(rows.last.unwrap().matrix.take_row(&own).is_none());
    }
}
