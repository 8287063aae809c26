//! When each peer is due. Pure: it takes `now`, offers the next deadline, and never waits.
//!
//! Each peer has a fixed offset in the interval, from a stable hash of (source, target), so that
//! agents that start together do not probe together, and the load on a target is even.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::name::NodeName;

/// A new peer is probed within this time, however long the interval is.
pub const NEW_PEER_WITHIN: Duration = Duration::from_secs(2);

/// The slots of all peers.
pub struct Schedule {
    source: NodeName,
    interval: Duration,
    /// Start of an interval; offsets count from it.
    epoch: Instant,
    entries: HashMap<NodeName, Entry>,
    /// The next slot of each peer that is not paused.
    queue: BTreeSet<(Instant, NodeName)>,
}

struct Entry {
    slot: Option<Instant>,
    in_flight: bool,
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
    /// A schedule without peers. `epoch` is the start of any interval.
    #[must_use]
    pub fn new(source: NodeName, interval: Duration, epoch: Instant) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        Self { source, interval, epoch, entries: HashMap::new(), queue: BTreeSet::new() }
    }

    /// Adds a peer: due within [`NEW_PEER_WITHIN`], then at its offset. A known peer is added anew, as
    /// after a move: a probe in flight to its old address does not delay it.
    pub fn join(&mut self, now: Instant, node: &NodeName) {
        self.leave(node);
        self.enter(now, node, false);
    }

    /// Resumes a paused peer as if it had joined; a probe in flight to it still counts.
    pub fn resume(&mut self, now: Instant, node: &NodeName) {
        let in_flight = self.entries.get(node).is_some_and(|entry| entry.in_flight);
        self.leave(node);
        self.enter(now, node, in_flight);
    }

    fn enter(&mut self, now: Instant, node: &NodeName, in_flight: bool) {
        let within = NEW_PEER_WITHIN.min(self.interval);
        let slot = now + self.source.share(node, within);
        self.queue.insert((slot, node.clone()));
        self.entries.insert(node.clone(), Entry { slot: Some(slot), in_flight });
    }

    /// Removes a peer.
    pub fn leave(&mut self, node: &NodeName) {
        self.pause(node);
        self.entries.remove(node);
    }

    /// Removes a peer's slots until it is resumed or joins again.
    pub fn pause(&mut self, node: &NodeName) {
        if let Some(slot) = self.entries.get_mut(node).and_then(|entry| entry.slot.take()) {
            self.queue.remove(&(slot, node.clone()));
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

    /// Takes every slot up to `now`, and schedules the next one of each of those peers.
    pub fn take_due(&mut self, now: Instant) -> DueProbes {
        let mut taken = DueProbes::default();
        while self.next_deadline().is_some_and(|due| due <= now)
            && let Some((due, node)) = self.queue.pop_first()
        {
            let earliest = self.first_slot_after(due + self.interval / 10, &node);
            let slot = earliest.max(self.first_slot_after(now, &node));
            taken.skipped += u64::from(times(slot - earliest, self.interval));
            let Some(entry) = self.entries.get_mut(&node) else { continue };
            entry.slot = Some(slot);
            self.queue.insert((slot, node.clone()));
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

    /// The peer's first slot after `after`.
    fn first_slot_after(&self, after: Instant, node: &NodeName) -> Instant {
        let first = self.epoch + self.source.share(node, self.interval);
        match after.checked_duration_since(first) {
            None => first,
            Some(since) => first + self.interval * times(since, self.interval).saturating_add(1),
        }
    }
}

/// Number of whole `part`s in `span`.
fn times(span: Duration, part: Duration) -> u32 {
    u32::try_from(span.as_nanos() / part.as_nanos().max(1)).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests;
