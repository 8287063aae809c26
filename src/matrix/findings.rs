//! From the rows of all nodes to a short, ordered list of findings: one pure function.

use super::Matrix;
use crate::label::label_set;
use crate::state::Verdict;

/// Most pairs that a finding lists; [`Finding::cells`] counts all of them.
pub const MAX_LISTED_PAIRS: usize = 64;

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

/// The findings of a matrix, the gravest first.
pub(super) fn findings(matrix: &Matrix) -> Vec<Finding> {
    let names: Vec<&str> = matrix.rows().map(|(name, _)| name.as_str()).collect();
    let name = |place: usize| names.get(place).copied().unwrap_or_default();
    let mut found = Vec::new();
    for (source, (_, row)) in matrix.rows().enumerate() {
        match row {
            Err(error) => found.push(Finding {
                kind: FindingKind::MissingRow,
                is_grave: false,
                nodes: vec![source],
                cells: 0,
                pairs: Vec::new(),
                text: format!("no row from {} ({})", name(source), error.as_str()),
            }),
            Ok(row) => {
                for (target, cell) in matrix.cells(row).enumerate() {
                    let Some(verdict) = cell.map(|cell| cell.verdict()) else { continue };
                    if matches!(verdict, Verdict::Up | Verdict::Draining | Verdict::Unknown) {
                        continue;
                    }
                    found.push(Finding {
                        kind: FindingKind::Pair,
                        is_grave: matches!(verdict, Verdict::Down(_)),
                        nodes: vec![source.min(target), source.max(target)],
                        cells: 1,
                        pairs: vec![(source, target)],
                        text: format!("{} → {}: {verdict}", name(source), name(target)),
                    });
                }
            }
        }
    }
    found.sort_by_key(|finding| finding.kind);
    found
}
