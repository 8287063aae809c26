//! The row of a past moment, as a row of the matrix.

use super::{CellTime, DAY, Recollection, Summary, Word};
use crate::matrix::{self, CellFacts, NamedRow, Past};

impl Recollection {
    /// The row of the last cells that cover this second; `None` if nothing of it is remembered.
    #[must_use]
    pub fn row_at(&self, unix_seconds: u64) -> Option<NamedRow> {
        let span = self.at(unix_seconds)?;
        let cells = self.paths().filter_map(|(number, node)| {
            Some((node.clone(), span.cell(number).summary()?.matrix_cell()))
        });
        let past = Past { seconds: span.time.seconds, is_repeated: span.time.is_repeated };
        Some(NamedRow {
            at: span.time.from.saturating_mul(1000),
            age: 0,
            clock: None,
            through: None,
            past: Some(past),
            cells: cells.collect(),
        })
    }
}

impl Word {
    /// The past cell of the matrix with this word and these counts.
    #[must_use]
    pub fn matrix_cell(self, failures: u32, probes: u32) -> matrix::Cell {
        matrix::Cell::new(CellFacts { failures, probes, ..self.facts() })
    }
}

/// Whether a row that an agent sent is of the past, and covers this second.
#[must_use]
pub fn is_row_of(row: &NamedRow, unix_seconds: u64) -> bool {
    let from = row.at / 1000;
    row.past.is_some_and(|Past { seconds, .. }| {
        let time = CellTime { from, seconds, is_repeated: false };
        u64::from(seconds) <= DAY && time.contains(unix_seconds)
    })
}

impl Summary {
    /// The same as a past cell of the matrix.
    #[must_use]
    pub fn matrix_cell(&self) -> matrix::Cell {
        matrix::Cell::new(CellFacts {
            latency: self.median,
            failures: self.failures,
            retransmits: self.retransmits,
            probes: self.probes,
            ..self.word.facts()
        })
    }
}
