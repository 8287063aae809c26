//! When a lane is paused for its client, and when that client yields to others.
//!
//! Pure. While others wait for a lane, its response is buffered up to a limit, so that the lane is free while
//! the client reads. Only a longer one, or one too many, pauses the lane.

use std::time::{Duration, Instant};

use super::KERNEL_SEND_BUFFER;
use crate::route::Lane;

/// Buffer of one response: /metrics of 100 peers in plain text, or of 1,000 with gzip.
const MAX_BUFFERED: usize = 256 * 1024;
/// The most that one read of the backend adds to a buffer, a head included.
const READ: usize = 32 * 1024;
/// A paused lane is read again once this much is left.
const RESUME_AT: usize = MAX_BUFFERED / 2;
/// All responses that are not read as they come, their part in the kernel included: a sixteenth of the pod's
/// memory limit.
pub(super) const MAX_SHARED: usize = 2 * 1024 * 1024;
/// From this sum on, lanes with a slow reader are paused, and no response begins but small ones. Each lane may
/// just have read for a new one.
const FULL: usize = MAX_SHARED - Lane::ALL.len() * (READ + KERNEL_SEND_BUFFER);
/// Within this time, a reader that holds up others must make some progress, or it is reset.
const YIELD_AFTER: Duration = Duration::from_secs(2);
/// That progress: 0.5 Mbit/s. A byte now and then is none.
const MIN_PROGRESS: usize = 128 * 1024;
/// The same without room for another response, counted from the last byte: longer than most round trips.
const YIELD_AFTER_WITHOUT_ROOM: Duration = Duration::from_millis(500);

/// What a response occupies of [`MAX_SHARED`], given its buffer.
pub(super) fn share(allocated: usize) -> usize {
    if allocated == 0 { 0 } else { allocated + KERNEL_SEND_BUFFER }
}

/// Whether no slow reader gets more, given the sum of all shares.
pub(super) fn is_full(shared: usize) -> bool {
    shared >= FULL
}

/// Whether a response of which this much is buffered pauses its lane. While none waits for the lane, memory
/// is worth more.
pub(super) fn is_too_much(allocated: usize, paused: bool, contended: bool) -> bool {
    let limit = match (contended, paused) {
        (false, _) => 0,
        (true, true) => RESUME_AT,
        (true, false) => MAX_BUFFERED - READ,
    };
    allocated > limit
}

/// When a reader must yield for want of room.
pub(super) fn yields_at(last_progress: Instant) -> Instant {
    last_progress + YIELD_AFTER_WITHOUT_ROOM
}

/// Observes the reader for which a lane is paused while others wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    since: Instant,
    /// Bytes that the kernel had taken by then.
    taken: usize,
}

impl Window {
    pub(super) fn new(now: Instant, taken: usize) -> Self {
        Self { since: now, taken }
    }

    /// When it is judged.
    pub(super) fn end(&self) -> Instant {
        self.since + YIELD_AFTER
    }

    /// Whether the reader made too little progress.
    pub(super) fn has_stalled(&self, taken: usize) -> bool {
        taken.saturating_sub(self.taken) < MIN_PROGRESS
    }
}

#[cfg(test)]
mod tests {
    use wylis_harness::bounds::worst_case;

    use super::super::outbox::Outbox;
    use super::*;

    #[test]
    fn one_buffer_stays_within_its_bound() {
        // A read of the backend, its head longer than what was received of it.
        for read in [1, 1000, 16 * 1024, 20 * 1024] {
            let (mut outbox, mut most) = (Outbox::default(), 0);
            while !is_too_much(outbox.allocated(), false, true) {
                outbox.push(&vec![0; read]);
                most = most.max(outbox.allocated());
            }
            assert!(most as f64 <= worst_case("MAX_BUFFERED"), "{most}");
            assert!(most > MAX_BUFFERED / 2, "a response of some size is buffered");
            assert!(is_too_much(RESUME_AT + 1, true, true) && !is_too_much(RESUME_AT, true, true));
            assert!(is_too_much(1, false, false) && !is_too_much(0, true, false));
        }
    }

    #[test]
    fn the_oldest_reader_yields_soon_without_room() {
        let now = Instant::now();
        let wait = yields_at(now).duration_since(now).as_secs_f64();
        assert!(wait <= worst_case("YIELD_AFTER_WITHOUT_ROOM"), "{wait}");
    }

    #[test]
    fn the_sum_stays_within_its_bound_when_each_lane_reads_once_more() {
        let mut shared = 0;
        while !is_full(shared) {
            shared += share(MAX_BUFFERED);
        }
        // One that was just not full, and a read of each lane for a client without a buffer.
        let before = FULL - 1 + Lane::ALL.len() * share(READ);
        assert!(before <= MAX_SHARED && shared <= MAX_SHARED, "{before} {shared}");
        assert_eq!(share(0), 0, "a response that is read as it comes");
    }
}
