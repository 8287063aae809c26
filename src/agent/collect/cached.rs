//! The last result of a collection, for all that ask within some seconds.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::server::CACHE_TIME;

/// The last result of one kind of collection, of which one is under way at a time.
pub(super) struct Cached<T> {
    state: Mutex<State<T>>,
    /// A collection has ended.
    ended: Condvar,
}

struct State<T> {
    collecting: bool,
    /// What the last collection was of, the one that is under way included.
    key: u64,
    last: Option<Finished<T>>,
}

/// A result, and when it was finished.
pub(super) type Finished<T> = (Instant, Arc<T>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        let state = State { collecting: false, key: 0, last: None };
        Self { state: Mutex::new(state), ended: Condvar::new() }
    }
}

impl<T> State<T> {
    /// The last result, while it is new enough to serve.
    fn result(&self, key: u64, now: Instant) -> Option<Arc<T>> {
        let (at, result) = self.last.as_ref().filter(|_| self.key == key)?;
        (now.saturating_duration_since(*at) < CACHE_TIME).then(|| Arc::clone(result))
    }
}

impl<T> Cached<T> {
    /// The cached result of this key, or a new one; `collect` gets the last one, of any key and age. During a
    /// collection, callers wait for its end.
    pub(super) fn get(
        &self,
        key: u64,
        collect: &mut dyn FnMut(Option<Finished<T>>) -> Option<T>,
    ) -> Option<Arc<T>> {
        let mut state = self.lock();
        let mut waited = false;
        while state.collecting {
            waited = true;
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let result = state.result(key, Instant::now());
        // Waiters get the leader's result, also where it has none.
        if result.is_some() || (waited && state.key == key) {
            return result;
        }
        (state.collecting, state.key) = (true, key);
        let last = state.last.take();
        drop(state);
        let result = collect(last).map(Arc::new);
        let mut state = self.lock();
        state.collecting = false;
        state.last = result.clone().map(|result| (Instant::now(), result));
        drop(state);
        self.ended.notify_all();
        result
    }

    /// Drops a result of this age.
    pub(super) fn expire(&self, now: Instant, age: Duration) {
        self.lock().last.take_if(|(at, _)| now.saturating_duration_since(*at) >= age);
    }

    // A poisoned lock is usable: the state is consistent after every statement.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_result_is_cached_until_it_expires() {
        let cached = Cached::default();
        let first = cached.get(7, &mut |last| last.is_none().then_some("first")).unwrap();
        let again = cached.get(7, &mut |_| panic!("cached")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let weak = Arc::downgrade(&first);
        drop((first, again));
        let (now, long) = (Instant::now(), CACHE_TIME * 2);
        cached.expire(now + CACHE_TIME, long);
        assert!(cached.lock().result(7, now).is_some());
        assert!(cached.lock().result(7, now + CACHE_TIME).is_none(), "kept for the next one only");
        assert!(weak.upgrade().is_some());
        cached.expire(now + long, long);
        assert!(weak.upgrade().is_none(), "freed");
        assert!(cached.get(7, &mut |last| last.is_none().then_some("second")).is_some());
    }

    #[test]
    fn one_result_is_held_and_none_of_another_key_is_served() {
        let cached = Cached::default();
        let weak = Arc::downgrade(&cached.get(1, &mut |_| Some("one")).unwrap());
        let two = cached.get(2, &mut |last| {
            assert_eq!(last.map(|(_, last)| *last), Some("one"), "its parts can be used");
            assert!(weak.upgrade().is_none(), "never two");
            Some("two")
        });
        assert_eq!(two.as_deref(), Some(&"two"));
        assert_eq!(cached.get(1, &mut |_| Some("one again")).as_deref(), Some(&"one again"));
        // One without a result has no older one either.
        assert!(cached.get(2, &mut |_| None).is_none());
        assert!(
            cached.get(2, &mut |last| Some(if last.is_some() { "old" } else { "new" })).is_some()
        );
    }

    #[test]
    fn callers_during_a_collection_get_its_result_if_it_is_theirs() {
        for (succeeds, key) in [(true, 1), (false, 1), (true, 2)] {
            let [leaders, late] = [AtomicUsize::new(0), AtomicUsize::new(0)];
            let (cached, late) = (&Cached::default(), &late);
            let began = std::sync::Barrier::new(2);
            let mut leader = |_| {
                leaders.fetch_add(1, Ordering::Relaxed);
                began.wait();
                // Long enough for the others to arrive; a later one finds the result cached.
                std::thread::sleep(Duration::from_millis(50));
                succeeds.then_some("of the leader")
            };
            let results = std::thread::scope(|scope| {
                let leader = scope.spawn(|| cached.get(1, &mut leader));
                began.wait();
                let waiter = move |_: Option<Finished<&str>>| {
                    // After a leader without a result, or of another key.
                    late.fetch_add(1, Ordering::Relaxed);
                    (key == 2).then_some("of a waiter")
                };
                let waiters: Vec<_> =
                    (0..8).map(|_| scope.spawn(move || cached.get(key, &mut { waiter }))).collect();
                let waiters = waiters.into_iter().map(|waiter| waiter.join().unwrap());
                waiters.chain([leader.join().unwrap()]).collect::<Vec<_>>()
            });
            assert_eq!(leaders.load(Ordering::Relaxed), 1);
            let late = late.load(Ordering::Relaxed);
            match (succeeds, key) {
                (true, 1) => assert_eq!(late, 0, "one collection"),
                (true, _) => assert_eq!(late, 1, "one of each key"),
                (false, _) => {}
            }
            assert!(results.iter().all(|result| result.is_some() == succeeds), "{succeeds}");
        }
    }
}
