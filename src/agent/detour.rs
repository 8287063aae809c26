//! The documents that did not come from their own nodes, and which peers to ask for them. Pure.
//!
//! A peer is asked for the row of a node that it reaches, as its own row says. It fetches that row itself and
//! asks no other, so a detour has one hop. What it sends is its word, and is marked as such.

use std::time::Duration;

use crate::matrix::{Matrix, RowError};
use crate::name::NodeName;
use crate::probe::FailureReason;
use crate::state::Verdict;

/// Rows of one matrix that are fetched by detours: each is a connection more, also at the peer. Where more are
/// missing, the agent itself is cut off.
const MAX_DETOURS: usize = 16;
/// Peers asked for the same row: one may be of a release without that route.
const MAX_ASKED: usize = 2;

/// A row that did not come.
struct Missing {
    node: NodeName,
    asked: Vec<NodeName>,
    /// A peer is being asked.
    under_way: bool,
}

/// The detours of one collection.
#[derive(Default)]
pub(super) struct Detours(Vec<Missing>);

impl Detours {
    /// Takes note of a row that is missing, if another path may help: a row that came and was refused, or whose
    /// node sends none now, is not asked for again.
    pub(super) fn add(&mut self, node: &NodeName, error: RowError) {
        let broken_path = match error {
            RowError::Failure(reason) => reason != FailureReason::BadResponse,
            error => error == RowError::Surveyed,
        };
        if broken_path && self.0.len() < MAX_DETOURS {
            self.0.push(Missing { node: node.clone(), asked: Vec::new(), under_way: false });
        }
    }

    /// The next peer that `own` asks, and the node whose row it is asked for. `reaching` has the peers that reach
    /// a node, each with its rank.
    pub(super) fn next<'a>(
        &mut self,
        own: &NodeName,
        reaching: &dyn Fn(&NodeName) -> Vec<(u8, &'a NodeName)>,
    ) -> Option<(NodeName, NodeName)> {
        let waiting =
            |missing: &&mut Missing| !missing.under_way && missing.asked.len() < MAX_ASKED;
        self.0.iter_mut().filter(waiting).find_map(|missing| {
            let Missing { node, asked, .. } = &missing;
            let usable = |(rank, peer): (u8, &'a NodeName)| {
                let usable = peer != own && peer != node && !asked.contains(peer);
                // Of equals, each agent asks another.
                usable.then(|| (rank, own.share(peer, Duration::from_secs(1)), peer))
            };
            let peer = reaching(node).into_iter().filter_map(usable).min()?.2.clone();
            missing.asked.push(peer.clone());
            missing.under_way = true;
            Some((peer, missing.node.clone()))
        })
    }

    /// The peer that was asked for the row of `node` has answered, or failed.
    pub(super) fn finished(&mut self, node: &NodeName, found: bool) {
        self.0.retain(|missing| !found || missing.node != *node);
        for missing in self.0.iter_mut().filter(|missing| missing.node == *node) {
            missing.under_way = false;
        }
    }
}

/// The peers that reach the node, as their own rows say, each with its rank.
pub(super) fn reaching<'a>(matrix: &'a Matrix, node: &NodeName) -> Vec<(u8, &'a NodeName)> {
    let rank = |verdict| match verdict {
        Verdict::Up => Some(0),
        Verdict::OneWay | Verdict::Flaky(_) | Verdict::Lossy | Verdict::Mtu(_) => Some(1),
        Verdict::Down(_) | Verdict::Unknown | Verdict::Draining => None,
    };
    let verdicts = matrix.verdicts_on(node);
    verdicts.filter_map(|(peer, verdict)| Some((rank(verdict)?, peer))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wylis_harness::bounds::worst_case;

    use super::*;
    use crate::matrix::{Cell, CellFacts, Row};

    const REFUSED: RowError = RowError::Failure(FailureReason::Refused);
    const DOWN: Verdict = Verdict::Down(FailureReason::Refused);

    fn name(number: usize) -> NodeName {
        NodeName::new(&format!("n{number:03}")).unwrap()
    }

    /// The matrix of the first of some nodes. The last one is missing; the others have these verdicts on it.
    fn matrix(own: usize, verdicts: &[Verdict]) -> Matrix {
        let cell = |verdict| Some(Cell::new(CellFacts::of(verdict)));
        let all = verdicts.len() + 1;
        let row = |verdict: &Verdict| {
            let mut cells = vec![None; all - 1];
            cells.push(cell(*verdict));
            Ok(Row::new(1, 0, cells))
        };
        let rows = verdicts.iter().map(row).chain([Err(REFUSED)]).collect();
        let names = (0..all).map(name).collect();
        Matrix::from_parts(name(own), (1, None), [Duration::ZERO; 2], names, rows, None).unwrap()
    }

    fn next(detours: &mut Detours, matrix: &Matrix) -> Option<(NodeName, NodeName)> {
        detours.next(matrix.node(), &|node| reaching(matrix, node))
    }

    #[test]
    fn peers_that_reach_the_node_are_asked_the_best_first_and_few_of_them() {
        let verdicts =
            [Verdict::Up, DOWN, Verdict::Unknown, Verdict::Lossy, Verdict::Up, Verdict::Draining];
        let (matrix, node) = (matrix(0, &verdicts), name(verdicts.len()));
        let mut detours = Detours::default();
        assert_eq!(next(&mut detours, &matrix), None, "none is missing");
        detours.add(&node, REFUSED);
        assert_eq!(
            next(&mut detours, &matrix),
            Some((name(4), node.clone())),
            "not the agent itself"
        );
        assert_eq!(next(&mut detours, &matrix), None, "one at a time");
        detours.finished(&node, false);
        assert_eq!(next(&mut detours, &matrix), Some((name(3), node.clone())));
        detours.finished(&node, false);
        assert_eq!(next(&mut detours, &matrix), None);
        let mut found = Detours::default();
        found.add(&node, REFUSED);
        assert!(next(&mut found, &matrix).is_some());
        found.finished(&node, true);
        assert_eq!(next(&mut found, &matrix), None);
    }

    #[test]
    fn rows_that_no_other_path_brings_are_not_asked_for() {
        let (matrix, node) = (matrix(0, &[Verdict::Up, Verdict::Up]), name(2));
        let refused = RowError::Failure(FailureReason::BadResponse);
        let others = RowError::OTHERS.into_iter().filter(|error| *error != RowError::Surveyed);
        for error in others.chain([refused]) {
            let mut detours = Detours::default();
            detours.add(&node, error);
            assert_eq!(next(&mut detours, &matrix), None, "{error:?}");
        }
        let mut detours = Detours::default();
        detours.add(&node, RowError::Surveyed);
        assert!(next(&mut detours, &matrix).is_some(), "a third node does not rest with it");
    }

    #[test]
    fn rows_that_were_passed_on_or_stand_in_for_others_are_no_ground() {
        let node = name(2);
        let row = |age, through| {
            let cells = vec![None, None, Some(Cell::new(CellFacts::of(Verdict::Up)))];
            Ok(Row::new(1, age, cells).passed_on(through))
        };
        for (age, through, asked) in [(0, None, true), (7, None, false), (0, Some(name(0)), false)]
        {
            let rows = vec![Err(RowError::Busy), row(age, through), Err(REFUSED)];
            let names = (0..3).map(name).collect();
            let matrix =
                Matrix::from_parts(name(0), (1, None), [Duration::ZERO; 2], names, rows, None)
                    .unwrap();
            let mut detours = Detours::default();
            detours.add(&node, REFUSED);
            assert_eq!(next(&mut detours, &matrix).is_some(), asked, "{age}");
        }
    }

    #[test]
    fn detours_are_few_and_agents_ask_different_peers() {
        let mut detours = Detours::default();
        (0..100).for_each(|number| detours.add(&name(number), REFUSED));
        assert!(detours.0.len() as f64 <= worst_case("MAX_DETOURS"));
        let node = name(40);
        let asked = |own| {
            let mut detours = Detours::default();
            detours.add(&node, REFUSED);
            next(&mut detours, &matrix(own, &[Verdict::Up; 40])).map(|(peer, _)| peer)
        };
        let different: BTreeSet<_> = (0..40).map(asked).collect();
        assert!(different.len() > 10, "{different:?}");
    }
}
