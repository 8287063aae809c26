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
