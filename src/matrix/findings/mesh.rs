//! Faults of the whole mesh: a relay that does not forward, and parts that do not reach each other.

use super::facts::{Cells, Counts, Facts, Pair};
use super::fault::{Fault, is_loss};
use super::found::Found;
use super::text::names;
use super::told;
use super::{FindingKind, MIN_OTHERS_OF_RELAY, MIN_PART, is_few, is_most};
use crate::experiment::HostState;
use crate::probe::FailureReason;
use crate::sort::sort;

/// What is counted of the pairs at one node, or of all.
#[derive(Debug, Clone, Copy, Default)]
struct Paths {
    /// With a known verdict.
    known: usize,
    lossy: usize,
    /// Lossy, or down by a timeout, as a lossy path may be for a while.
    affected: usize,
}

/// Finds the only node that is reached, where all paths between the others fail or are lossy.
pub(super) fn find_relay(facts: &mut Facts<'_>, active: &[bool]) -> Vec<Found> {
    let counts = facts.counts(active);
    let is_known = |node: &usize| counts.get(*node).is_some_and(|known| known.any());
    let nodes: Vec<usize> = (0..facts.size()).filter(is_known).collect();
    let others = nodes.len().saturating_sub(1);
    if others < MIN_OTHERS_OF_RELAY {
        return Vec::new();
    }
    let dead = dead_relay(facts, &counts, &nodes);
    let (relay, is_dead) = match dead.or_else(|| lossy_relay(facts, active, &nodes)) {
        Some(relay) => (relay, dead.is_some()),
        None => return Vec::new(),
    };
    let mut set = active.to_vec();
    if let Some(place) = set.get_mut(relay) {
        *place = false;
    }
    let (mut known, mut affected) = (0, Cells::default());
    facts.each_known(&set, &mut |pair, _| {
        known += 1;
        let fault = facts.open(pair).and_then(Fault::of);
        let is_explained = |fault| match fault {
            Fault::Down(_) if is_dead => true,
            fault => is_loss_for_now(fault),
        };
        affected.extend(fault.is_some_and(is_explained).then_some(pair));
    });
    let lossy = affected.len();
    let cells = facts.explain(&mut affected.iter());
    let name = names(&facts.names, &[relay]);
    let text = if is_dead {
        let which = if known == others * (others - 1) { "" } else { "known " };
        format!(
            "only {name} is reached; it does not relay: all {known} {which}paths between the other nodes fail"
        )
    } else if lossy == known {
        format!("every path through {name} is lossy")
    } else {
        format!("{lossy} of {known} paths through {name} are lossy")
    };
    // Loss alone is not.
    let is_grave = !facts.reasons(&cells).is_empty();
    vec![Found { kind: FindingKind::Relay, is_grave, nodes: vec![relay], cells, text }]
}

/// Whether loss may cause it for a while.
fn is_loss_for_now(fault: Fault) -> bool {
    use FailureReason::{ConnectTimeout, ResponseTimeout};
    is_loss(fault) || matches!(fault, Fault::Down(ConnectTimeout | ResponseTimeout))
}

fn dead_relay(facts: &Facts<'_>, counts: &[Counts], nodes: &[usize]) -> Option<usize> {
    let of = |node: &usize| counts.get(*node).copied().unwrap_or_default();
    let up: usize = nodes.iter().map(|node| of(node).in_up).sum();
    let is_relay = |node: &&usize| {
        let Counts { in_up, in_down, out_up, out_down } = of(node);
        let reached = in_up >= 2 && in_down + out_down == 0 && up == in_up + out_up;
        // Rows of two others at least: one alone may have the fault itself.
        let rows =
            facts.sources().iter().filter(|source| source != node && of(source).out_down > 0);
        reached && rows.count() >= 2
    };
    nodes.iter().find(is_relay).copied()
}

fn lossy_relay(facts: &Facts<'_>, active: &[bool], nodes: &[usize]) -> Option<usize> {
    let mut of_node = vec![Paths::default(); facts.size()];
    let mut all = Paths::default();
    facts.each_known(active, &mut |pair, _| {
        let fault = facts.open(pair).and_then(Fault::of);
        let is_lossy = fault.is_some_and(is_loss);
        let affected = usize::from(fault.is_some_and(is_loss_for_now));
        let mut count = |paths: &mut Paths| {
            paths.known += 1;
            paths.lossy += usize::from(is_lossy);
            paths.affected += affected;
        };
        count(&mut all);
        for node in [pair.0, pair.1] {
            of_node.get_mut(node).map(&mut count);
        }
    });
    let is_relay = |node: &&usize| {
        let own = of_node.get(**node).copied().unwrap_or_default();
        let known = all.known - own.known;
        let (lossy, affected) = (all.lossy - own.lossy, all.affected - own.affected);
        is_few(own.affected, own.known) && is_most(affected, known) && lossy * 2 > known
    };
    let mut relays = nodes.iter().filter(is_relay);
    // Of two, neither is the cause.
    relays.next().filter(|_| relays.next().is_none()).copied()
}

/// Finds the parts of a mesh that do not reach each other.
pub(super) fn find_split(facts: &mut Facts<'_>, active: &[bool]) -> Vec<Found> {
    let mut part: Vec<usize> = (0..facts.size()).collect();
    facts.each_known(active, &mut |pair, up| {
        if up {
            join(&mut part, pair);
        }
    });
    let root: Vec<usize> = (0..facts.size()).map(|node| root(&mut part, node)).collect();
    let mut parts: Vec<Vec<usize>> = vec![Vec::new(); facts.size()];
    for (node, root) in root.iter().enumerate() {
        if let Some(part) = parts.get_mut(*root) {
            part.push(node);
        }
    }
    let is_part = |root: usize| parts.get(root).is_some_and(|part| part.len() >= MIN_PART);
    let mut pairs = Cells::default();
    facts.each_known(active, &mut |pair, up| {
        let [one, other] = [pair.0, pair.1].map(|node| root.get(node).copied().unwrap_or(node));
        pairs.extend((!up && one != other && is_part(one) && is_part(other)).then_some(pair));
    });
    let cells = facts.explain(&mut pairs.iter());
    if cells.is_empty() {
        return Vec::new();
    }
    let mut touched = vec![false; facts.size()];
    for node in cells.iter().flat_map(|pair| [pair.0, pair.1]) {
        if let Some(touched) = root.get(node).and_then(|root| touched.get_mut(*root)) {
            *touched = true;
        }
    }
    let is_touched = |part: &&Vec<usize>| {
        part.first().and_then(|node| touched.get(*root.get(*node)?)) == Some(&true)
    };
    // In the order of their first nodes, which stand for them.
    let split: Vec<&Vec<usize>> = parts.iter().filter(is_touched).collect();
    let words: Vec<String> =
        split.iter().map(|part| format!("{{{}}}", names(&facts.names, part))).collect();
    let hosts = match told::hosts(facts, &mut cells.iter()) {
        Some(HostState::Answers) if told::pods_speak(facts, &mut cells.iter()) => {
            "; the hosts answer"
        }
        Some(HostState::Answers) => "; the hosts answer, the pod network does not",
        Some(HostState::Silent) => "; nothing from the hosts of the other parts",
        None => "",
    };
    let text = match words.split_last() {
        Some((last, first)) => {
            format!("the mesh is split into {} and {last}{hosts}", first.join(", "))
        }
        None => String::new(),
    };
    let mut nodes: Vec<usize> = split.into_iter().flatten().copied().collect();
    sort(&mut nodes);
    vec![Found { kind: FindingKind::Split, is_grave: true, nodes, cells, text }]
}

/// The node that stands for the part of this one; the way to it becomes shorter.
fn root(part: &mut [usize], mut node: usize) -> usize {
    while let Some(next) = part.get(node).copied().filter(|next| *next != node) {
        let beyond = part.get(next).copied().unwrap_or(next);
        if let Some(place) = part.get_mut(node) {
            *place = beyond;
        }
        node = beyond;
    }
    node
}

fn join(part: &mut [usize], pair: Pair) {
    let [one, other] = [root(part, pair.0), root(part, pair.1)];
    if let Some(place) = part.get_mut(one.max(other)) {
        *place = one.min(other);
    }
}
