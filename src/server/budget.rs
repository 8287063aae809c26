//! A budget of answers: so many a second, and a burst after a pause. Pure.

use std::time::{Duration, Instant};

/// A token bucket, kept as the time at which it is full again.
#[derive(Debug)]
pub(super) struct Budget {
    /// Time in which one answer becomes available.
    spacing: Duration,
    burst: u32,
    full_at: Option<Instant>,
}

impl Budget {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self { spacing: Duration::from_secs(1) / per_second, burst, full_at: None }
    }

    /// Takes one answer; `false` if none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + self.spacing;
        let available = full_at.saturating_duration_since(now) <= self.spacing * self.burst;
        if available {
            self.full_at = Some(full_at);
        }
        available
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (mut budget, start) = (Budget::new(4, 10), Instant::now());
        let taken = |budget: &mut Budget, at: u64| {
            let now = start + Duration::from_millis(at);
            (0..100).filter(|_| budget.take(now)).count()
        };
        assert_eq!(taken(&mut budget, 0), 10);
        assert_eq!(taken(&mut budget, 249), 0);
        assert_eq!(taken(&mut budget, 1000), 4);
        assert_eq!(taken(&mut budget, 1_000_000), 10, "no more than the burst");
    }

    proptest! {
        #[test]
        fn no_pattern_of_requests_exceeds_burst_and_rate(
            pauses in prop::collection::vec(0_u64..700, 1..200),
        ) {
            let (mut budget, start) = (Budget::new(4, 10), Instant::now());
            let (mut at, mut taken) = (0, 0);
            for pause in pauses {
                at += pause;
                taken += u64::from(budget.take(start + Duration::from_millis(at)));
                prop_assert!(taken <= 10 + at * 4 / 1000);
            }
        }
    }
}
