//! Sets of sources that share a fault towards sets of targets, and single pairs.

use std::collections::BTreeMap;

use super::FindingKind;
use super::facts::{Cells, Facts, Pair, pack, unpack};
use super::fault::{Fault, PairFault, Path};
use super::found::Found;
use super::text::names;
use crate::state::Incoming;

/// Paths that share a fault: from each source to each target.
#[derive(Debug, Clone)]
struct Group {
    fault: Fault,
    sources: Vec<u16>,
    targets: Vec<u16>,
    cells: Cells,
    /// The way back has it too.
    mutual: bool,
}

/// Explains all faults that are left.
pub(super) fn find_groups(facts: &mut Facts<'_>, faults: &[PairFault]) -> Vec<Found> {
    let mut kinds: Vec<Fault> = faults.iter().map(|fault| fault.fault).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut found = Vec::new();
    for fault in kinds {
        let of_kind = faults.iter().filter(|one| one.fault == fault);
        let mut paths: Vec<Path> = of_kind.flat_map(PairFault::paths).collect();
        paths.sort_unstable_by_key(|path| path.ends());
        for group in unite(groups(fault, &paths)) {
            let cells = facts.explain(group.cells.iter());
            // All cells of a fault in both ways may be those of the other way.
            if !cells.is_empty() {
                found.push(finding(facts, &Group { cells, ..group }));
            }
        }
    }
    found
}

/// Divides the paths: each goes with the targets that have the same sources as its target, or with the
/// sources that have the same targets as its source, whichever makes more paths. Names play no part.
fn groups(fault: Fault, paths: &[Path]) -> Vec<Group> {
    let forward = || paths.iter().map(|path| path.ends());
    let size = forward().map(|(source, target)| source.max(target) + 1).max().unwrap_or(0);
    let by_source = sizes(size, &classes(forward()));
    let by_target = sizes(size, &classes(forward().map(flip)));
    let is_of_target = |(source, target): &Pair| by_target.get(*target) >= by_source.get(*source);
    let targets_first = classes(forward().filter(is_of_target).map(flip)).into_iter();
    let sources_first = classes(forward().filter(|path| !is_of_target(path))).into_iter();
    let sources_first = sources_first.map(|(targets, sources)| (sources, targets));
    let group = |(sources, targets): (Vec<u16>, Vec<u16>)| {
        let all = sources.iter().flat_map(|source| targets.iter().map(move |to| [*source, *to]));
        let path = |ends: [u16; 2]| {
            let place = paths.binary_search_by_key(&unpack(ends), |path| path.ends()).ok()?;
            paths.get(place).copied()
        };
        let cells = all.filter_map(path).flat_map(Path::cells).collect();
        Group { fault, sources, targets, cells, mutual: false }
    };
    targets_first.chain(sources_first).map(group).collect()
}

fn flip((source, target): Pair) -> Pair {
    (target, source)
}

/// The first nodes of the pairs, united by the sets of their second nodes: each such set with its nodes.
fn classes(pairs: impl Iterator<Item = Pair>) -> BTreeMap<Vec<u16>, Vec<u16>> {
    let mut pairs: Vec<[u16; 2]> = pairs.map(pack).collect();
    pairs.sort_unstable();
    let mut classes: BTreeMap<Vec<u16>, Vec<u16>> = BTreeMap::new();
    for pairs in pairs.chunk_by(|one, next| one.first() == next.first()) {
        let seconds = pairs.iter().map(|[_, second]| *second).collect();
        classes.entry(seconds).or_default().extend(pairs.first().map(|[first, _]| *first));
    }
    classes
}

/// For each node, how many pairs its class has.
fn sizes(nodes: usize, classes: &BTreeMap<Vec<u16>, Vec<u16>>) -> Vec<usize> {
    let mut sizes = vec![0; nodes];
    for (seconds, firsts) in classes {
        for first in firsts {
            if let Some(size) = sizes.get_mut(usize::from(*first)) {
                *size = seconds.len() * firsts.len();
            }
        }
    }
    sizes
}

/// Unites groups that are each other's way back.
fn unite(groups: Vec<Group>) -> Vec<Group> {
    let mut united: BTreeMap<(Vec<u16>, Vec<u16>), Group> = BTreeMap::new();
    for group in groups {
        match united.get_mut(&(group.targets.clone(), group.sources.clone())) {
            Some(back) => {
                back.mutual = true;
                back.cells.extend(group.cells.iter());
            }
            None => {
                united.insert((group.sources.clone(), group.targets.clone()), group);
            }
        }
    }
    united.into_values().collect()
}

fn finding(facts: &Facts<'_>, group: &Group) -> Found {
    let Group { fault, sources, targets, cells, mutual } = group;
    let is_pair = sources.len() == 1 && targets.len() == 1;
    // The one whose names come first.
    let (sources, targets) =
        if *mutual && targets < sources { (targets, sources) } else { (sources, targets) };
    let [sources, targets] =
        [sources, targets].map(|nodes| nodes.iter().copied().map(usize::from).collect::<Vec<_>>());
    let arrow = if *mutual { "↔" } else { "→" };
    let [from, to] = [&sources, &targets].map(|nodes| names(&facts.names, nodes));
    let word = word(facts, *fault, cells);
    let mut text = format!("{from} {arrow} {to}: {word}");
    if let (true, false, [source], [target]) = (is_pair, *mutual, &sources[..], &targets[..])
        && matches!(fault, Fault::Down(_))
    {
        let cell = facts.cell((*source, *target));
        let what = match cell.and_then(|cell| cell.incoming()) {
            Some(Incoming::Requests) => "requests",
            Some(Incoming::Syns) => "SYNs",
            Some(Incoming::Nothing) | None => "",
        };
        if !what.is_empty() {
            text = format!("{text}; {what} from {to} arrive");
        }
    }
    let mut nodes = [&sources[..], &targets[..]].concat();
    nodes.sort_unstable();
    nodes.dedup();
    let kind = if is_pair { FindingKind::Pair } else { FindingKind::Group };
    let is_grave = matches!(fault, Fault::Down(_));
    Found { kind, is_grave, nodes, cells: cells.clone(), text }
}

fn word(facts: &Facts<'_>, fault: Fault, cells: &Cells) -> String {
    match fault {
        Fault::Down(reason) => format!("down ({reason})"),
        Fault::Slow => "down (response_timeout), slower than WYLIS_TIMEOUT".to_owned(),
        Fault::OneWay => "one-way; requests no longer arrive".to_owned(),
        Fault::Lossy => "lossy".to_owned(),
        Fault::Mtu => "mtu".to_owned(),
        Fault::Flaky(reason) => {
            let shares = || cells.iter().filter_map(|pair| Some(facts.cell(pair)?.failures()));
            let worst = shares().max_by_key(|(failures, probes)| {
                (u32::from(*failures) * 1000 / u32::from((*probes).max(1)), *probes)
            });
            let (failures, probes) = worst.unwrap_or_default();
            let same = shares().all(|share| share == (failures, probes));
            let up_to = if same { "" } else { "up to " };
            format!("flaky ({reason}, {up_to}{failures} of {probes})")
        }
    }
}
