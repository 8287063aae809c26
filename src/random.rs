//! Jitter: random durations that need not be secret. Pure, but for the seed of [`Random::new`].

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// A xorshift generator (Marsaglia 2003, the 64-bit triple 13, 7, 17).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded by the keys of the standard hasher, which the kernel made random.
    #[must_use]
    pub fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(0))
    }

    /// Seeded for tests: the same seed gives the same durations.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        // Xorshift never leaves zero.
        Self(seed | 1)
    }

    /// A duration from `low` to `high`; `low` where `high` is less.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // 53 bits: the mantissa of an f64.
        let part = (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
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
    fn durations_fill_their_range_and_stay_within() {
        let (low, high) = (Duration::from_millis(900), Duration::from_millis(1100));
        let mut random = Random::new();
        let drawn: Vec<_> = (0..1000).map(|_| random.between(low, high)).collect();
        assert!(drawn.iter().all(|offset| (low..=high).contains(offset)));
        assert!(drawn.iter().any(|offset| *offset < Duration::from_millis(920)));
        assert!(drawn.iter().any(|offset| *offset > Duration::from_millis(1080)));
        assert_eq!(random.between(high, low), high);
    }
}
