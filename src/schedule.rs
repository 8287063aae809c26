//! When each peer is due. Pure: it takes `now`, offers the next deadline, and never waits.
//!
//! Each peer has a fixed offset in the interval, from a stable hash of (source, target), so that
//! agents that start together do not probe together, and the load on a target is even.

use std::collections::{BTreeMap, HashMap};
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
    /// Peers by the time of their next slot; the number distinguishes equal times.
    queue: BTreeMap<(Instant, u64), NodeName>,
    next_number: u64,
}

struct Entry {
    slot: Option<(Instant, u64)>,
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
        Self {
            source,
            interval,
            epoch,
            entries: HashMap::new(),
            queue: BTreeMap::new(),
            next_number: 0,
        }
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
        let slot = self.enqueue(now + self.source.share(node, within), node);
        self.entries.insert(node.clone(), Entry { slot: Some(slot), in_flight });
    }

    /// Removes a peer.
    pub fn leave(&mut self, node: &NodeName) {
        if let Some(Entry { slot: Some(slot), .. }) = self.entries.remove(node) {
            self.queue.remove(&slot);
        }
    }

    /// Removes a peer's slots until it is resumed or joins again.
    pub fn pause(&mut self, node: &NodeName) {
        if let Some(slot) = self.entries.get_mut(node).and_then(|entry| entry.slot.take()) {
            self.queue.remove(&slot);
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
        while let Some((&(due, number), _)) =
            self.queue.first_key_value().filter(|(k, _)| k.0 <= now)
        {
            let Some(node) = self.queue.remove(&(due, number)) else { break };
            let next = self.first_slot_after(due + self.interval / 10, &node);
            let (next, missed) = self.skip_missed(next, now);
            taken.skipped += missed;
            let slot = self.enqueue(next, &node);
            let Some(entry) = self.entries.get_mut(&node) else { continue };
            entry.slot = Some(slot);
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
        self.queue.first_key_value().map(|(&(due, _), _)| due)
    }

    fn enqueue(&mut self, due: Instant, node: &NodeName) -> (Instant, u64) {
        let slot = (due, self.next_number);
        self.next_number += 1;
        self.queue.insert(slot, node.clone());
        slot
    }

    /// The peer's first slot after `after`.
    fn first_slot_after(&self, after: Instant, node: &NodeName) -> Instant {
        let first = self.epoch + self.source.share(node, self.interval);
        match after.checked_duration_since(first) {
            None => first,
            Some(since) => first + self.interval * times(since, self.interval).saturating_add(1),
        }
    }

    /// `slot`, or its first successor after `now`; and the number of slots skipped.
    fn skip_missed(&self, slot: Instant, now: Instant) -> (Instant, u64) {
        match now.checked_duration_since(slot) {
            None => (slot, 0),
            Some(late) => {
                let missed = times(late, self.interval).saturating_add(1);
                (slot + self.interval * missed, u64::from(missed))
            }
        }
    }
}

/// Number of whole `part`s in `span`.
fn times(span: Duration, part: Duration) -> u32 {
    u32::try_from(span.as_nanos() / part.as_nanos().max(1)).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests;
