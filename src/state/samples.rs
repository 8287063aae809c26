//! What is stored of the probes of one peer: a histogram, and the last ones. Pure data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::probe::{FailureReason, KernelView, Timings};

/// Number of recent probes that are stored for people and for the verdicts `flaky` and `lossy`: three minutes at
/// the default interval, 320 bytes a peer.
pub const RECENT: usize = 20;

/// Most retransmits that are stored of a probe, of SYNs and of others: their timers double, so that the longest
/// timeout, a minute, has room for ten.
const MAX_RETRANSMITS: u32 = 15;
/// The latest time that is stored, in the year 10889.
const MAX_MILLIS: u64 = (1 << 48) - 1;
const _: () = assert!(size_of::<Sample>() == 16);

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
    /// End of the probe, in milliseconds since 1970, of 48 bits: the lower 32 and the others.
    ended_low: u32,
    ended_high: u16,
    /// Retransmitted SYNs in the lower four bits, other segments in the upper ones.
    retransmits: u8,
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
        let ended = u64::try_from(ended).unwrap_or(u64::MAX).min(MAX_MILLIS);
        let counted = |segments: u32| u8::try_from(segments.min(MAX_RETRANSMITS)).unwrap_or(0);
        let [low, high] = [ended & u64::from(u32::MAX), ended >> u32::BITS];
        Self {
            ended_low: u32::try_from(low).unwrap_or(u32::MAX),
            ended_high: u16::try_from(high).unwrap_or(u16::MAX),
            retransmits: counted(kernel.syn_retransmits)
                | counted(kernel.request_retransmits()) << 4,
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
        u64::from(self.ended_high) << u32::BITS | u64::from(self.ended_low)
    }

    /// Why it failed; `None` for a success.
    #[must_use]
    pub fn failure(&self) -> Option<FailureReason> {
        self.failure
    }

    /// Retransmitted SYNs.
    pub(super) fn syn_retransmits(&self) -> u8 {
        self.retransmits & 0xf
    }

    /// Retransmitted segments, SYNs included.
    #[must_use]
    pub fn retransmits(&self) -> u8 {
        self.syn_retransmits() + (self.retransmits >> 4)
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
    fn a_sample_is_what_was_put_in() {
        let took = Duration::from_millis(70);
        for (ended, syns, others) in [(0, 0, 0), (1_796_033_000_123, 1, 2), (MAX_MILLIS, 15, 15)] {
            let (retransmits, syn_retransmits) = (syns + others, syns);
            let kernel = KernelView { retransmits, syn_retransmits, ..KernelView::default() };
            let at = UNIX_EPOCH + Duration::from_millis(ended);
            let sample = Sample::new(at, Err(FailureReason::Closed), took, kernel);
            assert_eq!(sample.at_millis(), ended);
            let counts = (sample.syn_retransmits().into(), sample.retransmits().into());
            assert_eq!(counts, (syns, retransmits));
            assert_eq!(sample.result(), Err(FailureReason::Closed));
        }
        let kernel = KernelView { retransmits: 99, syn_retransmits: 40, ..KernelView::default() };
        let most = Sample::new(UNIX_EPOCH, Err(FailureReason::Closed), took, kernel);
        assert_eq!((most.syn_retransmits(), most.retransmits()), (15, 30));
    }

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
