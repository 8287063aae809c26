//! Findings that explain no fault of a path: handshakes answered by another host, clocks, and rows that did not
//! come.

use std::collections::BTreeMap;

use super::facts::{Cells, Facts, Pair};
use super::found::Found;
use super::text::names;
use super::{FindingKind, MAX_CLOCK_OFFSET, MIN_INTERCEPTED};
use crate::matrix::RowError;
use crate::state::Verdict;

/// Finds nodes whose every handshake is answered by something else.
pub(super) fn find_intercepted(facts: &Facts<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for source in facts.sources().iter().copied() {
        let reached: Vec<Pair> = (0..facts.size())
            .map(|target| (source, target))
            .filter(|pair| facts.reaches(*pair) == Some(true))
            .collect();
        let is_intercepted =
            |pair: &Pair| facts.cell(*pair).is_some_and(|cell| cell.is_intercepted());
        if reached.len() < MIN_INTERCEPTED || !reached.iter().all(is_intercepted) {
            continue;
        }
        let is_up =
            |pair: &Pair| facts.cell(*pair).is_some_and(|cell| cell.verdict() == Verdict::Up);
        let name = names(&facts.names, &[source]);
        found.push(Found {
            kind: FindingKind::Intercepted,
            is_grave: false,
            nodes: vec![source],
            // Those that are not up have a finding of their own.
            cells: reached.into_iter().filter(is_up).collect(),
            text: format!(
                "something between {name} and its peers answers handshakes in their place"
            ),
        });
    }
    found
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
    let mut sorted: Vec<i64> = clocks.iter().map(|(_, millis, _)| *millis).collect();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    // Of two middles, the one nearer to the own clock: of two clocks, the own is right.
    let right = if lower.unsigned_abs() < middle.unsigned_abs() { lower } else { middle };
    let bound = u64::try_from(MAX_CLOCK_OFFSET.as_millis()).unwrap_or(u64::MAX);
    let mut found = Vec::new();
    for (node, millis, doubt) in clocks {
        let off = millis.saturating_sub(right);
        if off.unsigned_abs() <= bound.saturating_add(doubt) {
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

/// Says which rows are missing; a finding may have said it of some nodes.
pub(super) fn find_missing(facts: &Facts<'_>, said: &[usize]) -> Vec<Found> {
    let mut by_error: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for node in (0..facts.size()).filter(|node| !said.contains(node)) {
        match facts.row(node) {
            // A list of peers that is newer elsewhere is no fault.
            Ok(_) | Err(RowError::NoPeer) => {}
            Err(error) => by_error.entry(error.as_str()).or_default().push(node),
        }
    }
    let found = by_error.into_iter().map(|(error, nodes)| {
        let text = format!("no row from {} ({error})", names(&facts.names, &nodes));
        Found {
            kind: FindingKind::MissingRow,
            is_grave: false,
            nodes,
            cells: Cells::default(),
            text,
        }
    });
    found.collect()
}
