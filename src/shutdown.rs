//! The stop token: one switch from running to stopping, which wakes every wait of the process.
//!
//! A thread that blocks (on a channel, a condition variable, an eventfd) registers a waker with
//! [`StopToken::on_stop`].

use std::sync::{Arc, Mutex, PoisonError};

type Waker = Box<dyn Fn() + Send>;

/// The switch of all parts that end together. Clones share it.
#[derive(Clone, Default)]
pub struct StopToken(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    stopped: bool,
    wakers: Vec<Waker>,
}

impl StopToken {
    /// A token that is not stopped.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops for good, and calls every waker once.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for wake in wakers {
            wake();
        }
    }

    /// Whether [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Calls `waker` at the stop, or at once if that was before.
    pub fn on_stop(&self, waker: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.stopped {
            drop(state);
            waker();
        } else {
            state.wakers.push(Box::new(waker));
        }
    }

    // A poisoned lock is usable: the state is valid after every statement.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_waker_is_called_once_even_after_the_stop() {
        let stop = StopToken::new();
        assert!(!stop.is_stopped());
        let calls = Arc::new(AtomicUsize::new(0));
        let count = |calls: &Arc<AtomicUsize>| {
            let calls = Arc::clone(calls);
            move || {
                calls.fetch_add(1, Ordering::Relaxed);
            }
        };
        stop.on_stop(count(&calls));
        stop.stop();
        stop.stop();
        assert!(stop.is_stopped());
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        stop.on_stop(count(&calls));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
