//! Heartbeats: a loop announces when its next one is due, and the health route reports those overdue.
//!
//! An announcement is one atomic store, and an idle loop need not wake for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The heartbeat of one loop. Clones share it.
#[derive(Clone)]
pub struct Heartbeat(Arc<Inner>);

struct Inner {
    name: &'static str,
    epoch: Instant,
    /// When the next one is due, in milliseconds after the epoch; 0 before the first.
    due: AtomicU64,
}

impl Heartbeat {
    /// The heartbeat of the loop `name`, not yet due.
    #[must_use]
    pub fn new(name: &'static str, now: Instant) -> Self {
        Self(Arc::new(Inner { name, epoch: now, due: AtomicU64::new(0) }))
    }

    /// The loop's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Beats, and announces the next beat for `due` at the latest.
    pub fn expect_by(&self, due: Instant) {
        let due = due.saturating_duration_since(self.0.epoch).as_millis();
        let due = u64::try_from(due).unwrap_or(u64::MAX).max(1);
        self.0.due.store(due, Ordering::Relaxed);
    }

    /// How long the next beat is overdue; `None` if it is not.
    #[must_use]
    pub fn overdue(&self, now: Instant) -> Option<Duration> {
        let due = self.0.due.load(Ordering::Relaxed);
        let deadline = self.0.epoch.checked_add(Duration::from_millis(due))?;
        let overdue = now.saturating_duration_since(deadline);
        (due != 0 && !overdue.is_zero()).then_some(overdue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_overdue_only_after_its_deadline() {
        let start = Instant::now();
        let heartbeat = Heartbeat::new("loop", start);
        assert_eq!(heartbeat.overdue(start + Duration::from_secs(60)), None);
        heartbeat.expect_by(start + Duration::from_secs(10));
        assert_eq!(heartbeat.overdue(start + Duration::from_secs(10)), None);
        let overdue = heartbeat.overdue(start + Duration::from_secs(12));
        assert_eq!(overdue, Some(Duration::from_secs(2)));
        heartbeat.expect_by(start + Duration::from_secs(20));
        assert_eq!(heartbeat.overdue(start + Duration::from_secs(12)), None);
    }
}
