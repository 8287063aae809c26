//! The faults of single pairs, each from the cells of both ends, with its direction.

use super::ONE_SIDED;
use super::facts::{Facts, Pair, pack, unpack};
use crate::matrix::Cell;
use crate::probe::FailureReason;
use crate::state::{Direction, Incoming, Verdict};

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    Down(FailureReason),
    /// Down, since the round trip takes too long for the timeout.
    Slow,
    /// Requests no longer arrive, although those of the other direction are answered.
    OneWay,
    Flaky(FailureReason),
    Lossy,
    Mtu,
}

impl Fault {
    /// The fault that a cell tells of.
    pub(super) fn of(cell: &Cell) -> Option<Self> {
        match cell.verdict() {
            Verdict::Unknown | Verdict::Draining | Verdict::Up => None,
            Verdict::Down(FailureReason::ResponseTimeout) if cell.is_slow() => Some(Self::Slow),
            Verdict::Down(reason) => Some(Self::Down(reason)),
            Verdict::OneWay => Some(Self::OneWay),
            Verdict::Flaky(reason) => Some(Self::Flaky(reason)),
            Verdict::Lossy => Some(Self::Lossy),
            Verdict::Mtu(_) => Some(Self::Mtu),
        }
    }
}

/// Whether loss of packets causes it.
pub(super) fn is_loss(fault: Fault) -> bool {
    use FailureReason::{ConnectTimeout, ResponseTimeout};
    matches!(fault, Fault::Lossy | Fault::Flaky(ConnectTimeout | ResponseTimeout))
}

/// One fault between two nodes. Both of their cells may tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PairFault {
    pub(super) fault: Fault,
    /// The nodes; which one comes first means nothing.
    ends: [u16; 2],
    /// Whether the path from the first to the second is at fault, and the way back.
    ways: [bool; 2],
    /// Whether the cell of the first on the second tells of it, and that of the second on the first.
    cells: [bool; 2],
}

impl PairFault {
    pub(super) fn ends(&self) -> Pair {
        unpack(self.ends)
    }

    /// The paths at fault.
    pub(super) fn paths(&self) -> impl Iterator<Item = Path> + use<> {
        let ([there, back], [first, second]) = (self.ways, self.cells);
        let [one, other] = self.ends;
        // A cell belongs to the path on which its source probes, if that is at fault.
        let path = |is: bool, ends, cells| is.then_some(Path { ends, cells });
        let outgoing = path(there, [one, other], [first, second && !back]);
        let incoming = path(back, [other, one], [second, first && !there]);
        outgoing.into_iter().chain(incoming)
    }

    /// All cells that tell of it.
    pub(super) fn cells(&self) -> impl Iterator<Item = Pair> + use<> {
        let ((one, other), [first, second]) = (self.ends(), self.cells);
        let first = first.then_some((one, other));
        first.into_iter().chain(second.then_some((other, one)))
    }

    /// Whether it concerns the way from this node, and the way to it.
    pub(super) fn ways_at(&self, node: usize) -> [bool; 2] {
        let [there, back] = self.ways;
        if self.ends().0 == node { [there, back] } else { [back, there] }
    }
}

/// A path at fault, from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path {
    ends: [u16; 2],
    /// Whether the cell of the source on the target tells of it, and that of the target on the source.
    cells: [bool; 2],
}

impl Path {
    /// The path as a number, which orders paths by source and target.
    pub(super) fn code(self) -> u64 {
        let [there, back] = self.cells.map(u64::from);
        Self::first_code(self.ends) | (there << 1) | back
    }

    /// The least number of a path between these nodes.
    pub(super) fn first_code([source, target]: [u16; 2]) -> u64 {
        (u64::from(source) << 18) | (u64::from(target) << 2)
    }

    /// The path of a number.
    pub(super) fn of(code: u64) -> Self {
        let place = |shift: u32| u16::try_from((code >> shift) & 0xffff).unwrap_or_default();
        Self { ends: [place(18), place(2)], cells: [code & 2 != 0, code & 1 != 0] }
    }

    /// Its source and its target.
    pub(super) fn ends(self) -> Pair {
        unpack(self.ends)
    }

    /// The cells that tell of it.
    pub(super) fn cells(self) -> impl Iterator<Item = Pair> {
        let ((source, target), [there, back]) = (self.ends(), self.cells);
        let there = there.then_some((source, target));
        there.into_iter().chain(back.then_some((target, source)))
    }
}

/// The faults that no finding explains yet, each once.
pub(super) fn all(facts: &Facts<'_>) -> Vec<PairFault> {
    let mut faults = Vec::new();
    for source in facts.sources().iter().copied() {
        for target in facts.open_targets(source) {
            let (there, back) = (facts.open((source, target)), facts.open((target, source)));
            // Otherwise the pair comes a second time, from its other end.
            if source < target || back.is_none() {
                add(&mut faults, facts, (source, target), there, back);
            }
        }
    }
    faults
}

fn add(
    faults: &mut Vec<PairFault>,
    facts: &Facts<'_>,
    (one, other): Pair,
    there: Option<&Cell>,
    back: Option<&Cell>,
) {
    let ends = pack((one, other));
    let mut push = |fault, ways, cells| {
        faults.push(PairFault { fault, ends, ways, cells });
    };
    let tells = [there.and_then(Fault::of), back.and_then(Fault::of)];
    let known = [facts.cell((one, other)), facts.cell((other, one))];
    match tells {
        [Some(first), Some(second)] => match same(first, second, known) {
            Some((fault, ways)) => push(fault, ways, [true; 2]),
            None => {
                push(first, ways_of(first, known), [true, false]);
                push(second, flip(ways_of(second, flip(known))), [false, true]);
            }
        },
        [Some(fault), None] => push(fault, ways_of(fault, known), [true, false]),
        [None, Some(fault)] => {
            push(fault, flip(ways_of(fault, flip(known))), [false, true]);
        }
        [None, None] => {}
    }
}

fn flip<T>([one, other]: [T; 2]) -> [T; 2] {
    [other, one]
}

/// The one fault of which both cells tell, with its ways; `None` if they tell of two.
fn same(first: Fault, second: Fault, known: [Option<&Cell>; 2]) -> Option<(Fault, [bool; 2])> {
    let arrives = |cell: Option<&Cell>| {
        cell.and_then(Cell::incoming).is_some_and(|incoming| incoming != Incoming::Nothing)
    };
    match (first, second) {
        // The requests that are missing there are those that fail here.
        (Fault::Down(_) | Fault::Slow, Fault::OneWay) => Some((first, [true, false])),
        (Fault::OneWay, Fault::Down(_) | Fault::Slow) => Some((second, [false, true])),
        // What arrives at one end alone, its answers being lost, shows which way is broken.
        (Fault::Down(_), Fault::Down(_)) => match known.map(arrives) {
            [true, false] => Some((first, [true, false])),
            [false, true] => Some((second, [false, true])),
            _ => (first == second).then_some((first, [true; 2])),
        },
        (Fault::Lossy, Fault::Lossy) => Some((first, loss(known))),
        (Fault::Mtu, Fault::Mtu) => Some((first, mtu(known))),
        _ => (first == second).then_some((first, [true; 2])),
    }
}

/// The ways of a fault of which the first cell tells.
fn ways_of(fault: Fault, known: [Option<&Cell>; 2]) -> [bool; 2] {
    match fault {
        Fault::Down(_) | Fault::Slow | Fault::Flaky(_) => [true, false],
        Fault::OneWay => [false, true],
        // The other end's verdict may be about another fault; its counters still count.
        Fault::Lossy => loss(known),
        Fault::Mtu => mtu([known.first().copied().flatten(), None]),
    }
}

/// The ways that lose packets, from the retransmits at both ends. What comes in needs a retransmit when
/// packets of this end are lost, since it repeats the SYN-ACK or the answer. A probe needs one when
/// either way loses its packet; what the other end had to repeat is the way back.
fn loss([first, second]: [Option<&Cell>; 2]) -> [bool; 2] {
    // What completes handshakes acknowledges answers too. Where that is lost, the other end repeats them.
    if [first, second].into_iter().flatten().any(Cell::is_intercepted) {
        return [true; 2];
    }
    let own = |cell: Option<&Cell>| cell.map_or(0, Cell::recent_retransmits);
    let answers = |cell: Option<&Cell>| cell.map_or(0, Cell::incoming_retransmits);
    let evidence = |from: Option<&Cell>, to: Option<&Cell>| {
        u32::from(answers(from)) + u32::from(own(from).saturating_sub(answers(to)))
    };
    let (there, back) = (evidence(first, second), evidence(second, first));
    if there == 0 && back == 0 {
        // Nothing but the verdicts.
        let is_lossy =
            |cell: Option<&Cell>| cell.is_some_and(|cell| cell.verdict() == Verdict::Lossy);
        return [is_lossy(first), is_lossy(second)];
    }
    [there * ONE_SIDED > back, back * ONE_SIDED > there]
}

/// The ways that drop large packets.
fn mtu([first, second]: [Option<&Cell>; 2]) -> [bool; 2] {
    let of = |cell: Option<&Cell>| match cell.map(Cell::verdict) {
        Some(Verdict::Mtu(Direction::Outgoing)) => [true, false],
        Some(Verdict::Mtu(Direction::Incoming)) => [false, true],
        Some(Verdict::Mtu(Direction::Both)) => [true; 2],
        _ => [false; 2],
    };
    let ([there, back], [back_too, there_too]) = (of(first), of(second));
    [there || there_too, back || back_too]
}
