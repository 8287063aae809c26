//! What is stored of the probes of one peer: a histogram, and the last ones. Pure data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::probe::{FailureReason, KernelView, Timings};

/// Number of recent probes that are stored for people and for the verdicts `flaky` and `lossy`: three minutes at
/// the default interval, 480 bytes a peer.
pub const RECENT: usize = 20;

/// A latency histogram; its bounds are stored elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Observations in each bucket, not cumulative; the last bucket is above every bound.
    pub counts: Box<[u64]>,
    /// Sum of all observations in seconds.
    pub sum: f64,
}

impl Histogram {
    /// An empty histogram for that many bounds.
    #[must_use]
    pub fn new(bounds: usize) -> Self {
        Self { counts: vec![0; bounds + 1].into(), sum: 0.0 }
    }

    /// Counts one observation.
    pub fn observe(&mut self, bounds: &[f64], value: Duration) {
        let seconds = value.as_secs_f64();
        let bucket = bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }
}

/// One recent probe, packed: a large mesh stores 20,000 of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// End of the probe, in milliseconds since 1970.
    ended_millis: u64,
    /// Retransmitted segments.
    pub retransmits: u16,
    /// The SYNs among them.
    syn_retransmits: u8,
    failure: Option<FailureReason>,
    /// Of a failure, zero if it did not connect.
    connect_micros: u32,
    total_micros: u32,
}

impl Sample {
    /// The probe that ended then, after `took`.
    pub(super) fn new(
        ended: SystemTime,
        result: Result<Timings, FailureReason>,
        took: Duration,
        kernel: KernelView,
    ) -> Self {
        // The longest timeout is a minute; an hour of microseconds fits.
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let timings = result.ok();
        let ended = ended.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            ended_millis: u64::try_from(ended).unwrap_or(u64::MAX),
            retransmits: u16::try_from(kernel.retransmits).unwrap_or(u16::MAX),
            syn_retransmits: u8::try_from(kernel.syn_retransmits).unwrap_or(u8::MAX),
            failure: result.err(),
            connect_micros: timings
                .map(|timings| timings.connect)
                .or(kernel.connect)
                .map_or(0, micros),
            total_micros: micros(took),
        }
    }

    /// End of the probe, in milliseconds since 1970.
    #[must_use]
    pub fn at_millis(&self) -> u64 {
        self.ended_millis
    }

    /// Why it failed; `None` for a success.
    #[must_use]
    pub fn failure(&self) -> Option<FailureReason> {
        self.failure
    }

    /// Retransmitted SYNs.
    pub(super) fn syn_retransmits(&self) -> u16 {
        self.syn_retransmits.into()
    }

    /// The durations of handshake and exchange of a success.
    pub(super) fn round_trips(&self) -> Option<(Duration, Duration)> {
        let (connect, total) = self.result().ok()?;
        Some((connect, total.saturating_sub(connect)))
    }

    /// The durations of the handshake and of the whole probe, of a failure after the handshake.
    pub(super) fn failed_after(&self) -> Option<(Duration, Duration)> {
        let micros = |micros: u32| Duration::from_micros(micros.into());
        let connected = self.failure.is_some() && self.connect_micros > 0;
        connected.then(|| (micros(self.connect_micros), micros(self.total_micros)))
    }

    /// Connect time and total time.
    ///
    /// # Errors
    /// The reason of a failed probe.
    pub fn result(&self) -> Result<(Duration, Duration), FailureReason> {
        let micros = |micros: u32| Duration::from_micros(micros.into());
        match self.failure {
            Some(reason) => Err(reason),
            None => Ok((micros(self.connect_micros), micros(self.total_micros))),
        }
    }
}

/// Which of the last [`RECENT`] requests of a peer needed retransmits: one bit each, the newest the lowest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IncomingWindow(u32);

impl IncomingWindow {
    const ALL: u32 = (1 << RECENT) - 1;

    /// Adds a request, so far without retransmits.
    pub(super) fn add(&mut self) {
        self.0 = (self.0 << 1) & Self::ALL;
    }

    /// Marks the newest request that is not marked. The next ones may have arrived meanwhile: this one only
    /// leaves the window so much later.
    pub(super) fn mark(&mut self) {
        self.0 = (self.0 | (self.0 + 1)) & Self::ALL;
    }

    /// The number of marked requests.
    pub(super) fn marked(self) -> u8 {
        u8::try_from(self.0.count_ones()).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_request_counts_until_as_many_others_have_come() {
        let mut window = IncomingWindow::default();
        window.add();
        window.mark();
        window.add();
        assert_eq!(window.marked(), 1);
        window.mark();
        assert_eq!(window.marked(), 2);
        for _ in 1..RECENT {
            window.add();
        }
        assert_eq!(window.marked(), 1);
        window.add();
        assert_eq!(window.marked(), 0);
        for _ in 0..2 * RECENT {
            window.mark();
        }
        assert_eq!(usize::from(window.marked()), RECENT);
    }
}
