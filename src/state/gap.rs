//! The longest time without a packet that went through, over about the last hour: whether the door was held.
//! Pure.
//!
//! A packet went through when a probe succeeded, or when a request came that is believed: either shows both
//! directions, since a request needs a handshake. Every pause counts, also one that was announced by a goodbye:
//! a path goes cold whatever the reason. It ends with the peer.

use std::time::{Duration, Instant};

/// The longest of each quarter of an hour is remembered: the current one and those before it, 45 to 60 minutes.
const QUARTERS: usize = 4;
/// A quarter of an hour in tenths of a second.
const QUARTER: u64 = 15 * 60 * 10;

/// The gaps of one pair, in 32 bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gaps {
    /// The last packet that went through; `None` before the first.
    last: Option<Last>,
    /// The longest gap that ended in each quarter, that of the last packet first, in tenths of a second. The
    /// longest possible is 1.8 hours.
    longest: [u16; QUARTERS],
}

#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    /// How far into its quarter it came, in tenths of a second.
    offset: u16,
}

impl Gaps {
    /// A packet went through.
    pub(super) fn pass(&mut self, now: Instant) {
        let Some(last) = self.last else {
            self.last = Some(Last { at: now, offset: 0 });
            return;
        };
        // Requests are counted late, as of their arrival.
        let now = now.max(last.at);
        let running = tenths(now - last.at);
        let offset = self.advance(last.offset, running);
        let [current, ..] = &mut self.longest;
        *current = u16::try_from(running).unwrap_or(u16::MAX).max(*current);
        self.last = Some(Last { at: now, offset });
    }

    /// The longest gap, the one that has not ended included; `None` before the first packet.
    pub(super) fn longest(mut self, now: Instant) -> Option<Duration> {
        let last = self.last?;
        let running = tenths(now.saturating_duration_since(last.at));
        self.advance(last.offset, running);
        let ended = self.longest.into_iter().max().unwrap_or(0);
        Some(Duration::from_millis(running.max(ended.into()).saturating_mul(100)))
    }

    /// Begins the quarter that is `running` after this offset in the current one; returns the offset in it.
    fn advance(&mut self, offset: u16, running: u64) -> u16 {
        let into = u64::from(offset).saturating_add(running);
        for _ in 0..(into / QUARTER).min(QUARTERS as u64) {
            self.longest.rotate_right(1);
            let [current, ..] = &mut self.longest;
            *current = 0;
        }
        u16::try_from(into % QUARTER).unwrap_or(0)
    }
}

fn tenths(span: Duration) -> u64 {
    u64::try_from(span.as_millis() / 100).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_gap_shows_while_it_grows_and_for_about_an_hour() {
        let start = Instant::now();
        let mut gaps = Gaps::default();
        assert_eq!(gaps.longest(start), None, "nothing has gone through");
        let mut now = start;
        for _ in 0..90 {
            gaps.pass(now);
            now += seconds(10);
        }
        assert_eq!(gaps.longest(now), Some(seconds(10)));
        assert_eq!(gaps.longest(now + seconds(25)), Some(seconds(35)), "it grows");
        let ended = now + seconds(30);
        gaps.pass(ended);
        now = ended;
        while now < ended + seconds(45 * 60) {
            now += seconds(10);
            gaps.pass(now);
            assert_eq!(gaps.longest(now), Some(seconds(40)), "after {:?}", now - ended);
        }
        now = ended + seconds(60 * 60);
        gaps.pass(now);
        assert_eq!(gaps.longest(now + seconds(3)), Some(seconds(15 * 60)));
    }

    #[test]
    fn a_request_that_is_counted_late_ends_no_gap_twice() {
        let start = Instant::now();
        let mut gaps = Gaps::default();
        gaps.pass(start);
        gaps.pass(start + seconds(12));
        gaps.pass(start + seconds(11));
        assert_eq!(gaps.longest(start + seconds(20)), Some(seconds(12)));
        gaps.pass(start + Duration::from_millis(20_249));
        assert_eq!(gaps.longest(start + seconds(21)), Some(seconds(12)));
    }

    proptest! {
        #[test]
        fn it_covers_three_quarters_of_the_last_hour_and_no_more_than_the_hour(
            pauses in proptest::collection::vec(prop_oneof![0..60_u64, 0..9000_u64], 1..60),
            after in 0..9000_u64,
        ) {
            let start = Instant::now();
            let (mut gaps, mut now) = (Gaps::default(), start);
            let mut ended = Vec::new();
            gaps.pass(now);
            for pause in pauses {
                now += seconds(pause);
                gaps.pass(now);
                ended.push((now, seconds(pause)));
            }
            let (last, now) = (now, now + seconds(after));
            let within = |span: Duration| {
                let recent = ended.iter().filter(|(end, _)| now - *end <= span);
                recent.map(|(_, gap)| *gap).chain([now - last]).max().unwrap()
            };
            let longest = gaps.longest(now).unwrap();
            let longest_possible = Duration::from_millis(100) * u16::MAX.into();
            let least = within(seconds(45 * 60)).min(longest_possible.max(now - last));
            prop_assert!(longest >= least, "{:?}", longest);
            prop_assert!(longest <= within(seconds(60 * 60)), "{:?}", longest);
        }
    }
}
