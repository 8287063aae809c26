//! The peers that did not answer a request for details in time: for some seconds, no other request waits
//! for them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::matrix::RowError;
use crate::name::NodeName;
use crate::probe::FailureReason;

/// How long: as long as the matrix is cached.
const SILENCE: Duration = Duration::from_secs(5);
/// How many: each has cost its requester half a second or more, one after another, so more are never remembered
/// at once.
const MAX_SILENT: usize = 16;

struct Silent {
    since: Instant,
    peer: NodeName,
    error: RowError,
}

/// The last in the order of time.
#[derive(Default)]
pub(super) struct SilentPeers(Mutex<VecDeque<Silent>>);

impl SilentPeers {
    /// The error of a peer that did not answer lately.
    pub(super) fn error(&self, peer: &NodeName, now: Instant) -> Option<RowError> {
        let mut silent = self.lock();
        silent.retain(|one| now.saturating_duration_since(one.since) < SILENCE);
        silent.iter().find(|one| one.peer == *peer).map(|one| one.error)
    }

    /// Remembers a peer if its error took a deadline.
    pub(super) fn note(&self, peer: &NodeName, error: RowError, now: Instant) {
        use FailureReason::{ConnectTimeout, ResponseTimeout};
        if !matches!(error, RowError::Failure(ConnectTimeout | ResponseTimeout)) {
            return;
        }
        let mut silent = self.lock();
        silent.retain(|one| one.peer != *peer);
        if silent.len() >= MAX_SILENT {
            silent.pop_front();
        }
        silent.push_back(Silent { since: now, peer: peer.clone(), error });
    }

    // A poisoned lock is usable: the list is consistent after every statement.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Silent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use wylis_harness::bounds::worst_case;

    use super::*;

    const TIMEOUT: RowError = RowError::Failure(FailureReason::ResponseTimeout);

    fn name(number: usize) -> NodeName {
        NodeName::new(&format!("n{number}")).unwrap()
    }

    #[test]
    fn only_peers_that_took_a_deadline_are_remembered_and_not_for_long() {
        let (silent, now) = (SilentPeers::default(), Instant::now());
        for error in [RowError::Busy, RowError::Failure(FailureReason::Refused)] {
            silent.note(&name(1), error, now);
            assert_eq!(silent.error(&name(1), now), None);
        }
        silent.note(&name(1), TIMEOUT, now);
        let just_before = now + SILENCE - Duration::from_millis(1);
        assert_eq!(silent.error(&name(1), just_before), Some(TIMEOUT));
        assert_eq!(silent.error(&name(2), now), None);
        assert_eq!(silent.error(&name(1), now + SILENCE), None);
    }

    #[test]
    fn few_peers_are_remembered() {
        let (silent, now) = (SilentPeers::default(), Instant::now());
        for number in 0..100 {
            silent.note(&name(number), TIMEOUT, now);
        }
        assert!(silent.lock().len() as f64 <= worst_case("MAX_SILENT"));
        assert_eq!(silent.error(&name(99), now), Some(TIMEOUT));
    }
}
