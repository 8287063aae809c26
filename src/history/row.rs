//! The row of a past moment, as a row of the matrix.

use super::{CellTime, DAY, Recollection, Summary, Word, merge};
use crate::matrix::{self, CellFacts, NamedRow, Past};

impl Recollection {
    /// The row of the last cells that cover this second, together with those that a restart has parted from them;
    /// `None` if nothing of it is remembered.
    #[must_use]
    pub fn row_at(&self, unix_seconds: u64) -> Option<NamedRow> {
        let found = self.at(unix_seconds)?;
        let parts = self.spans.iter().filter(|span| merge::are_of_one_bin(&span.time, &found.time));
        let whole = merge::merged(&parts.collect::<Vec<_>>());
        let span = whole.as_ref().unwrap_or(found);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::history::{Cell, Span};
    use crate::name::NodeName;
    use crate::probe::FailureReason;
    use crate::state::{Moment, Verdict};

    #[test]
    fn a_row_has_what_was_seen_before_a_restart_within_its_bin() {
        let down = Verdict::Down(FailureReason::Refused);
        let span = |from, seconds, is_repeated, verdict| {
            let word = Word::of(verdict);
            let summary =
                Summary { word, probes: 9, failures: 3, retransmits: 0, median: None, worst: None };
            let time = CellTime { from, seconds, is_repeated };
            Span { time, cells: [Cell::new(summary)].into_iter().collect() }
        };
        let day = Recollection {
            taken: Moment::now(),
            names: Arc::new(vec![NodeName::new("b").ok()]),
            spans: vec![
                span(2700, 300, false, Verdict::Up),
                span(3000, 45, false, down),
                span(3165, 135, false, Verdict::Up),
                span(3300, 300, false, Verdict::Lossy),
                span(3310, 290, true, Verdict::Up),
            ],
            changes: Vec::new(),
        };
        let row = |second| {
            let row = day.row_at(second)?;
            let (_, cell) = row.cells.first()?;
            let probes = cell.failures();
            Some((row.at / 1000, row.past?.seconds, cell.verdict(), probes))
        };
        assert_eq!(row(2999), Some((2700, 300, Verdict::Up, (3, 9))));
        for second in [3000, 3044, 3165, 3299] {
            assert_eq!(row(second), Some((3000, 300, down, (6, 18))), "{second}");
        }
        assert_eq!(row(3100), None, "it did not run");
        assert_eq!(row(3305), Some((3300, 300, Verdict::Lossy, (3, 9))));
        assert_eq!(row(3310), Some((3310, 290, Verdict::Up, (3, 9))), "another pass");
    }
}
