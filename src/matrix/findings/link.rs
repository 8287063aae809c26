//! Nodes whose pairs all share a fault.

use super::facts::{Cells, Facts, Pair};
use super::fault::{Fault, PairFault, Path, is_loss};
use super::found::Found;
use super::text::{Way, form, list, names};
use super::told;
use super::{FindingKind, MIN_LINK, is_most};
use crate::experiment::HostState;
use crate::matrix::Cell;
use crate::probe::FailureReason;

/// Faults that one cause may give to the pairs of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Down,
    Slow,
    OneWay,
    /// Lossy, or flaky by timeouts.
    Loss,
    /// Flaky otherwise.
    Flaky,
    Mtu,
}

impl Class {
    const ALL: [Self; 6] =
        [Self::Down, Self::Slow, Self::OneWay, Self::Loss, Self::Flaky, Self::Mtu];

    fn of(fault: Fault) -> Self {
        match fault {
            Fault::Down(_) => Self::Down,
            Fault::Slow => Self::Slow,
            Fault::OneWay => Self::OneWay,
            loss if is_loss(loss) => Self::Loss,
            Fault::Flaky(_) | Fault::Lossy => Self::Flaky,
            Fault::Mtu => Self::Mtu,
        }
    }
}

/// What is counted at one node.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Pairs with the fault.
    pairs: usize,
    /// With a fault whose direction is known.
    directed: usize,
    outgoing: usize,
    incoming: usize,
}

impl Tally {
    /// Counts the faults of one pair with this node.
    fn count(&mut self, class: Class, node: usize, faults: &[PairFault]) {
        let of_class = || faults.iter().filter(|fault| Class::of(fault.fault) == class);
        // Timeouts tell nothing of the direction in which packets are lost.
        let directed =
            || of_class().filter(|fault| class != Class::Loss || fault.fault == Fault::Lossy);
        let goes = |way: usize| directed().any(|fault| fault.ways_at(node).get(way) == Some(&true));
        self.pairs += 1;
        self.directed += usize::from(directed().next().is_some());
        self.outgoing += usize::from(goes(0));
        self.incoming += usize::from(goes(1));
    }

    fn way(self, class: Class) -> Option<Way> {
        let Self { pairs, directed, outgoing, incoming } = self;
        match class {
            Class::Loss if directed == 0 => Some(Way::Both),
            // Few retransmits leave the direction of some pairs open.
            Class::Loss if incoming * 2 < directed => Some(Way::Outgoing),
            Class::Loss if outgoing * 2 < directed => Some(Way::Incoming),
            Class::Loss => Some(Way::Both),
            _ => match (is_most(outgoing, pairs), is_most(incoming, pairs)) {
                (true, false) => Some(Way::Outgoing),
                (false, true) => Some(Way::Incoming),
                (true, true) => Some(Way::Both),
                (false, false) => None,
            },
        }
    }
}

/// A node whose pairs share a fault.
#[derive(Debug, Clone, Copy)]
struct Link {
    node: usize,
    class: Class,
    way: Way,
    pairs: usize,
    others: usize,
}

/// Finds them; takes the faults that they explain out of the list.
pub(super) fn find_links(
    facts: &mut Facts<'_>,
    active: &[bool],
    faults: &mut Vec<PairFault>,
) -> Vec<Found> {
    let others = others(facts, active);
    let links = links(&others, faults);
    let mut found = Vec::new();
    for class in Class::ALL {
        for way in Way::ALL {
            let of = |link: &&Link| link.class == class && link.way == way;
            let links: Vec<Link> = links.iter().filter(of).copied().collect();
            found.extend(claim(facts, class, &links, faults));
        }
    }
    found
}

/// Of each node, how many others it has a known path to or from.
fn others(facts: &Facts<'_>, active: &[bool]) -> Vec<usize> {
    let mut others = vec![0; facts.size()];
    facts.each_known(active, &mut |(source, target), _| {
        // A pair of two rows counts once.
        if source < target || facts.reaches((target, source)).is_none() {
            for node in [source, target] {
                if let Some(others) = others.get_mut(node) {
                    *others += 1;
                }
            }
        }
    });
    others
}

fn links(others: &[usize], faults: &[PairFault]) -> Vec<Link> {
    let mut tallies = vec![[Tally::default(); Class::ALL.len()]; others.len()];
    for faults in faults.chunk_by(|one, next| one.ends() == next.ends()) {
        let Some((one, other)) = faults.first().map(PairFault::ends) else { continue };
        for (place, class) in faults.iter().map(|fault| Class::of(fault.fault)).enumerate() {
            // Two faults of a pair may have the same class.
            if faults.iter().take(place).any(|fault| Class::of(fault.fault) == class) {
                continue;
            }
            for node in [one, other] {
                let tallies = tallies.get_mut(node);
                if let Some(tally) = tallies.and_then(|all| all.get_mut(class as usize)) {
                    tally.count(class, node, faults);
                }
            }
        }
    }
    let link = |(node, tallies): (usize, &[Tally; Class::ALL.len()])| {
        let others = others.get(node).copied().unwrap_or(0);
        let down = tallies.get(Class::Down as usize).map_or(0, |tally| tally.pairs);
        let link = move |(class, tally): (Class, &Tally)| {
            let pairs = tally.pairs;
            // Of a lossy link, some pairs may be down for a while.
            let affected = if class == Class::Loss { (pairs + down).min(others) } else { pairs };
            let is_it = pairs >= MIN_LINK && pairs * 2 > others && is_most(affected, others);
            let way = tally.way(class).filter(|_| is_it)?;
            Some(Link { node, class, way, pairs, others })
        };
        Class::ALL.into_iter().zip(tallies).filter_map(link).collect::<Vec<_>>()
    };
    tallies.iter().enumerate().flat_map(link).collect()
}

fn claim(
    facts: &mut Facts<'_>,
    class: Class,
    links: &[Link],
    faults: &mut Vec<PairFault>,
) -> Option<Found> {
    let way = links.first()?.way;
    let nodes: Vec<usize> = links.iter().map(|link| link.node).collect();
    let fits = |fault: &PairFault| {
        let (one, other) = fault.ends();
        let fits_at = |node: usize| {
            let [outgoing, incoming] = fault.ways_at(node);
            match way {
                _ if class == Class::Loss => true,
                Way::Both => true,
                Way::Outgoing => outgoing && !incoming,
                Way::Incoming => incoming && !outgoing,
            }
        };
        let is_link = |node: &usize| nodes.binary_search(node).is_ok();
        Class::of(fault.fault) == class && [one, other].into_iter().filter(is_link).any(fits_at)
    };
    let (taken, left): (Vec<_>, Vec<_>) = std::mem::take(faults).into_iter().partition(fits);
    *faults = left;
    let cells = facts.explain(&mut taken.iter().flat_map(PairFault::cells));
    if cells.is_empty() {
        return None;
    }
    let names = names(&facts.names, &nodes);
    let subject =
        if nodes.len() == 1 { format!("{names}'s link") } else { format!("the links of {names}") };
    let least = links.iter().map(|link| link.pairs).min().unwrap_or(0);
    let others = links.iter().map(|link| link.others).max().unwrap_or(0);
    let with = if links.iter().all(|link| link.pairs == link.others) {
        if others == 2 { "both others".to_owned() } else { format!("all {others} others") }
    } else {
        format!("{} {least} of {others} others", form(&nodes, "", "at least")).trim().to_owned()
    };
    let scope = format!(" with {with}, {way}");
    let text = if class == Class::Mtu {
        let mut paths = taken.iter().flat_map(PairFault::paths).map(Path::ends);
        told::mtu(facts, [&subject, &scope], nodes.len() == 1, &mut paths)
    } else {
        let word = word(class, taken.iter().map(|fault| fault_of(facts, fault)));
        let rest = match class {
            Class::Down => hosts(facts, &nodes, way, &cells).to_owned(),
            Class::Loss | Class::Flaky if word.starts_with("flaky") => {
                told::flows(facts, &cells, None)
            }
            _ => String::new(),
        };
        format!("{subject}: {word}{scope}{rest}")
    };
    let is_grave = class == Class::Down;
    Some(Found { kind: FindingKind::Link, is_grave, nodes, cells, text })
}

/// Whether the hosts live: of these nodes; of the others, where what these nodes send is lost.
fn hosts(facts: &Facts<'_>, nodes: &[usize], way: Way, cells: &Cells) -> &'static str {
    let is_link = |node: &usize| nodes.binary_search(node).is_ok();
    let is_told = |pair: &Pair| is_link(&pair.1) != (way == Way::Outgoing);
    let state = told::hosts(facts, &mut cells.iter().filter(is_told));
    match (state, way) {
        (None, _) => "",
        (Some(HostState::Answers), Way::Outgoing) => "; the hosts of the others answer",
        (Some(HostState::Silent), Way::Outgoing) => "; nothing from the hosts of the others",
        (Some(HostState::Answers), _) => form(nodes, "; its host answers", "; their hosts answer"),
        (Some(HostState::Silent), _) => {
            form(nodes, "; nothing from its host", "; nothing from their hosts")
        }
    }
}

/// The fault for the word of a link: where so much is lost that probes fail too, the loss is the cause.
fn fault_of(facts: &Facts<'_>, fault: &PairFault) -> Fault {
    let shows_loss = |pair| facts.cell(pair).is_some_and(Cell::shows_loss);
    if is_loss(fault.fault) && fault.cells().any(shows_loss) { Fault::Lossy } else { fault.fault }
}

/// The word for faults of one class.
fn word(class: Class, faults: impl Iterator<Item = Fault>) -> String {
    let (mut reasons, mut lossy, mut flaky) = (Vec::new(), 0, 0);
    for fault in faults {
        match fault {
            Fault::Down(reason) => reasons.push(reason),
            Fault::Flaky(reason) => {
                reasons.push(reason);
                flaky += 1;
            }
            Fault::Lossy => lossy += 1,
            Fault::Slow | Fault::OneWay | Fault::Mtu => {}
        }
    }
    let reasons = FailureReason::ALL.into_iter().filter(|reason| reasons.contains(reason));
    let reasons: Vec<&str> = reasons.map(FailureReason::as_str).collect();
    let reasons = list(&reasons);
    match class {
        Class::Down => format!("down ({reasons})"),
        Class::Slow => "slower than WYLIS_TIMEOUT".to_owned(),
        Class::OneWay => "one-way".to_owned(),
        Class::Loss if lossy >= flaky => "lossy".to_owned(),
        Class::Loss | Class::Flaky => format!("flaky ({reasons})"),
        Class::Mtu => "mtu".to_owned(),
    }
}
