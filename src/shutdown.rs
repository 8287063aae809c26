//! The stop token: one switch, from running to stopping, that every wait of the process hears.
//!
//! A thread that sleeps uses [`StopToken::wait_until`]; one that blocks elsewhere (a channel, an
//! eventfd) registers what wakes it with [`StopToken::on_stop`].

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

type Waker = Box<dyn Fn() + Send>;

/// Shared by everything that must end together. Clones are the same switch.
#[derive(Clone, Default)]
pub struct StopToken(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

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

    /// Stops, once and for ever: wakes every sleeper and calls every waker.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.0.changed.notify_all();
        for wake in wakers {
            wake();
        }
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Has `waker` called at the stop, or at once when it was before.
    pub fn on_stop(&self, waker: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.stopped {
            drop(state);
            waker();
        } else {
            state.wakers.push(Box::new(waker));
        }
    }

    /// Sleeps until the stop (`true`) or the deadline (`false`); without a deadline, until the stop.
    #[must_use]
    pub fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        while !state.stopped {
            state = match deadline {
                None => self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let waited = self.0.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    // A poisoned lock holds a switch all the same.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sleeper_wakes_at_the_stop_and_not_before() {
        let stop = StopToken::new();
        assert!(!stop.wait_until(Some(Instant::now() + Duration::from_millis(5))));
        let sleeper = stop.clone();
        let thread = std::thread::spawn(move || sleeper.wait_until(None));
        stop.stop();
        assert!(thread.join().unwrap());
        assert!(stop.wait_until(Some(Instant::now() + Duration::from_secs(3600))));
    }

    #[test]
    fn a_waker_is_called_once_also_when_it_comes_late() {
        let stop = StopToken::new();
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
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        stop.on_stop(count(&calls));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
