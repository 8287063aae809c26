//! What is stored of the probes of one peer: a histogram, and the last ones. Pure data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::probe::{FailureReason, KernelView, Timings};

/// Number of recent probes that are stored for people and for the verdicts `flaky` and `lossy`: three minutes at
/// the default interval, 320 bytes a peer.
pub const RECENT: usize = 20;

/// Most retransmits that are stored of a probe, of SYNs and of others: their timers double, so that the longest
/// timeout, a minute, has room for ten.
const MAX_RETRANSMITS: u64 = 15;
/// The latest time that is stored, in the year 10889.
const MAX_MILLIS: u64 = (1 << 48) - 1;
/// The longest duration that is stored, 67 s: the longest timeout is a minute.
const MAX_MICROS: u64 = (1 << 26) - 1;
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
    /// End of the probe, in milliseconds since 1970, of 48 bits; the source port in the lower 16.
    ended_and_port: u64,
    /// From the top: connect time and total time in microseconds, of 26 bits each; retransmitted SYNs and other
    /// segments, of four bits each; the place of the failure in [`FailureReason::ALL`] from 1, zero for a success.
    /// The connect time of a failure is zero if it did not connect.
    result: u64,
}

impl Sample {
    /// The probe that ended then, after `took`.
    pub(super) fn new(
        ended: SystemTime,
        result: Result<Timings, FailureReason>,
        took: Duration,
        kernel: KernelView,
    ) -> Self {
        let ended = ended.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let ended = u64::try_from(ended).unwrap_or(u64::MAX).min(MAX_MILLIS);
        let micros =
            |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(MAX_MICROS);
        let connect = result.ok().map(|timings| timings.connect).or(kernel.connect);
        let counted = |segments: u32| u64::from(segments).min(MAX_RETRANSMITS);
        let place = |failure| FailureReason::ALL.iter().position(|known| *known == failure);
        let failure = result.err().and_then(place).map_or(0, |place| place as u64 + 1);
        Self {
            ended_and_port: ended << 16 | u64::from(kernel.source_port.unwrap_or(0)),
            result: connect.map_or(0, micros) << 38
                | micros(took) << 12
                | counted(kernel.syn_retransmits) << 8
                | counted(kernel.request_retransmits()) << 4
                | failure,
        }
    }

    /// Four bits of the result, from that one upwards.
    fn four_bits(self, first: u32) -> u8 {
        u8::try_from(self.result >> first & 0xf).unwrap_or(0)
    }

    /// End of the probe, in milliseconds since 1970.
    #[must_use]
    pub fn at_millis(&self) -> u64 {
        self.ended_and_port >> 16
    }

    /// The source port of its connection, if known.
    pub(super) fn source_port(&self) -> Option<u16> {
        u16::try_from(self.ended_and_port & 0xffff).ok().filter(|port| *port != 0)
    }

    /// Why it failed; `None` for a success.
    #[must_use]
    pub fn failure(&self) -> Option<FailureReason> {
        let place = self.four_bits(0).checked_sub(1)?;
        FailureReason::ALL.get(usize::from(place)).copied()
    }

    /// Retransmitted SYNs.
    pub(super) fn syn_retransmits(&self) -> u8 {
        self.four_bits(8)
    }

    /// Retransmitted segments, SYNs included.
    #[must_use]
    pub fn retransmits(&self) -> u8 {
        self.syn_retransmits() + self.four_bits(4)
    }

    fn times(&self) -> (Duration, Duration) {
        let micros = |first: u32| Duration::from_micros(self.result >> first & MAX_MICROS);
        (micros(38), micros(12))
    }

    /// The durations of handshake and exchange of a success.
    pub(super) fn round_trips(&self) -> Option<(Duration, Duration)> {
        let (connect, total) = self.result().ok()?;
        Some((connect, total.saturating_sub(connect)))
    }

    /// The durations of the handshake and of the whole probe, of a failure after the handshake.
    pub(super) fn failed_after(&self) -> Option<(Duration, Duration)> {
        let (connect, total) = self.times();
        (self.failure().is_some() && !connect.is_zero()).then_some((connect, total))
    }

    /// Connect time and total time.
    ///
    /// # Errors
    /// The reason of a failed probe.
    pub fn result(&self) -> Result<(Duration, Duration), FailureReason> {
        self.failure().map_or_else(|| Ok(self.times()), Err)
    }
}

/// Losses that show a lossy path: so many of the last so many probes, or requests. With 0.1 % of the packets lost, as on
/// every path through the Internet, 1 probe in 200 needs a retransmit: the two rules together call one of 20 pairs
/// lossy once in 40 hours; three of the last 20 would once in 5. The first tells a path that loses one packet of
/// each probe after three.
const DENSE: (u32, u32) = (3, 5);
/// See [`DENSE`].
const SPARSE: (u32, u32) = (4, 30);

/// Which of the last 30 probes of a peer, or of its requests, needed retransmits because of a loss: one bit each, the
/// newest the lowest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LossWindow(u32);

impl LossWindow {
    /// Adds a probe, or a request, of which nothing is known so far.
    pub(super) fn add(&mut self, lost: bool) {
        self.0 = (self.0 << 1 | u32::from(lost)) & newest(SPARSE.1);
    }

    /// Marks the newest request that is not marked. The next ones may have arrived meanwhile: this one only
    /// leaves the window so much later.
    pub(super) fn mark(&mut self) {
        self.0 = (self.0 | (self.0 + 1)) & newest(SPARSE.1);
    }

    /// How many of the last [`RECENT`] are marked.
    pub(super) fn recent(self) -> u8 {
        let recent = self.0 & newest(u32::try_from(RECENT).unwrap_or(u32::MAX));
        u8::try_from(recent.count_ones()).unwrap_or(u8::MAX)
    }

    /// Whether so many are marked that the path loses packets, and one of them is recent.
    pub(super) fn shows_loss(self) -> bool {
        let reached = |(least, of): (u32, u32)| (self.0 & newest(of)).count_ones() >= least;
        reached(DENSE) || (reached(SPARSE) && self.recent() > 0)
    }
}

/// The lowest bits.
const fn newest(count: u32) -> u32 {
    (1 << count) - 1
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
    fn no_field_of_a_sample_changes_another() {
        let at = UNIX_EPOCH + Duration::from_millis(MAX_MILLIS);
        let micros = Duration::from_micros;
        let longest = (micros(MAX_MICROS), micros(MAX_MICROS));
        for port in [0, 1, u16::MAX] {
            let source_port = Some(port).filter(|port| *port != 0);
            let kernel = KernelView { source_port, ..KernelView::default() };
            for (connect, total) in [(micros(0), micros(1)), (micros(2), micros(3)), longest] {
                let timings = Timings { connect, response: total, total };
                let success = Sample::new(at, Ok(timings), total, kernel);
                assert_eq!(success.result(), Ok((connect, total)));
                assert_eq!((success.source_port(), success.failed_after()), (source_port, None));
                for reason in FailureReason::ALL {
                    let connected = Some(connect).filter(|connect| !connect.is_zero());
                    let kernel = KernelView { connect: connected, ..kernel };
                    let failure = Sample::new(at, Err(reason), total, kernel);
                    assert_eq!(failure.result(), Err(reason));
                    assert_eq!(failure.failed_after(), connected.map(|connect| (connect, total)));
                    assert_eq!(failure.source_port(), source_port);
                }
            }
        }
        let timings = Timings { connect: micros(7), response: micros(0), total: Duration::MAX };
        let sample = Sample::new(at, Ok(timings), Duration::MAX, KernelView::default());
        assert_eq!(sample.result(), Ok((micros(7), longest.1)), "cut");
    }

    #[test]
    fn a_marked_request_counts_until_as_many_others_have_come() {
        let mut window = LossWindow::default();
        window.add(false);
        window.mark();
        window.add(false);
        assert_eq!(window.recent(), 1);
        window.mark();
        assert_eq!(window.recent(), 2);
        for _ in 1..RECENT {
            window.add(false);
        }
        assert_eq!(window.recent(), 1);
        window.add(false);
        assert_eq!(window.recent(), 0);
        for _ in 0..2 * RECENT {
            window.mark();
        }
        assert_eq!(usize::from(window.recent()), RECENT);
    }
}
