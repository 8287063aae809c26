//! The clock of a node, as far as an answer of its agent shows it.

use std::time::Duration;

/// How far a clock is from that of the collecting agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// Its time minus that of the collecting agent, in milliseconds.
    pub millis: i64,
    /// How far it may be from that in either direction, in milliseconds.
    pub doubt: u64,
}

impl ClockOffset {
    /// From the time in an answer and its arrival, both in Unix milliseconds, and the time from the
    /// request to the answer: it was written at any moment between the two.
    #[must_use]
    pub fn of(time: u64, arrival: u64, took: Duration) -> Self {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let half = u64::try_from(took.as_millis() / 2).unwrap_or(u64::MAX);
        let millis = number(time).saturating_sub(number(arrival)).saturating_add(number(half));
        Self { millis, doubt: half.saturating_add(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doubt_is_half_a_round_trip() {
        let of = |time, took| ClockOffset::of(time, 10_000, Duration::from_millis(took));
        assert_eq!(of(10_000, 0), ClockOffset { millis: 0, doubt: 1 });
        // Written half a second ago, if both ways take the same time.
        assert_eq!(of(9500, 1000), ClockOffset { millis: 0, doubt: 501 });
        assert_eq!(of(14_000, 200), ClockOffset { millis: 4100, doubt: 101 });
        assert_eq!(of(0, 200), ClockOffset { millis: -9900, doubt: 101 });
        for time in [u64::MAX, 0] {
            assert!(ClockOffset::of(time, u64::MAX - time, Duration::MAX).doubt > 1 << 60);
        }
    }
}
