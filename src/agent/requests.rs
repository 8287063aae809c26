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
