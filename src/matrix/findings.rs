//! From the rows of all nodes to a short, ordered list of findings: one pure function.
//!
//! The largest unit that explains a part of the matrix comes first and takes the cells that it explains:
//! nodes, the mesh as a whole, all pairs of a node, sets of nodes, single pairs. Each cell that is not up,
//! draining or unknown goes to one finding. Names decide nothing but the order of what is equal.

mod facts;
mod fault;
mod found;
mod group;
mod link;
mod mesh;
mod nodes;
mod rest;
mod text;
mod told;

use std::time::Duration;

use super::Matrix;
use crate::label::label_set;
use crate::sort::{sort, sort_by};
use facts::{Cells, Facts};
use found::Found;

/// Most pairs that a finding lists; [`Finding::cells`] counts all of them.
pub const MAX_LISTED_PAIRS: usize = 64;
/// Most findings of groups and pairs that are listed; the last one sums up the others. More are not read.
const MAX_GROUPS: usize = 50;
/// Fewest others that must fail to reach a node before it, and not the path of one, is at fault.
const MIN_WITNESSES: usize = 2;
/// Fewest nodes beside a relay: with two, the fault is one pair.
const MIN_OTHERS_OF_RELAY: usize = 3;
/// Fewest nodes of a part of the mesh: one alone is cut off.
const MIN_PART: usize = 2;
/// Fewest pairs of a node that share the fault of its link.
const MIN_LINK: usize = 2;
/// Fewest peers whose handshakes something else answers.
const MIN_INTERCEPTED: usize = 2;
/// Evidence of loss in one direction beyond this multiple of the other's is that of one direction: when
/// both lose packets alike, 20 probes differ by less.
const ONE_SIDED: u32 = 3;
/// Largest difference of a clock, beyond the doubt: what NTP keeps is far below.
const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(2);

/// Whether a count is most of all: four of five, since one in twenty probes without a fault leaves a
/// cell that is up.
fn is_most(count: usize, all: usize) -> bool {
    all > 0 && count * 5 >= all * 4
}

/// Whether a count is few of all: one of five at most.
fn is_few(count: usize, all: usize) -> bool {
    count * 5 <= all
}

label_set! {
    /// The kinds of findings, in the order in which they are listed.
    pub enum FindingKind {
        /// No row reaches the node.
        NodeDown = "node_down",
        /// The node reaches none, and none reaches it.
        CutOff = "cut_off",
        /// Only one node is reached from everywhere, and all paths without it fail.
        Relay = "relay",
        /// The mesh falls into parts.
        Split = "split",
        /// Something completes handshakes in place of the peers of a node.
        Intercepted = "intercepted",
        /// All pairs of one node share a fault.
        Link = "link",
        /// A set of sources and a set of targets share a fault.
        Group = "group",
        /// One pair.
        Pair = "pair",
        /// The clock of a node is wrong.
        Clock = "clock",
        /// The row of a node is missing.
        MissingRow = "missing_row",
    }
}

/// What explains a part of the matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: FindingKind,
    /// Whether it should wake a person.
    pub is_grave: bool,
    /// The nodes at fault, by their places in the matrix, in order.
    pub nodes: Vec<usize>,
    /// Number of cells that it explains.
    pub cells: usize,
    /// Source and target of the first [`MAX_LISTED_PAIRS`] of them, by their places in the matrix.
    pub pairs: Vec<(usize, usize)>,
    /// The sentence that page and command show.
    pub text: String,
}

/// The findings of a matrix, the gravest first. Those of a past moment are judged from the rows that the agent
/// could have had then; what it cannot know of that time, clocks and rows that did not come, is left out.
pub(super) fn findings(matrix: &Matrix) -> Vec<Finding> {
    let mut all = find(&mut Facts::new(matrix), matrix.past().is_none());
    fold(&mut all);
    all.into_iter().map(Found::finish).collect()
}

/// All findings, in order.
fn find(facts: &mut Facts<'_>, is_now: bool) -> Vec<Found> {
    let (mut found, said) = if facts.is_well() { Default::default() } else { find_paths(facts) };
    found.extend(rest::find_intercepted(facts));
    if is_now {
        found.extend(rest::find_clocks(facts));
        found.extend(rest::find_missing(facts, &said));
    }
    sort_by(&mut found, Found::order);
    found
}

/// What is wrong with paths, the largest unit first; and the nodes whose rows need no further word.
fn find_paths(facts: &mut Facts<'_>) -> (Vec<Found>, Vec<usize>) {
    // Nodes that no finding explains as a whole yet.
    let mut active = vec![true; facts.size()];
    let mut found = nodes::find_down(facts, &mut active);
    found.extend(nodes::find_cut_off(facts, &mut active));
    let said = said(facts, &found);
    found.extend(mesh::find_relay(facts, &active));
    found.extend(mesh::find_split(facts, &active));
    let mut faults = fault::all(facts);
    found.extend(link::find_links(facts, &active, &mut faults));
    found.extend(group::find_groups(facts, &faults));
    (found, said)
}

/// The nodes whose rows a finding says to be missing, or explains as missing.
fn said(facts: &Facts<'_>, found: &[Found]) -> Vec<usize> {
    // An agent that is cut off has no other row.
    let is_alone = |one: &&Found| {
        one.kind == FindingKind::CutOff && facts.own.is_some_and(|own| one.nodes.contains(&own))
    };
    if found.iter().any(|one| is_alone(&one)) {
        return (0..facts.size()).collect();
    }
    found.iter().flat_map(|one| one.nodes.iter().copied()).collect()
}

/// Sums the groups and pairs beyond the bound up in one finding.
fn fold(all: &mut Vec<Found>) {
    let is_small = |found: &Found| matches!(found.kind, FindingKind::Group | FindingKind::Pair);
    let begin = all.iter().position(is_small).unwrap_or(all.len());
    let end = all.iter().rposition(is_small).map_or(begin, |last| last + 1);
    if end - begin <= MAX_GROUPS {
        return;
    }
    let folded: Vec<Found> = all.drain(begin + MAX_GROUPS - 1..end).collect();
    let (count, is_grave) = (folded.len(), folded.iter().any(|found| found.is_grave));
    let mut nodes: Vec<usize> =
        folded.iter().flat_map(|found| found.nodes.iter().copied()).collect();
    sort(&mut nodes);
    nodes.dedup();
    let mut cells = Cells::default();
    for found in &folded {
        cells.extend(found.cells.iter());
    }
    let text =
        format!("{count} more, which concern {} pairs of {} nodes", cells.len(), nodes.len());
    let rest = Found { kind: FindingKind::Pair, is_grave, nodes, cells, text };
    all.insert(begin + MAX_GROUPS - 1, rest);
}

#[cfg(test)]
mod tests;
