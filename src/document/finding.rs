//! One finding of the matrix.

use serde::Serialize;

use super::list::List;
use super::{MAX_UNIX, is_default, of_text};
use crate::bounded_list::BoundedList;
use crate::history::DayFinding;
use crate::matrix::{Finding, FindingKind, MAX_LISTED_PAIRS};
use crate::name::NodeName;

/// The fields of a finding.
#[derive(Serialize)]
pub(super) struct FindingFields<'a> {
    kind: &'a str,
    grave: bool,
    nodes: List<&'a str>,
    /// Left out of a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    cells: Option<usize>,
    /// By their places in the list of nodes; left out of a document that has no such list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pairs: Option<List<(usize, usize)>>,
    text: &'a str,
    /// Of a day, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    repeated: bool,
}

read_object!(
    FindingFields<'de>,
    required: [kind, nodes, text],
    optional: [grave, cells, pairs, from, to, repeated]
);

impl<'a> FindingFields<'a> {
    /// `names` are all nodes of the matrix, in order.
    pub(super) fn new(finding: &'a Finding, names: &[&'a str]) -> Self {
        let name = |place: &usize| names.get(*place).copied();
        Self {
            kind: finding.kind.as_str(),
            grave: finding.is_grave,
            nodes: BoundedList(finding.nodes.iter().filter_map(name).collect()),
            cells: Some(finding.cells),
            pairs: Some(BoundedList(finding.pairs.clone())),
            text: &finding.text,
            from: None,
            to: None,
            repeated: false,
        }
    }

    /// The same for a document without a list of nodes.
    pub(super) fn without_pairs(finding: &'a Finding, names: &[&'a str]) -> Self {
        Self { pairs: None, ..Self::new(finding, names) }
    }

    /// A line of a day.
    pub(super) fn of_day(finding: &'a DayFinding) -> Self {
        Self {
            kind: finding.kind.as_str(),
            grave: finding.is_grave,
            nodes: BoundedList(finding.nodes.iter().map(NodeName::as_str).collect()),
            cells: None,
            pairs: None,
            text: &finding.text,
            from: Some(finding.from),
            to: Some(finding.to),
            repeated: finding.is_repeated,
        }
    }

    /// The line of a day, if it has a time.
    pub(super) fn check_day(self) -> Option<DayFinding> {
        let (from, to) = (self.from?, self.to?);
        (from < to && to <= MAX_UNIX).then_some(())?;
        let name = |name: &&str| NodeName::new(name).ok();
        Some(DayFinding {
            from,
            to,
            kind: of_text(FindingKind::ALL, FindingKind::as_str, self.kind)?,
            is_grave: self.grave,
            nodes: self.nodes.0.iter().map(name).collect::<Option<_>>()?,
            text: self.text.to_owned(),
            is_repeated: self.repeated,
        })
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
            cells: self.cells.unwrap_or_default(),
            pairs: fits.then_some(pairs)?,
            text: self.text.to_owned(),
        })
    }
}
