//! Keep-alive requests on their way to the loop. They queue until it reads them, so that a busy
//! agent is not woken for each.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use crate::state::Moment;
use crate::wire::KeepAlive;

/// Requests that may queue. Server threads block beyond it, which loses nothing.
pub(super) const CAPACITY: usize = 256;
/// The loop is woken for requests at most this often, in milliseconds; those in between wait for the
/// next one, or for the loop's own tick.
const WAKE_EVERY: u64 = 100;

/// What the queue holds.
pub(super) enum Received {
    /// A keep-alive request that was answered, `None` for one without a valid source; and its client.
    Request(Moment, Option<KeepAlive>, Option<IpAddr>),
    /// The answer to an earlier request, and so many segments that had to be retransmitted for it.
    Retransmits(KeepAlive, u32),
}

/// The server's end of the queue.
pub(super) struct RequestQueue {
    queue: SyncSender<Received>,
    wake: Box<dyn Fn() + Send + Sync>,
    start: Instant,
    /// When the loop was woken last, in milliseconds since `start`.
    woken: AtomicU64,
}

impl RequestQueue {
    /// `wake` makes the loop read the other end of `queue`.
    pub(super) fn new(
        queue: SyncSender<Received>,
        wake: impl Fn() + Send + Sync + 'static,
        start: Instant,
    ) -> Self {
        Self { queue, wake: Box::new(wake), start, woken: AtomicU64::new(0) }
    }

    /// Queues a request. Wakes the loop when it is time, or when the sender is about to stop.
    pub(super) fn push(&self, keep_alive: Option<KeepAlive>, client: Option<IpAddr>) {
        let at = Moment::now();
        let is_goodbye = keep_alive.as_ref().is_some_and(|request| request.goodbye.is_some());
        match self.queue.try_send(Received::Request(at, keep_alive, client)) {
            Ok(()) => {}
            Err(TrySendError::Full(request)) => {
                (self.wake)();
                let _ = self.queue.send(request);
            }
            // The loop ends only with the process.
            Err(TrySendError::Disconnected(_)) => return,
        }
        let now = at.instant.saturating_duration_since(self.start).as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        if is_goodbye || now.saturating_sub(self.woken.load(Ordering::Relaxed)) >= WAKE_EVERY {
            self.woken.store(now, Ordering::Relaxed);
            (self.wake)();
        }
    }
}

/// The gate's end of the queue. It does not wake the loop, which reads within a second, and never blocks: a
/// loop that is so far behind loses evidence of loss, and no request.
pub(super) fn retransmits(queue: &SyncSender<Received>) -> impl Fn(KeepAlive, u32) + Send + use<> {
    let queue = queue.clone();
    move |sender, segments| {
        let _ = queue.try_send(Received::Retransmits(sender, segments));
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

    /// A queue, its other end, and the number of times the loop was woken.
    fn queue(capacity: usize) -> (RequestQueue, Receiver<Received>, Arc<AtomicUsize>) {
        let (sender, receiver) = sync_channel(capacity);
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let wake = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        // Early enough for the first request to wake the loop.
        let start = Instant::now().checked_sub(Duration::from_millis(WAKE_EVERY)).unwrap();
        (RequestQueue::new(sender, wake, start), receiver, woken)
    }

    fn request(goodbye: Option<Duration>) -> Option<KeepAlive> {
        let node = NodeName::new("n1").unwrap();
        Some(KeepAlive { node, instance: None, interval: None, goodbye, token: None, size: None })
    }

    #[test]
    fn requests_wake_the_loop_at_most_each_interval_and_a_goodbye_at_once() {
        let (queue, receiver, woken) = queue(CAPACITY);
        let began = Instant::now();
        for _ in 0..100 {
            queue.push(request(None), None);
        }
        let intervals = began.elapsed().as_millis() / u128::from(WAKE_EVERY);
        let times = woken.load(Ordering::Relaxed);
        assert!(times >= 1 && times as u128 <= intervals + 1, "{times} in {intervals} intervals");
        queue.push(request(Some(Duration::from_secs(5))), None);
        assert_eq!(woken.load(Ordering::Relaxed), times + 1);
        assert_eq!(receiver.try_iter().count(), 101);
    }

    #[test]
    fn a_full_queue_wakes_the_loop_and_blocks() {
        let (queue, receiver, woken) = queue(1);
        queue.push(request(None), None);
        let before = woken.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| queue.push(None, None));
            let deadline = Instant::now() + Duration::from_secs(30);
            while woken.load(Ordering::Relaxed) == before {
                assert!(Instant::now() < deadline, "never woken");
                std::thread::yield_now();
            }
            assert!(matches!(receiver.recv(), Ok(Received::Request(_, Some(_), _))));
            assert!(
                matches!(receiver.recv(), Ok(Received::Request(_, None, _))),
                "no request is lost"
            );
            second.join().unwrap();
        });
    }

    #[test]
    fn without_the_loop_no_request_blocks() {
        let (queue, receiver, _) = queue(1);
        queue.push(None, None);
        drop(receiver);
        queue.push(None, None);
    }
}
