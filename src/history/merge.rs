//! Makes one cell of several, where paths are too many for short ones.

use std::time::Duration;

use super::open::Gravest;
use super::{Cell, CellTime, Span, Summary};
use crate::sort::sort;

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

/// The span of these, which follow each other; `None` without any.
pub(super) fn merged(spans: &[&Span]) -> Option<Span> {
    let (first, last) = (spans.first()?, spans.last()?);
    let seconds = u32::try_from(last.time.to().saturating_sub(first.time.from));
    let time = CellTime { seconds: seconds.unwrap_or(u32::MAX), ..first.time };
    let paths = spans.iter().map(|span| span.cells.len()).max()?;
    let mut times = Vec::with_capacity(spans.len());
    let mut cell = |path| {
        times.clear();
        one(spans.iter().filter_map(|span| span.cell(path).summary()), &mut times)
    };
    Some(Span { time, cells: (0..paths).map(&mut cell).collect() })
}

/// One cell of these: the sums, the longest time, the gravest word, and the median of the medians by their successes.
fn one(summaries: impl Iterator<Item = Summary>, medians: &mut Vec<(Duration, u32)>) -> Cell {
    let (mut probes, mut failures, mut retransmits, mut worst) = (0_u32, 0_u32, 0_u32, None);
    let mut gravest = Gravest::NONE;
    for cell in summaries {
        probes = probes.saturating_add(cell.probes);
        failures = failures.saturating_add(cell.failures);
        retransmits = retransmits.saturating_add(cell.retransmits);
        worst = worst.max(cell.worst);
        // A cell without probes has a word as well.
        let votes = u16::try_from(cell.probes).unwrap_or(u16::MAX).max(1);
        gravest.add(cell.word.octet(), cell.word.rank(), votes);
        let successes = cell.probes.saturating_sub(cell.failures).max(1);
        medians.extend(cell.median.map(|median| (median, successes)));
    }
    let Some(word) = gravest.word() else { return Cell::EMPTY };
    sort(medians);
    let all: u32 = medians.iter().map(|(_, successes)| successes).sum();
    let mut before = 0;
    let median = medians.iter().find(|(_, successes)| {
        before += successes;
        before * 2 >= all
    });
    let median = median.map(|(median, _)| *median);
    Cell::new(Summary { word, probes, failures, retransmits, median, worst })
}
