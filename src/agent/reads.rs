//! Which peers this agent reads documents of just now, and which one it must not: a peer that rests for a survey.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::name::NodeName;

/// Reads under way.
#[derive(Default)]
pub(super) struct Reads(Mutex<State>);

#[derive(Default)]
struct State {
    resting: Option<NodeName>,
    /// As many as there are connections.
    reading: Vec<NodeName>,
}

/// A read under way; ends when dropped.
pub(super) struct Read<'a> {
    reads: &'a Reads,
    peer: NodeName,
}

impl Reads {
    /// Begins to read a document of a peer; `None` while it rests.
    pub(super) fn begin(&self, peer: &NodeName) -> Option<Read<'_>> {
        let mut state = self.lock();
        if state.resting.as_ref() == Some(peer) {
            return None;
        }
        state.reading.push(peer.clone());
        Some(Read { reads: self, peer: peer.clone() })
    }

    /// From now on, this peer rests, and no other.
    pub(super) fn set_resting(&self, peer: Option<NodeName>) {
        self.lock().resting = peer;
    }

    /// Whether a document of the peer is being read.
    pub(super) fn is_reading(&self, peer: &NodeName) -> bool {
        self.lock().reading.contains(peer)
    }

    // A poisoned lock is usable: the lists are consistent after every statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read<'_> {
    /// Whether this is a read of the peer.
    pub(super) fn is_of(&self, peer: &NodeName) -> bool {
        self.peer == *peer
    }
}

impl Drop for Read<'_> {
    fn drop(&mut self) {
        let mut state = self.reads.lock();
        if let Some(at) = state.reading.iter().position(|peer| *peer == self.peer) {
            state.reading.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_rests_is_not_read_and_reads_under_way_are_known() {
        let (reads, [a, b]) =
            (Reads::default(), ["a", "b"].map(|name| NodeName::new(name).unwrap()));
        let first = reads.begin(&a).unwrap();
        let second = reads.begin(&a).unwrap();
        reads.set_resting(Some(a.clone()));
        assert!(reads.begin(&a).is_none());
        assert!(reads.begin(&b).is_some_and(|read| read.is_of(&b)));
        drop(first);
        assert!(reads.is_reading(&a));
        drop(second);
        assert!(!reads.is_reading(&a) && !reads.is_reading(&b));
        reads.set_resting(None);
        assert!(reads.begin(&a).is_some());
    }
}
