//! Nodes that are down, cut off from all others, or hear or are heard in one direction only; and a mesh
//! of which only one side is seen.

use super::facts::{Cells, Counts, Facts, Pair};
use super::found::Found;
use super::text::{form, list, names};
use super::told;
use super::{FindingKind, MIN_WITNESSES};
use crate::experiment::HostState;
use crate::probe::FailureReason;

/// How a node is cut off, with the pairs that show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// In both directions.
    Off,
    /// As the collecting agent sees it on its own node: no other row came.
    OffFromInside,
    /// What the others send arrives.
    Unheard,
    /// What it sends arrives at the others.
    Deaf,
}

/// Finds nodes that are down, or one side of a split; takes them out of `active`.
pub(super) fn find_down(facts: &mut Facts<'_>, active: &mut [bool]) -> Vec<Found> {
    let counts = facts.counts(active);
    let is_down = |node: &usize| {
        let known = counts.get(*node).copied().unwrap_or_default();
        facts.row(*node).is_err()
            && known.in_up == 0
            && known.in_down >= MIN_WITNESSES
            && facts.arrivals(&pairs_to(facts, *node)).0 == 0
    };
    let down: Vec<usize> = (0..facts.size()).filter(is_down).collect();
    if down.is_empty() {
        return Vec::new();
    }
    for node in &down {
        if let Some(active) = active.get_mut(*node) {
            *active = false;
        }
    }
    let is_known = |node: &usize| {
        active.get(*node) == Some(&true) && counts.get(*node).is_some_and(|known| known.any())
    };
    let side: Vec<usize> = (0..facts.size()).filter(is_known).collect();
    // Half of the nodes or more, by timeouts alone: the path is the more likely cause.
    let is_split = side.len() >= 2
        && down.len() >= side.len()
        && facts.reasons(&all_to(facts, &down)).iter().all(|reason| is_of_the_path(*reason));
    if is_split {
        let hosts = told::hosts(facts, &mut all_to(facts, &down).iter());
        let cells = facts.explain(&mut all_to(facts, &down).iter());
        let [side, words] = [&side, &down].map(|nodes| names(&facts.names, nodes));
        let hosts = match hosts {
            Some(HostState::Answers) => form(&down, "; its host answers", "; their hosts answer"),
            Some(HostState::Silent) => {
                form(&down, "; nothing from its host", "; nothing from their hosts")
            }
            None => "",
        };
        let text = format!(
            "the mesh is split: this side is {{{side}}}; the rows of {words} are missing{hosts}"
        );
        return vec![Found { kind: FindingKind::Split, is_grave: true, nodes: down, cells, text }];
    }
    // Apart, since a host that answers is not down.
    let of = |node: &usize| told::hosts(facts, &mut all_to(facts, &[*node]).iter());
    let (alive, dead): (Vec<_>, Vec<_>) =
        down.into_iter().partition(|node| of(node) == Some(HostState::Answers));
    let found = [alive, dead].into_iter().filter(|nodes| !nodes.is_empty());
    found.map(|nodes| down_together(facts, &counts, nodes)).collect()
}

/// The finding for nodes that no row reaches. The hosts behind all of them answer, or none is known to.
fn down_together(facts: &mut Facts<'_>, counts: &[Counts], nodes: Vec<usize>) -> Found {
    let hosts = told::hosts(facts, &mut all_to(facts, &nodes).iter());
    let cells = facts.explain(&mut all_to(facts, &nodes).iter());
    let reasons = facts.reasons(&cells);
    let reasons: Vec<&str> = reasons.iter().map(|reason| reason.as_str()).collect();
    let (words, reasons) = (names(&facts.names, &nodes), list(&reasons));
    let none = if nodes.len() == 1 {
        let witnesses =
            nodes.iter().filter_map(|node| counts.get(*node)).map(|known| known.in_down);
        format!("none of {} others reaches it ({reasons})", witnesses.sum::<usize>())
    } else {
        format!("no other node reaches them ({reasons})")
    };
    let is_down = form(&nodes, "is down", "are down");
    let text = match hosts {
        Some(HostState::Answers) => {
            let several = "their hosts answer, their pod networks do not";
            let answers = form(&nodes, "its host answers, its pod network does not", several);
            format!("{words}: {answers}; {none}")
        }
        Some(HostState::Silent) => {
            let host = form(&nodes, "its host", "their hosts");
            format!("{words} {is_down}: {none}; nothing from {words} or {host}")
        }
        None => format!("{words} {is_down}: {none}"),
    };
    Found { kind: FindingKind::NodeDown, is_grave: true, nodes, cells, text }
}

/// The pairs of all sources with these nodes.
fn all_to(facts: &Facts<'_>, nodes: &[usize]) -> Cells {
    let pairs = nodes.iter().flat_map(|node| pairs_to(facts, *node));
    pairs.filter(|pair| facts.open(*pair).is_some()).collect()
}

/// Whether a fault of the path, rather than of the node, causes this.
fn is_of_the_path(reason: FailureReason) -> bool {
    use FailureReason::{ConnectTimeout, ResponseTimeout, Unreachable};
    matches!(reason, ConnectTimeout | ResponseTimeout | Unreachable)
}

/// Finds nodes that are cut off, and takes them out of `active`.
pub(super) fn find_cut_off(facts: &mut Facts<'_>, active: &mut [bool]) -> Vec<Found> {
    let counts = facts.counts(active);
    let cut: Vec<(usize, Cut, Counts)> = (0..facts.size())
        .filter(|node| active.get(*node) == Some(&true))
        .filter_map(|node| {
            let known = counts.get(node).copied()?;
            Some((node, cut(facts, active, node, known)?, known))
        })
        .collect();
    let mut found = Vec::new();
    for kind in [Cut::Off, Cut::OffFromInside, Cut::Unheard, Cut::Deaf] {
        let of_kind = || cut.iter().filter(|(_, cut, _)| *cut == kind);
        let nodes: Vec<usize> = of_kind().map(|(node, ..)| *node).collect();
        // A pair of two such nodes comes twice, and counts once.
        let mut cells = Cells::default();
        let hosts = cut_hosts(facts, kind, &nodes);
        for node in &nodes {
            let pairs = [pairs_to(facts, *node), pairs_from(facts, *node)].concat();
            cells.extend(facts.explain(&mut pairs.into_iter()).iter());
        }
        if cells.is_empty() {
            continue;
        }
        let most = |count: fn(&Counts) -> usize| {
            of_kind().map(|(.., known)| count(known)).max().unwrap_or(0)
        };
        let (ins, outs) = (most(|known| known.in_down), most(|known| known.out_down));
        let text = sentence(&names(&facts.names, &nodes), &nodes, kind, [ins, outs]) + hosts;
        found.push(Found { kind: FindingKind::CutOff, is_grave: true, nodes, cells, text });
    }
    for (node, ..) in cut {
        if let Some(active) = active.get_mut(node) {
            *active = false;
        }
    }
    found
}

/// How a node is cut off, if it is.
fn cut(facts: &Facts<'_>, active: &[bool], node: usize, known: Counts) -> Option<Cut> {
    if known.in_up + known.out_up > 0 {
        return None;
    }
    let is_active =
        |pair: &Pair| [pair.0, pair.1].into_iter().all(|node| active.get(node) == Some(&true));
    let pairs = [pairs_to(facts, node), pairs_from(facts, node)]
        .map(|pairs| pairs.into_iter().filter(is_active).collect::<Vec<_>>());
    // A whole request needs a handshake: packets pass in both directions.
    if pairs.iter().any(|pairs| facts.whole_requests(pairs)) {
        return None;
    }
    let [heard, hears] = pairs.map(|pairs| facts.arrivals(&pairs));
    if facts.row(node).is_err() {
        // It is known from the others alone.
        let arrives = heard.0 > 0 && heard.1 == 0;
        return (known.in_down >= MIN_WITNESSES && arrives).then_some(Cut::Deaf);
    }
    let alone = known.in_down == 0;
    let is_inside = facts.own == Some(node) && facts.sources().iter().all(|source| *source == node);
    if known.out_down < MIN_WITNESSES || alone && !is_inside {
        return None;
    }
    Some(match (hears.0 > 0, heard.0 > 0) {
        (true, false) => Cut::Unheard,
        (false, true) => Cut::Deaf,
        _ if is_inside => Cut::OffFromInside,
        _ => Cut::Off,
    })
}

/// Whether hosts answer although the pods behind them do not: those of the nodes, or of the others as seen from
/// inside.
fn cut_hosts(facts: &Facts<'_>, cut: Cut, nodes: &[usize]) -> &'static str {
    let from = |node: &usize| pairs_from(facts, *node);
    let cells = match cut {
        Cut::Off => all_to(facts, nodes),
        Cut::OffFromInside => nodes.iter().flat_map(from).collect(),
        Cut::Unheard | Cut::Deaf => return "",
    };
    match (told::hosts(facts, &mut cells.iter()), cut) {
        (Some(HostState::Answers), Cut::Off) if told::pods_speak(facts, &mut cells.iter()) => {
            form(nodes, "; its host answers", "; their hosts answer")
        }
        (Some(HostState::Answers), Cut::Off) => {
            let several = "; their hosts answer, their pod networks do not";
            form(nodes, "; its host answers, its pod network does not", several)
        }
        (Some(HostState::Answers), _) => "; the hosts of the others answer",
        (Some(HostState::Silent), Cut::OffFromInside) => "; nothing from the hosts of the others",
        _ => "",
    }
}

fn sentence(words: &str, nodes: &[usize], cut: Cut, [ins, outs]: [usize; 2]) -> String {
    let [is, hears, it, them, its] = if nodes.len() == 1 {
        ["is", "hears", "it", "it", "its"]
    } else {
        ["are", "hear", "they", "them", "their"]
    };
    let reach = form(nodes, "reaches", "reach");
    match cut {
        Cut::Off => format!(
            "{words} {is} cut off: {it} {reach} none of {outs}, and none of {ins} reaches {them}"
        ),
        Cut::OffFromInside => {
            format!("{words} {is} cut off: this agent reaches none of {outs}; nothing reaches it")
        }
        Cut::Unheard => format!(
            "{words} {hears} and {is} not heard: {its} answers and requests reach none of {outs}, theirs arrive"
        ),
        Cut::Deaf => format!(
            "{words} {is} heard and {hears} nothing: answers and requests of none of {} reach {them}, {its} own arrive",
            ins.max(outs)
        ),
    }
}

fn pairs_to(facts: &Facts<'_>, node: usize) -> Vec<Pair> {
    facts.sources().iter().map(|source| (*source, node)).collect()
}

fn pairs_from(facts: &Facts<'_>, node: usize) -> Vec<Pair> {
    (0..facts.size()).map(|target| (node, target)).collect()
}
