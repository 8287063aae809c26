//! From the findings of single bins to lines with a begin and an end.

use std::rc::Rc;

use super::{BIN, DayFinding};
use crate::matrix::{Finding, Matrix};
use crate::name::NodeName;
use crate::sort::sort;

/// Bins without a word of a node concerned that do not break a line: an agent restarts in less.
const MAX_BRIDGED: usize = 3;
/// A finding that comes more often than this within a day is one line.
const MAX_TIMES: usize = 5;

/// What is found in one bin.
#[derive(Debug, Default)]
pub(super) struct BinFindings {
    /// The begin of the bin, in Unix seconds.
    pub(super) from: u64,
    /// This time has occurred before.
    pub(super) is_repeated: bool,
    /// Whether the node at a place remembers this bin.
    pub(super) remembers: Vec<bool>,
    /// In the order of the matrix.
    pub(super) found: Rc<Vec<Found>>,
}

/// A finding of one bin.
#[derive(Debug)]
pub(super) struct Found {
    finding: Finding,
    /// Of kind, nodes and words: the same findings have the same.
    id: u64,
}

impl Found {
    /// The findings of a matrix.
    pub(super) fn all(matrix: &Matrix) -> Vec<Self> {
        let names: Vec<&str> = matrix.rows().map(|(name, _)| name.as_str()).collect();
        let found = |finding: &Finding| Self { id: id(finding, &names), finding: finding.clone() };
        matrix.findings().iter().map(found).collect()
    }

    /// Whether any node concerned remembered one bin, and does not remember the other.
    fn is_without_word(&self, before: &BinFindings, now: &BinFindings) -> bool {
        let Finding { nodes, pairs, .. } = &self.finding;
        let sources = pairs.iter().map(|(source, _)| source);
        let has = |bin: &BinFindings, node: usize| bin.remembers.get(node) == Some(&true);
        nodes.iter().chain(sources).any(|node| has(before, *node) && !has(now, *node))
    }
}

/// FNV-1a of the kind, the nodes and the text, without its numbers: how many probes failed, or how many nodes saw it,
/// may differ from bin to bin. A name is no number.
fn id(finding: &Finding, names: &[&str]) -> u64 {
    let is_number = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
            && names.binary_search(&word).is_err()
    };
    let mut id = 0xcbf2_9ce4_8422_2325;
    let mut add = |number: usize| {
        id = (id ^ u64::try_from(number).unwrap_or(u64::MAX)).wrapping_mul(0x0100_0000_01b3);
    };
    add(finding.kind as usize);
    finding.nodes.iter().for_each(|node| add(*node));
    for word in finding.text.split(' ') {
        let inner = word.trim_matches(['(', ')', '{', '}', ',', ';', ':']);
        let word = if is_number(inner) { "" } else { word };
        word.bytes().chain([b' ']).for_each(|byte| add(byte.into()));
    }
    id
}

/// A line while it grows.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    /// The places of its first and its last bin.
    first: usize,
    last: usize,
    /// How many times it comes; 0 where another line has it.
    times: usize,
    is_grave: bool,
    is_repeated: bool,
    /// The finding of the bin in which it explained most pairs.
    shown: &'a Found,
}

impl<'a> Line<'a> {
    fn new(place: usize, bin: &BinFindings, found: &'a Found) -> Self {
        let is_grave = found.finding.is_grave;
        Self {
            first: place,
            last: place,
            times: 1,
            is_grave,
            is_repeated: bin.is_repeated,
            shown: found,
        }
    }

    /// Whether what is found in the bin at `place` goes on with it.
    fn goes_on(&self, bins: &[BinFindings], place: usize, found: &Found) -> bool {
        let Some((last, between)) =
            bins.get(self.last..place).and_then(<[BinFindings]>::split_first)
        else {
            return false;
        };
        self.shown.id == found.id
            && between.len() <= MAX_BRIDGED
            && between.iter().all(|bin| found.is_without_word(last, bin))
    }

    /// Takes another line of the same in.
    fn extend(&mut self, other: &Self) {
        (self.first, self.last) = (self.first.min(other.first), self.last.max(other.last));
        self.is_grave |= other.is_grave;
        self.is_repeated |= other.is_repeated;
        if other.shown.finding.cells > self.shown.finding.cells {
            self.shown = other.shown;
        }
    }

    fn write(&self, bins: &[BinFindings], names: &[NodeName]) -> DayFinding {
        let begin = |place: usize| bins.get(place).map_or(0, |bin| bin.from);
        let Finding { kind, nodes, text, .. } = &self.shown.finding;
        let name = |place: &usize| names.get(*place).cloned();
        DayFinding {
            from: begin(self.first),
            to: begin(self.last).saturating_add(BIN),
            kind: *kind,
            is_grave: self.is_grave,
            nodes: nodes.iter().filter_map(name).collect(),
            text: match self.times {
                1 => text.clone(),
                times => format!("{text} ({times} times)"),
            },
            is_repeated: self.is_repeated,
        }
    }
}

/// The lines of all bins, in the order of their begin, then of their kind.
pub(super) fn lines(bins: &[BinFindings], names: &[NodeName]) -> Vec<DayFinding> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    // Those that may go on, by their places.
    let mut open: Vec<usize> = Vec::new();
    for (place, bin) in bins.iter().enumerate() {
        let last = |line: &usize| lines.get(*line).map_or(0, |line| line.last);
        open.retain(|line| last(line) + 1 + MAX_BRIDGED >= place);
        for found in bin.found.iter() {
            let new = Line::new(place, bin, found);
            let goes_on = |line: &usize| {
                lines.get(*line).is_some_and(|line| line.goes_on(bins, place, found))
            };
            match open.iter().copied().find(goes_on).and_then(|line| lines.get_mut(line)) {
                Some(line) => line.extend(&new),
                None => {
                    open.push(lines.len());
                    lines.push(new);
                }
            }
        }
    }
    fold(lines, bins, names)
}

/// Writes the lines out; what comes too often becomes one line, at the place of the first.
fn fold(mut lines: Vec<Line<'_>>, bins: &[BinFindings], names: &[NodeName]) -> Vec<DayFinding> {
    let mut order: Vec<(u64, usize)> = lines.iter().map(|line| line.shown.id).zip(0..).collect();
    sort(&mut order);
    for same in order.chunk_by(|(one, _), (next, _)| one == next) {
        let Some(((_, first), others)) = same.split_first() else { continue };
        for (_, place) in others.iter().filter(|_| same.len() > MAX_TIMES) {
            let Some(part) = lines.get_mut(*place) else { continue };
            part.times = 0;
            let part = *part;
            if let Some(whole) = lines.get_mut(*first) {
                whole.extend(&part);
                whole.times += 1;
            }
        }
    }
    let stays = lines.iter().filter(|line| line.times > 0);
    stays.map(|line| line.write(bins, names)).collect()
}
