//! Makes one cell of several, where paths are too many for short ones.

use super::open::{Gravest, Median};
use super::scale::time_code;
use super::{BIN, Cell, CellTime, Span, Summary};

/// Spans whose gap is longer stay apart: a container restarts faster.
const MAX_GAP: u64 = 60;

/// Whether a span can become one with the span before it: within the same multiple of `width` seconds, and without
/// a step of the clock between them.
pub(super) fn joins(before: &CellTime, next: &CellTime, width: u32) -> bool {
    let width = u64::from(width.max(1));
    before.from / width == next.to().saturating_sub(1) / width
        && before.is_repeated == next.is_repeated
        && before.to() <= next.from
        && next.from - before.to() <= MAX_GAP
}

/// Whether both lie within one bin of the day, and in the same pass of a time that occurred twice.
pub(super) fn are_of_one_bin(one: &CellTime, other: &CellTime) -> bool {
    let bins = |time: &CellTime| [time.from, time.to().saturating_sub(1)].map(|at| at / BIN);
    let [begin, end] = bins(one);
    begin == end && bins(other) == [begin; 2] && one.is_repeated == other.is_repeated
}

/// The span of these, which follow each other; `None` without any.
pub(super) fn merged(spans: &[&Span]) -> Option<Span> {
    let (first, last) = (spans.first()?, spans.last()?);
    let seconds = u32::try_from(last.time.to().saturating_sub(first.time.from));
    let time = CellTime { seconds: seconds.unwrap_or(u32::MAX), ..first.time };
    let paths = spans.iter().map(|span| span.cells.len()).max()?;
    let cell = |path| one(spans.iter().filter_map(|span| span.cell(path).summary()));
    Some(Span { time, cells: (0..paths).map(cell).collect() })
}

/// One cell of these: the sums, the longest time, the gravest word, and the median of the medians by their successes.
fn one(summaries: impl Iterator<Item = Summary>) -> Cell {
    let (mut probes, mut failures, mut retransmits, mut worst) = (0_u32, 0_u32, 0_u32, None);
    let (mut gravest, mut median) = (Gravest::NONE, Median::default());
    for cell in summaries {
        probes = probes.saturating_add(cell.probes);
        failures = failures.saturating_add(cell.failures);
        retransmits = retransmits.saturating_add(cell.retransmits);
        worst = worst.max(cell.worst);
        // A cell without probes has a word as well.
        let votes = u16::try_from(cell.probes).unwrap_or(u16::MAX).max(1);
        gravest.add(cell.word.octet(), cell.word.rank(), votes);
        if cell.median.is_some() {
            let successes = cell.probes.saturating_sub(cell.failures).max(1);
            median.add(time_code(cell.median), successes);
        }
    }
    let Some(word) = gravest.word() else { return Cell::EMPTY };
    Cell::new(Summary { word, probes, failures, retransmits, median: median.time(), worst })
}
