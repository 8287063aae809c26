//! One finding of the matrix.

use serde::Serialize;

use super::list::List;
use super::of_text;
use crate::bounded_list::BoundedList;
use crate::matrix::{Finding, FindingKind, MAX_LISTED_PAIRS};
use crate::name::NodeName;

/// The fields of a finding.
#[derive(Serialize)]
pub(super) struct FindingFields<'a> {
    kind: &'a str,
    grave: bool,
    nodes: List<&'a str>,
    cells: usize,
    /// By their places in the list of nodes; left out of a document that has no such list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<List<(usize, usize)>>,
    text: &'a str,
}

read_object!(FindingFields<'de>, required: [kind, nodes, text], optional: [grave, cells, pairs]);

impl<'a> FindingFields<'a> {
    /// `names` are all nodes of the matrix, in order.
    pub(super) fn new(finding: &'a Finding, names: &[&'a str]) -> Self {
        let name = |place: &usize| names.get(*place).copied();
        Self {
            kind: finding.kind.as_str(),
            grave: finding.is_grave,
            nodes: BoundedList(finding.nodes.iter().filter_map(name).collect()),
            cells: finding.cells,
            pairs: Some(BoundedList(finding.pairs.clone())),
            text: &finding.text,
        }
    }

    /// The same for a document without a list of nodes.
    pub(super) fn without_pairs(finding: &'a Finding, names: &[&'a str]) -> Self {
        Self { pairs: None, ..Self::new(finding, names) }
    }

    /// The finding, if it speaks of these nodes alone.
    pub(super) fn check(self, names: &[NodeName]) -> Option<Finding> {
        let place = |name: &&str| names.binary_search_by(|known| known.as_str().cmp(name)).ok();
        let is_pair =
            |(source, target): &(usize, usize)| *source < names.len() && *target < names.len();
        let pairs = self.pairs.map(|pairs| pairs.0).unwrap_or_default();
        let fits = pairs.len() <= MAX_LISTED_PAIRS && pairs.iter().all(is_pair);
        Some(Finding {
            kind: of_text(FindingKind::ALL, FindingKind::as_str, self.kind)?,
            is_grave: self.grave,
            nodes: self.nodes.0.iter().map(place).collect::<Option<_>>()?,
            cells: self.cells,
            pairs: fits.then_some(pairs)?,
            text: self.text.to_owned(),
        })
    }
}
