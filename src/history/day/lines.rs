//! From the findings of single bins to lines with a begin and an end.

use std::rc::Rc;

use super::{BIN, DayFinding};
use crate::matrix::{Finding, FindingKind, Matrix};
use crate::name::NodeName;

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
    /// The text with `#` for each number: how many probes failed, or how many nodes saw it, may differ from bin to
    /// bin.
    words: String,
}

impl Found {
    /// The findings of a matrix.
    pub(super) fn all(matrix: &Matrix) -> Vec<Self> {
        let names: Vec<&str> = matrix.rows().map(|(name, _)| name.as_str()).collect();
        let found = |finding: &Finding| Self {
            words: words(&finding.text, &names),
            finding: finding.clone(),
        };
        matrix.findings().iter().map(found).collect()
    }

    /// What makes two findings the same.
    fn key(&self) -> (FindingKind, &[usize], &str) {
        (self.finding.kind, &self.finding.nodes, &self.words)
    }

    /// Whether any node concerned remembered one bin, and does not remember the other.
    fn is_without_word(&self, before: &BinFindings, now: &BinFindings) -> bool {
        let Finding { nodes, pairs, .. } = &self.finding;
        let sources = pairs.iter().map(|(source, _)| source);
        let has = |bin: &BinFindings, node: usize| bin.remembers.get(node) == Some(&true);
        nodes.iter().chain(sources).any(|node| has(before, *node) && !has(now, *node))
    }
}

/// The text with `#` for each number that is no node's name.
fn words(text: &str, names: &[&str]) -> String {
    let is_number = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
            && names.binary_search(&word).is_err()
    };
    let word = |word: &'_ str| {
        let inner = word.trim_matches(['(', ')', '{', '}', ',', ';', ':']);
        if is_number(inner) { "#".to_owned() } else { word.to_owned() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A line while it grows.
#[derive(Debug)]
struct Line<'a> {
    /// The places of its first and its last bin.
    first: usize,
    last: usize,
    is_grave: bool,
    is_repeated: bool,
    /// The finding of the bin in which it explained most pairs.
    shown: &'a Found,
}

impl<'a> Line<'a> {
    fn new(place: usize, bin: &BinFindings, found: &'a Found) -> Self {
        let is_grave = found.finding.is_grave;
        Self { first: place, last: place, is_grave, is_repeated: bin.is_repeated, shown: found }
    }

    /// Whether what is found in the bin at `place` goes on with it.
    fn goes_on(&self, bins: &[BinFindings], place: usize, found: &Found) -> bool {
        let Some((last, between)) =
            bins.get(self.last..place).and_then(<[BinFindings]>::split_first)
        else {
            return false;
        };
        self.shown.key() == found.key()
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

    fn write(&self, times: usize, bins: &[BinFindings], names: &[NodeName]) -> DayFinding {
        let begin = |place: usize| bins.get(place).map_or(0, |bin| bin.from);
        let Finding { kind, nodes, text, .. } = &self.shown.finding;
        let name = |place: &usize| names.get(*place).cloned();
        DayFinding {
            from: begin(self.first),
            to: begin(self.last).saturating_add(BIN),
            kind: *kind,
            is_grave: self.is_grave,
            nodes: nodes.iter().filter_map(name).collect(),
            text: if times > 1 { format!("{text} ({times} times)") } else { text.clone() },
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
    let mut all = fold(lines, bins, names);
    all.sort_by_key(|finding| (finding.from, finding.kind));
    all
}

/// Writes the lines out; what comes too often becomes one line.
fn fold(mut lines: Vec<Line<'_>>, bins: &[BinFindings], names: &[NodeName]) -> Vec<DayFinding> {
    lines.sort_by(|one, other| one.shown.key().cmp(&other.shown.key()));
    let mut all = Vec::new();
    for same in lines.chunk_by_mut(|one, other| one.shown.key() == other.shown.key()) {
        let times = same.len();
        match same {
            [first, others @ ..] if times > MAX_TIMES => {
                others.iter().for_each(|other| first.extend(other));
                all.push(first.write(times, bins, names));
            }
            _ => all.extend(same.iter().map(|line| line.write(1, bins, names))),
        }
    }
    all
}
