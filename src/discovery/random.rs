//! Random offsets for jitter: neither secret nor reproducible, and no crate for it.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// A xorshift generator (Marsaglia 2003, the 64-bit triple 13, 7, 17).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Seeded by the process's own hash keys, which the kernel made random.
    #[must_use]
    pub(super) fn new() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// Seeded as told, for tests.
    #[must_use]
    pub(super) const fn seeded(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed | 1)
    }

    fn next(&mut self) -> u32 {
        let mut word = self.0;
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        self.0 = word;
        // The high half is the better one.
        u32::try_from(word >> 32).unwrap_or(u32::MAX)
    }

    /// A duration of `[low, high]`, or `low` when there is nothing between.
    pub(super) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let part = f64::from(self.next()) / f64::from(u32::MAX);
        low + high.saturating_sub(low).mul_f64(part)
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_stay_within_their_bounds_and_fill_them() {
        let (low, high) = (Duration::from_millis(900), Duration::from_millis(1100));
        let mut random = Random::new();
        let drawn: Vec<_> = (0..1000).map(|_| random.between(low, high)).collect();
        assert!(drawn.iter().all(|offset| (low..=high).contains(offset)));
        assert!(drawn.iter().any(|offset| *offset < Duration::from_millis(920)));
        assert!(drawn.iter().any(|offset| *offset > Duration::from_millis(1080)));
        assert_eq!(random.between(high, low), high);
    }
}
