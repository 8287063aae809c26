//! What experiments add to the sentences: the largest packet, flows that never get through, and whether the hosts
//! behind the pods live. Only what the rows say; where they contradict each other, one sign of life proves life.

use super::MIN_WITNESSES;
use super::facts::{Cells, Facts, Pair, pack, unpack};
use crate::experiment::{DeadFlows, Detail, HostState, LargestPacket};
use crate::matrix::Cell;
use crate::probe::FailureReason;
use crate::sort::sort;
use crate::state::{Direction, Incoming, Verdict};

/// What to do about the largest packet.
const SET: &str = "set the MTU of the pod network to that or less";
/// Where flows that never get through end.
const LOOK: &str = "look for a dead member of a bundle, a dead queue or a stale conntrack entry";

/// The sentence on paths that lose large packets. The scope follows the figure, or the word without one.
pub(super) fn mtu(
    facts: &Facts<'_>,
    [subject, scope]: [&str; 2],
    is_one: bool,
    paths: &mut dyn Iterator<Item = Pair>,
) -> String {
    let [carries, loses] = if is_one { ["carries", "loses"] } else { ["carry", "lose"] };
    match largest(facts, paths) {
        None => format!("{subject}: mtu{scope}"),
        Some((largest, true)) if largest.is_exact => {
            format!("{subject} {carries} packets up to {largest}{scope}; {SET}")
        }
        Some((largest, false)) if largest.is_exact => format!(
            "{subject}: mtu{scope}; the narrowest known path carries packets up to {largest}; {SET}"
        ),
        Some((largest, _)) => {
            format!("{subject} {carries} packets of {largest}{scope}, and {loses} full-size ones")
        }
    }
}

/// The largest packet that all of these paths carry, and whether that of each is known and the same. A lower bound
/// needs all of them.
fn largest(
    facts: &Facts<'_>,
    paths: &mut dyn Iterator<Item = Pair>,
) -> Option<(LargestPacket, bool)> {
    let (mut all, mut is_same, mut is_known): (Option<LargestPacket>, _, _) = (None, true, true);
    for path in paths {
        match of_path(facts, path) {
            Some(known) => {
                is_same &= all.is_none_or(|all| all == known);
                all = Some(all.map_or(known, |all| all.and(known)));
            }
            None => is_known = false,
        }
    }
    let all = all.filter(|all| all.is_exact || is_known)?;
    Some((all, is_same && is_known))
}

/// The largest packet of one path, from the cells of both ends.
fn of_path(facts: &Facts<'_>, (source, target): Pair) -> Option<LargestPacket> {
    let of = |pair: Pair, way: Direction| {
        let cell = facts.cell(pair)?;
        let tells = cell.verdict().direction().filter(|told| [way, Direction::Both].contains(told));
        match (tells, cell.detail()) {
            (Some(_), Some(Detail::Largest(largest))) => Some(largest),
            _ => None,
        }
    };
    let ends =
        [of((source, target), Direction::Outgoing), of((target, source), Direction::Incoming)];
    ends.into_iter().flatten().reduce(LargestPacket::and)
}

/// Flows that never get through, the largest share of these cells; with the path if it is one.
pub(super) fn flows(facts: &Facts<'_>, cells: &Cells, path: Option<[&str; 2]>) -> String {
    let of = |pair| match facts.cell(pair).and_then(Cell::detail) {
        Some(Detail::Flows(flows)) => Some(flows),
        _ => None,
    };
    let share = |flows: &DeadFlows| {
        (u32::from(flows.dead) * 1000 / u32::from(flows.flows.max(1)), flows.flows)
    };
    let Some(worst) = cells.iter().filter_map(of).max_by_key(share) else { return String::new() };
    match path {
        Some([from, to]) => {
            let DeadFlows { dead, flows } = worst;
            let s = if dead == 1 { "s" } else { "" };
            format!(": {dead} of {flows} flows from {from} to {to} never get{s} through; {LOOK}")
        }
        None => {
            let same = cells.iter().all(|pair| of(pair) == Some(worst));
            format!("; {}{worst}; {LOOK}", if same { "" } else { "up to " })
        }
    }
}

/// What is known of the hosts of all targets that these cells call down: each of the hosts answers a source, or none
/// does, nothing comes from the pods either, and some of the sources would know.
pub(super) fn hosts(facts: &Facts<'_>, cells: &mut dyn Iterator<Item = Pair>) -> Option<HostState> {
    let is_down = |pair: &Pair| {
        facts.cell(*pair).is_some_and(|cell| matches!(cell.verdict(), Verdict::Down(_)))
    };
    let cells = cells.filter(is_down);
    let mut cells: Vec<[u16; 2]> = cells.map(|(source, target)| pack((target, source))).collect();
    sort(&mut cells);
    let mut all = None;
    for cells in cells.chunk_by(|one, next| one.first() == next.first()) {
        let mut known = Target::default();
        for [target, source] in cells {
            known.add(facts.cell(unpack([*source, *target]))?)?;
        }
        let state = known.state()?;
        if *all.get_or_insert(state) != state {
            return None;
        }
    }
    all
}

/// Whether something of the pods that these cells call down comes in, so that their network is not silent.
pub(super) fn pods_speak(facts: &Facts<'_>, cells: &mut dyn Iterator<Item = Pair>) -> bool {
    let incoming = |pair: Pair| facts.cell(pair)?.incoming();
    cells.filter_map(incoming).any(|incoming| incoming != Incoming::Nothing)
}

/// What rows say of the host of one target.
#[derive(Debug, Clone, Copy, Default)]
struct Target {
    cells: usize,
    /// To one source at least.
    answers: bool,
    /// So many sources that it answered before hear nothing.
    silent: usize,
    /// Something comes in from its pod.
    speaks: bool,
}

impl Target {
    /// Adds what one source says; `None` if that is a word of the pod, or of something in its place.
    fn add(&mut self, cell: &Cell) -> Option<()> {
        use FailureReason::{ConnectTimeout, Unreachable};
        let Verdict::Down(ConnectTimeout | Unreachable) = cell.verdict() else { return None };
        self.cells += 1;
        match cell.detail() {
            Some(Detail::Host(HostState::Answers)) => self.answers = true,
            Some(Detail::Host(HostState::Silent)) => self.silent += 1,
            _ => {}
        }
        self.speaks |= cell.incoming().is_some_and(|incoming| incoming != Incoming::Nothing);
        Some(())
    }

    fn state(self) -> Option<HostState> {
        match self {
            Self { answers: true, .. } => Some(HostState::Answers),
            Self { cells, silent, speaks: false, .. } if silent >= cells.min(MIN_WITNESSES) => {
                Some(HostState::Silent)
            }
            _ => None,
        }
    }
}
