//! Findings that explain no fault of a path: handshakes answered by another host, clocks, and rows that did not
//! come.

use super::facts::{Cells, Facts, Pair};
use super::found::Found;
use super::text::{form, names};
use super::{FindingKind, MAX_CLOCK_OFFSET, MIN_INTERCEPTED};
use crate::matrix::{Cell, RowError};
use crate::state::Verdict;

/// Finds the nodes whose every handshake is answered by something else.
pub(super) fn find_intercepted(facts: &Facts<'_>) -> Option<Found> {
    let reached = |source: usize| {
        let pairs = (0..facts.size()).map(move |target| (source, target));
        pairs.filter(|pair| facts.reaches(*pair) == Some(true))
    };
    let is_intercepted = |pair: Pair| facts.cell(pair).is_some_and(Cell::is_intercepted);
    let is_at_fault = |source: &usize| {
        reached(*source).count() >= MIN_INTERCEPTED && reached(*source).all(is_intercepted)
    };
    let nodes: Vec<usize> = facts.sources().iter().copied().filter(is_at_fault).collect();
    if nodes.is_empty() {
        return None;
    }
    let is_up = |pair: &Pair| facts.cell(*pair).is_some_and(|cell| cell.verdict() == Verdict::Up);
    let (names, whose) = (names(&facts.names, &nodes), form(&nodes, "its", "their"));
    Some(Found {
        kind: FindingKind::Intercepted,
        is_grave: false,
        // Those that are not up have a finding of their own.
        cells: nodes.iter().flat_map(|source| reached(*source)).filter(is_up).collect(),
        nodes,
        text: format!(
            "something between {names} and {whose} peers answers handshakes in their place"
        ),
    })
}

/// Finds clocks that differ from the middle one.
pub(super) fn find_clocks(facts: &Facts<'_>) -> Vec<Found> {
    let own = facts.own.filter(|own| facts.row(*own).is_ok()).map(|own| (own, 0, 0));
    let of = |node: &usize| Some((*node, facts.row(*node).ok()?.clock()?));
    let others = facts.sources().iter().filter(|node| Some(**node) != facts.own).filter_map(of);
    let clocks: Vec<(usize, i64, u64)> = own
        .into_iter()
        .chain(others.map(|(node, clock)| (node, clock.millis, clock.doubt)))
        .collect();
    // The middle one; of two middles, the one nearer to the own clock: of two clocks, the own is right.
    let is_middle = |middle: &i64| {
        let count = |is: fn(i64, i64) -> bool| {
            clocks.iter().filter(|(_, millis, _)| is(*millis, *middle)).count()
        };
        let most = clocks.len() / 2;
        count(|one, middle| one < middle) <= most && count(|one, middle| one > middle) <= most
    };
    let middles = clocks.iter().filter(|(_, millis, _)| is_middle(millis));
    let middles = middles.map(|(_, millis, doubt)| (millis.unsigned_abs(), *doubt, *millis));
    let (_, right_doubt, right) = middles.min().unwrap_or_default();
    let bound = u64::try_from(MAX_CLOCK_OFFSET.as_millis()).unwrap_or(u64::MAX);
    let mut found = Vec::new();
    for (node, millis, doubt) in clocks {
        let off = millis.saturating_sub(right);
        // Where rows take seconds, what is taken for right is in doubt as well.
        if off.unsigned_abs() <= bound.saturating_add(doubt).saturating_add(right_doubt) {
            continue;
        }
        let direction = if off > 0 { "ahead" } else { "behind" };
        let (name, time) = (names(&facts.names, &[node]), long(off.unsigned_abs()));
        found.push(Found {
            kind: FindingKind::Clock,
            is_grave: false,
            nodes: vec![node],
            cells: Cells::default(),
            text: format!("the clock of {name} is {time} {direction}"),
        });
    }
    found
}

/// Milliseconds for people.
fn long(millis: u64) -> String {
    let seconds = millis.saturating_add(500) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", (seconds + 30) / 60),
        7200..172_800 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} days", seconds.saturating_add(43_200) / 86_400),
    }
}

/// Whether the agent of the node drains for another, was not probed yet, or rests with another for a survey.
fn is_excused(facts: &Facts<'_>, node: usize) -> bool {
    let is_new = |cell: &Cell| matches!(cell.verdict(), Verdict::Draining | Verdict::Unknown);
    facts
        .sources()
        .iter()
        .map(|source| (*source, node))
        .any(|pair| facts.is_surveyed(pair) || facts.cell(pair).is_some_and(is_new))
}

/// Says which rows are missing; a finding may have said it of some nodes. That of an agent which is being replaced,
/// so that it drains or was not probed yet for some node, or which rests for a survey, is no fault.
pub(super) fn find_missing(facts: &Facts<'_>, said: &[usize]) -> Vec<Found> {
    // A list of peers that is newer elsewhere is no fault, and neither is a survey.
    let is_fault = |error: &RowError| !matches!(error, RowError::NoPeer | RowError::Surveyed);
    let errors = RowError::all().filter(is_fault);
    let found = errors.map(|error| {
        let is = |node: &usize| {
            facts.row(*node).err() == Some(error)
                && !said.contains(node)
                && !is_excused(facts, *node)
        };
        let nodes: Vec<usize> = (0..facts.size()).filter(is).collect();
        let text = format!("no row from {} ({})", names(&facts.names, &nodes), error.as_str());
        Found {
            kind: FindingKind::MissingRow,
            is_grave: false,
            nodes,
            cells: Cells::default(),
            text,
        }
    });
    found.filter(|one| !one.nodes.is_empty()).collect()
}
