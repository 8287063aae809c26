//! Sets of sources that share a fault towards sets of targets, and single pairs.

use std::collections::BTreeMap;

use super::facts::{Cells, Facts, Pair, pack, unpack};
use super::fault::{Fault, PairFault, Path};
use super::found::Found;
use super::text::names;
use super::told;
use super::{FindingKind, MAX_GROUPS};
use crate::experiment::HostState;
use crate::matrix::Cell;
use crate::sort::sort;
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

impl Group {
    fn is_pair(&self) -> bool {
        self.sources.len() == 1 && self.targets.len() == 1
    }
}

/// Explains all faults that are left. Only those that may be listed get their sentence: names are long, and a
/// hostile mesh has thousands of groups.
pub(super) fn find_groups(facts: &mut Facts<'_>, faults: &[PairFault]) -> Vec<Found> {
    let mut kinds: Vec<Fault> = Vec::new();
    for fault in faults {
        if !kinds.contains(&fault.fault) {
            kinds.push(fault.fault);
        }
    }
    let mut found = Vec::new();
    for fault in kinds {
        let of_kind = faults.iter().filter(|one| one.fault == fault);
        let mut paths: Vec<u64> = of_kind.flat_map(PairFault::paths).map(Path::code).collect();
        sort(&mut paths);
        for mut group in unite(groups(fault, &paths)) {
            let cells = facts.explain(&mut std::mem::take(&mut group.cells).iter());
            // All cells of a fault in both ways may be those of the other way.
            if !cells.is_empty() {
                found.push((finding(&group, cells), group));
            }
        }
    }
    for _ in 0..MAX_GROUPS {
        let waiting = found.iter_mut().filter(|(one, _)| one.text.is_empty());
        let first = waiting.min_by(|(one, _), (other, _)| one.order(other));
        let Some((found, group)) = first else { break };
        found.text = sentence(facts, group, &found.cells);
    }
    found.into_iter().map(|(found, _)| found).collect()
}

/// Divides the paths: each goes with the targets that have the same sources as its target, or with the
/// sources that have the same targets as its source, whichever makes more paths. Names play no part.
fn groups(fault: Fault, paths: &[u64]) -> Vec<Group> {
    let forward: Vec<[u16; 2]> = paths.iter().map(|code| pack(Path::of(*code).ends())).collect();
    let back = |paths: &[[u16; 2]]| paths.iter().map(|[from, to]| [*to, *from]).collect();
    let nodes = forward.iter().flatten().max().map_or(0, |most| usize::from(*most) + 1);
    let by_source = sizes(nodes, &classes(forward.clone()));
    let by_target = sizes(nodes, &classes(back(&forward)));
    let is_of_target = |[source, target]: &[u16; 2]| {
        by_target.get(usize::from(*target)) >= by_source.get(usize::from(*source))
    };
    let (to_targets, from_sources): (Vec<_>, Vec<_>) = forward.into_iter().partition(is_of_target);
    let targets_first = classes(back(&to_targets)).into_iter();
    let sources_first = classes(from_sources).into_iter();
    let sources_first = sources_first.map(|(targets, sources)| (sources, targets));
    let group = |(sources, targets): (Vec<u16>, Vec<u16>)| {
        let all = sources.iter().flat_map(|source| targets.iter().map(move |to| [*source, *to]));
        let path = |ends: [u16; 2]| {
            let begin = Path::first_code(ends);
            let code = *paths.get(paths.partition_point(|code| *code < begin))?;
            Some(Path::of(code)).filter(|path| path.ends() == unpack(ends))
        };
        let cells = all.filter_map(path).flat_map(Path::cells).collect();
        Group { fault, sources, targets, cells, mutual: false }
    };
    targets_first.chain(sources_first).map(group).collect()
}

/// The first nodes of the pairs, united by the sets of their second nodes: each such set with its nodes.
fn classes(mut pairs: Vec<[u16; 2]>) -> BTreeMap<Vec<u16>, Vec<u16>> {
    sort(&mut pairs);
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
    let key = |from: &[u16], to: &[u16]| [from, &[u16::MAX], to].concat();
    let mut places: BTreeMap<Vec<u16>, Vec<u16>> = BTreeMap::new();
    let mut united: Vec<Group> = Vec::new();
    for group in groups {
        let back = places.get(&key(&group.targets, &group.sources)).and_then(|place| place.first());
        match back.and_then(|place| united.get_mut(usize::from(*place))) {
            Some(back) => {
                back.mutual = true;
                back.cells.extend(group.cells.iter());
            }
            None => {
                // At most two for each node.
                let place = u16::try_from(united.len()).unwrap_or(u16::MAX);
                places.insert(key(&group.sources, &group.targets), vec![place]);
                united.push(group);
            }
        }
    }
    united
}

/// The finding without its sentence.
fn finding(group: &Group, cells: Cells) -> Found {
    let mut nodes: Vec<usize> =
        [&group.sources[..], &group.targets[..]].concat().into_iter().map(usize::from).collect();
    sort(&mut nodes);
    nodes.dedup();
    let kind = if group.is_pair() { FindingKind::Pair } else { FindingKind::Group };
    let is_grave = matches!(group.fault, Fault::Down(_));
    Found { kind, is_grave, nodes, cells, text: String::new() }
}

fn sentence(facts: &Facts<'_>, group: &Group, cells: &Cells) -> String {
    let Group { fault, sources, targets, mutual, .. } = group;
    // The one whose names come first.
    let (sources, targets) =
        if *mutual && targets < sources { (targets, sources) } else { (sources, targets) };
    let [sources, targets] =
        [sources, targets].map(|nodes| nodes.iter().copied().map(usize::from).collect::<Vec<_>>());
    let arrow = if *mutual { "↔" } else { "→" };
    let [from, to] = [&sources, &targets].map(|nodes| names(&facts.names, nodes));
    let subject = format!("{from} {arrow} {to}");
    let is_one = group.is_pair();
    let one = (is_one && !*mutual).then_some([from.as_str(), to.as_str()]);
    let rest = match fault {
        Fault::Mtu => {
            let there = sources.iter().flat_map(|from| targets.iter().map(|to| (*from, *to)));
            let back = |(from, to)| [Some((from, to)), mutual.then_some((to, from))];
            let mut paths = there.flat_map(back).flatten();
            return told::mtu(facts, [&subject, ""], is_one, &mut paths);
        }
        Fault::Down(_) => down(facts, group, cells, &to),
        Fault::Flaky(_) => told::flows(facts, cells, one),
        Fault::Slow | Fault::OneWay | Fault::Lossy => String::new(),
    };
    format!("{subject}: {}{rest}", word(facts, *fault, cells))
}

/// What arrives from the target of a pair that is down, and whether the hosts behind the targets live.
fn down(facts: &Facts<'_>, group: &Group, cells: &Cells, to: &str) -> String {
    let arrives = match (group.mutual, &group.sources[..], &group.targets[..]) {
        (false, [source], [target]) => facts.cell(unpack([*source, *target])),
        _ => None,
    };
    let arrives = match arrives.and_then(Cell::incoming) {
        Some(Incoming::Requests) => "requests",
        Some(Incoming::Syns) => "SYNs",
        Some(Incoming::Nothing) | None => "",
    };
    let several = group.mutual || group.targets.len() > 1;
    let is_target = |pair: &Pair| {
        let [_, target] = pack(*pair);
        group.mutual || group.targets.binary_search(&target).is_ok()
    };
    let speaks = told::pods_speak(facts, &mut cells.iter().filter(is_target));
    let host = match told::hosts(facts, &mut cells.iter().filter(is_target)) {
        None => String::new(),
        Some(HostState::Answers) => match (several, speaks) {
            (false, false) => "; its host answers, its pod network does not",
            (false, true) => "; its host answers",
            (true, false) => "; their hosts answer, their pod networks do not",
            (true, true) => "; their hosts answer",
        }
        .to_owned(),
        Some(HostState::Silent) if group.mutual => "; nothing from their hosts".to_owned(),
        Some(HostState::Silent) => {
            format!("; nothing from {to} or {}", if several { "their hosts" } else { "its host" })
        }
    };
    if arrives.is_empty() { host } else { format!("; {arrives} from {to} arrive{host}") }
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
            let worst = shares()
                .max_by_key(|(failures, probes)| (*failures * 1000 / (*probes).max(1), *probes));
            let (failures, probes) = worst.unwrap_or_default();
            let same = shares().all(|share| share == (failures, probes));
            let up_to = if same { "" } else { "up to " };
            format!("flaky ({reason}, {up_to}{failures} of {probes})")
        }
    }
}
