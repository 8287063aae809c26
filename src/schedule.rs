//! When each peer is due. Pure: it takes `now`, offers the next deadline, and never waits.
//!
//! The gap to the next slot is drawn anew each time, from [`SHORTEST_GAP`] of the interval to all of it. A
//! fault that comes and goes with the interval's own period therefore meets every pair, whatever its phase.
//! Agents that start together do not probe together: the first slot of a peer is spread by a stable hash of
//! (source, target), and the gap after it by a wider draw.
//!
//! **The bound.** Two slots of a peer are at most one interval apart, so its path is never idle for longer
//! (beside the time by which the caller is late). More precisely: after [`Schedule::take_due`] at `now`, the
//! next slot of each peer comes within one interval of `now`; a peer that is added anew or resumed keeps a
//! slot that would have come earlier; and a slot that is skipped, because a probe is still in flight or the
//! caller was late, moves no later one. Only a pause is longer, by as much as it lasts.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::name::NodeName;
use crate::random::Random;

/// A new peer is probed within this time, however long the interval is.
pub const NEW_PEER_WITHIN: Duration = Duration::from_secs(2);

/// The shortest gap between two slots, as a share of the interval. In ten slots, a pair crosses a whole
/// interval's worth of phases in steps of at most a fifth of it; a wider range would cost more probes.
pub const SHORTEST_GAP: f64 = 0.8;
/// The mean gap, which determines what probes cost.
pub const MEAN_GAP: f64 = f64::midpoint(SHORTEST_GAP, 1.0);
/// The shortest gap after a first slot, which peers that joined together share to two seconds, and after
/// slots that were missed together: wide enough to spread them over the interval.
const SPREADING_GAP: f64 = 0.1;

/// The slots of all peers.
pub struct Schedule {
    source: NodeName,
    interval: Duration,
    random: Random,
    entries: HashMap<NodeName, Entry>,
    /// The next slot of each peer that is not paused.
    queue: BTreeSet<(Instant, NodeName)>,
}

struct Entry {
    /// The next slot; of a paused peer, the one that was next.
    slot: Instant,
    is_paused: bool,
    in_flight: bool,
    /// No slot has come since the peer was added or resumed.
    is_new: bool,
}

/// A slot that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueProbe {
    /// The peer to probe.
    pub node: NodeName,
    /// The time of the slot.
    pub due: Instant,
}

/// The result of [`Schedule::take_due`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DueProbes {
    /// Probes to start now; each is in flight until [`Schedule::finished`].
    pub due: Vec<DueProbe>,
    /// Slots without a probe: the previous probe was still in flight, or the caller was late.
    pub skipped: u64,
}

impl Schedule {
    /// A schedule without peers. `interval` is the longest gap between two slots of a peer.
    #[must_use]
    pub fn new(source: NodeName, interval: Duration, random: Random) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        Self { source, interval, random, entries: HashMap::new(), queue: BTreeSet::new() }
    }

    /// Adds a peer: due within [`NEW_PEER_WITHIN`]. A known peer is added anew, as after a move: a probe in
    /// flight to its old address does not delay it.
    pub fn join(&mut self, now: Instant, node: &NodeName) {
        self.enter(now, node, false);
    }

    /// Resumes a paused peer as if it had joined; a probe in flight to it still counts.
    pub fn resume(&mut self, now: Instant, node: &NodeName) {
        let in_flight = self.entries.get(node).is_some_and(|entry| entry.in_flight);
        self.enter(now, node, in_flight);
    }

    fn enter(&mut self, now: Instant, node: &NodeName, in_flight: bool) {
        let within = NEW_PEER_WITHIN.min(self.interval);
        let soon = now + self.source.share(node, within);
        // A slot that passed during a pause is not made up for.
        let known = self.entries.get(node).filter(|entry| !entry.is_paused || entry.slot > now);
        let slot = known.map_or(soon, |entry| entry.slot.min(soon));
        self.leave(node);
        self.queue.insert((slot, node.clone()));
        let entry = Entry { slot, is_paused: false, in_flight, is_new: true };
        self.entries.insert(node.clone(), entry);
    }

    /// Removes a peer.
    pub fn leave(&mut self, node: &NodeName) {
        self.pause(node);
        self.entries.remove(node);
    }

    /// Removes a peer's slots until it is resumed or joins again.
    pub fn pause(&mut self, node: &NodeName) {
        if let Some(entry) = self.entries.get_mut(node) {
            entry.is_paused = true;
            self.queue.remove(&(entry.slot, node.clone()));
        }
    }

    /// Records that a probe of a peer started outside its slots.
    pub fn started(&mut self, node: &NodeName) {
        if let Some(entry) = self.entries.get_mut(node) {
            entry.in_flight = true;
        }
    }

    /// Records that the probe of a peer ended.
    pub fn finished(&mut self, node: &NodeName) {
        if let Some(entry) = self.entries.get_mut(node) {
            entry.in_flight = false;
        }
    }

    /// Takes every slot up to `now`, and draws the next one of each of those peers.
    pub fn take_due(&mut self, now: Instant) -> DueProbes {
        let mut taken = DueProbes::default();
        while self.next_deadline().is_some_and(|due| due <= now)
            && let Some((due, node)) = self.queue.pop_first()
        {
            let Some(entry) = self.entries.get_mut(&node) else { continue };
            let is_new = std::mem::take(&mut entry.is_new);
            let shortest = if is_new { SPREADING_GAP } else { SHORTEST_GAP };
            let mut gap =
                |shortest: f64| self.random.between(self.interval.mul_f64(shortest), self.interval);
            entry.slot = due + gap(shortest);
            if entry.slot <= now {
                let missed = times(now - entry.slot, self.interval.mul_f64(MEAN_GAP));
                taken.skipped += u64::from(missed) + 1;
                entry.slot = now + gap(SPREADING_GAP);
            }
            self.queue.insert((entry.slot, node.clone()));
            if entry.in_flight {
                taken.skipped += 1;
            } else {
                entry.in_flight = true;
                taken.due.push(DueProbe { node, due });
            }
        }
        taken
    }

    /// The time of the next slot.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }
}

/// Number of whole `part`s in `span`.
fn times(span: Duration, part: Duration) -> u32 {
    u32::try_from(span.as_nanos() / part.as_nanos().max(1)).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests;
