//! Signs of life: a loop promises when it will next come by, the health route sees broken promises.
//!
//! Promising costs one store, so that an idle agent wakes for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The promise of one loop. Clones are the same promise.
#[derive(Clone)]
pub struct Heartbeat(Arc<Inner>);

struct Inner {
    name: &'static str,
    epoch: Instant,
    /// Milliseconds after the epoch; 0 for no promise yet.
    promised: AtomicU64,
}

impl Heartbeat {
    /// The heartbeat of the loop called `name`, which has promised nothing yet.
    #[must_use]
    pub fn new(name: &'static str, now: Instant) -> Self {
        Self(Arc::new(Inner { name, epoch: now, promised: AtomicU64::new(0) }))
    }

    /// The loop's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Promises to promise again before `until`.
    pub fn expect_by(&self, until: Instant) {
        let after = until.saturating_duration_since(self.0.epoch).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX).max(1);
        self.0.promised.store(after, Ordering::Relaxed);
    }

    /// By how much the promise is broken; `None` while it is kept or not yet made.
    #[must_use]
    pub fn overdue(&self, now: Instant) -> Option<Duration> {
        let promised = self.0.promised.load(Ordering::Relaxed);
        let until = self.0.epoch.checked_add(Duration::from_millis(promised))?;
        let late = now.saturating_duration_since(until);
        (promised != 0 && !late.is_zero()).then_some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_broken_only_when_its_time_has_passed() {
        let start = Instant::now();
        let heartbeat = Heartbeat::new("loop", start);
        assert_eq!(heartbeat.overdue(start + Duration::from_secs(60)), None);
        heartbeat.expect_by(start + Duration::from_secs(10));
        assert_eq!(heartbeat.overdue(start + Duration::from_secs(10)), None);
        let late = heartbeat.overdue(start + Duration::from_secs(12));
        assert_eq!(late, Some(Duration::from_secs(2)));
        heartbeat.expect_by(start + Duration::from_secs(20));
        assert_eq!(heartbeat.overdue(start + Duration::from_secs(12)), None);
    }
}
