//! When each peer is due. Pure: it takes `now`, offers the next deadline, and waits for nothing.
//!
//! Each peer has a fixed phase within the interval, from a stable hash of (source, target): agents
//! that start together do not probe together, and a receiver is loaded evenly.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::name::NodeName;

/// A new peer is probed within this time, however long the interval is.
pub const NEW_PEER_WITHIN: Duration = Duration::from_secs(2);

/// The slots of all peers.
pub struct Schedule {
    source: NodeName,
    interval: Duration,
    /// A moment at which phase zero fell; phases count from it.
    epoch: Instant,
    entries: HashMap<NodeName, Entry>,
    /// Peers by the time of their next slot; the number keeps equal times apart.
    queue: BTreeMap<(Instant, u64), NodeName>,
    next_number: u64,
}

struct Entry {
    slot: Option<(Instant, u64)>,
    in_flight: bool,
}

/// A slot whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueProbe {
    /// The peer to probe.
    pub node: NodeName,
    /// When the slot was.
    pub due: Instant,
}

/// What [`Schedule::take_due`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DueProbes {
    /// Probes to start now; each is in flight until [`Schedule::finished`].
    pub due: Vec<DueProbe>,
    /// Slots that passed unused: the probe before was still in flight, or we came too late.
    pub skipped: u64,
}

impl Schedule {
    /// A schedule without peers. `epoch` is any moment at which phase zero fell.
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

    /// Adds a peer: due within [`NEW_PEER_WITHIN`], then in its phase. A peer that is known already
    /// begins anew, as one that moved does: a probe in flight to its old place holds nothing up.
    pub fn join(&mut self, now: Instant, node: &NodeName) {
        self.leave(node);
        self.enter(now, node, false);
    }

    /// Brings back a peer that was paused, as if it had joined; a probe in flight to it goes on.
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

    /// Takes a peer's slots away until it joins again; it stays known.
    pub fn pause(&mut self, node: &NodeName) {
        if let Some(slot) = self.entries.get_mut(node).and_then(|entry| entry.slot.take()) {
            self.queue.remove(&slot);
        }
    }

    /// A probe of a peer was begun beside its slots.
    pub fn started(&mut self, node: &NodeName) {
        if let Some(entry) = self.entries.get_mut(node) {
            entry.in_flight = true;
        }
    }

    /// The probe of a peer ended.
    pub fn finished(&mut self, node: &NodeName) {
        if let Some(entry) = self.entries.get_mut(node) {
            entry.in_flight = false;
        }
    }

    /// Takes every slot up to `now`, and gives each of those peers its next one.
    pub fn take_due(&mut self, now: Instant) -> DueProbes {
        let mut taken = DueProbes::default();
        while let Some((&(due, number), _)) =
            self.queue.first_key_value().filter(|(k, _)| k.0 <= now)
        {
            let Some(node) = self.queue.remove(&(due, number)) else { break };
            let next = self.slot_after(due + self.interval / 10, &node);
            let (next, missed) = self.first_slot_after(next, now);
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

    /// When the next slot is; `None` without one.
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

    /// The first moment after `after` that lies in the peer's phase.
    fn slot_after(&self, after: Instant, node: &NodeName) -> Instant {
        let first = self.epoch + self.source.share(node, self.interval);
        match after.checked_duration_since(first) {
            None => first,
            Some(since) => first + self.interval * times(since, self.interval).saturating_add(1),
        }
    }

    /// `slot` or its first successor after `now`, and how many slots lie between.
    fn first_slot_after(&self, slot: Instant, now: Instant) -> (Instant, u64) {
        match now.checked_duration_since(slot) {
            None => (slot, 0),
            Some(late) => {
                let missed = times(late, self.interval).saturating_add(1);
                (slot + self.interval * missed, u64::from(missed))
            }
        }
    }
}

/// How often `part` fits into `span`.
fn times(span: Duration, part: Duration) -> u32 {
    u32::try_from(span.as_nanos() / part.as_nanos().max(1)).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests;
