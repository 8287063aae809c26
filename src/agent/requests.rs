//! Keep-alive requests on their way to the loop: kept until it comes by, so that a busy agent is not
//! woken for each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use crate::state::Moment;
use crate::wire::KeepAlive;

/// Requests that may wait for the loop. Server threads block beyond it, which loses nothing.
pub(super) const CAPACITY: usize = 256;
/// The loop is woken for requests at most this often, in milliseconds; those that come in between
/// wait for the next one, or for the loop's own tick.
const WAKE_EVERY: u64 = 100;

/// A keep-alive request that was answered.
pub(super) struct Request {
    /// When.
    pub(super) at: Moment,
    /// `None` for one without a valid source.
    pub(super) said: Option<KeepAlive>,
}

/// Where server threads leave requests.
pub(super) struct Requests {
    kept: SyncSender<Request>,
    wake: Box<dyn Fn() + Send + Sync>,
    start: Instant,
    /// When the loop was woken last, in milliseconds since `start`.
    woken: AtomicU64,
}

impl Requests {
    /// `wake` has the loop look for what waits in `kept`.
    pub(super) fn new(
        kept: SyncSender<Request>,
        wake: impl Fn() + Send + Sync + 'static,
        start: Instant,
    ) -> Self {
        Self { kept, wake: Box::new(wake), start, woken: AtomicU64::new(0) }
    }

    /// Leaves one, and wakes the loop when it is time or when the sender is about to go.
    pub(super) fn leave(&self, said: Option<KeepAlive>) {
        let at = Moment::now();
        let goodbye = said.as_ref().is_some_and(|said| said.goodbye.is_some());
        match self.kept.try_send(Request { at, said }) {
            Ok(()) => {}
            Err(TrySendError::Full(request)) => {
                (self.wake)();
                let _ = self.kept.send(request);
            }
            // The loop is gone only when the process ends.
            Err(TrySendError::Disconnected(_)) => return,
        }
        let now = at.instant.saturating_duration_since(self.start).as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        if goodbye || now.saturating_sub(self.woken.load(Ordering::Relaxed)) >= WAKE_EVERY {
            self.woken.store(now, Ordering::Relaxed);
            (self.wake)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;

    use super::*;
    use crate::name::NodeName;

    /// Requests of which so many may wait, and how often the loop was woken.
    fn requests(capacity: usize) -> (Requests, Receiver<Request>, Arc<AtomicUsize>) {
        let (kept, waiting) = sync_channel(capacity);
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let wake = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        // Started long enough ago for the first one to wake.
        let start = Instant::now().checked_sub(Duration::from_millis(WAKE_EVERY)).unwrap();
        (Requests::new(kept, wake, start), waiting, woken)
    }

    fn said(goodbye: Option<Duration>) -> Option<KeepAlive> {
        let node = NodeName::new("n1").unwrap();
        Some(KeepAlive { node, instance: None, interval: None, goodbye, size: None })
    }

    #[test]
    fn many_requests_wake_the_loop_once_in_a_while_and_a_goodbye_at_once() {
        let (requests, waiting, woken) = requests(CAPACITY);
        let began = Instant::now();
        for _ in 0..100 {
            requests.leave(said(None));
        }
        let intervals = began.elapsed().as_millis() / u128::from(WAKE_EVERY);
        let times = woken.load(Ordering::Relaxed);
        assert!(times >= 1 && times as u128 <= intervals + 1, "{times} in {intervals} intervals");
        requests.leave(said(Some(Duration::from_secs(5))));
        assert_eq!(woken.load(Ordering::Relaxed), times + 1);
        assert_eq!(waiting.try_iter().count(), 101);
    }

    #[test]
    fn whoever_finds_no_room_wakes_the_loop_and_waits() {
        let (requests, waiting, woken) = requests(1);
        requests.leave(said(None));
        let before = woken.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| requests.leave(None));
            let patience = Instant::now() + Duration::from_secs(30);
            while woken.load(Ordering::Relaxed) == before {
                assert!(Instant::now() < patience, "never woken");
                std::thread::yield_now();
            }
            assert!(waiting.recv().unwrap().said.is_some());
            assert!(waiting.recv().unwrap().said.is_none(), "nothing is lost");
            second.join().unwrap();
        });
    }

    #[test]
    fn once_the_loop_is_gone_nobody_waits() {
        let (requests, waiting, _) = requests(1);
        requests.leave(None);
        drop(waiting);
        requests.leave(None);
    }
}
