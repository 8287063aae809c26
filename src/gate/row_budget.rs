//! How many rows are sent, and to which addresses. Pure.
//!
//! A request for the matrix makes one for each peer: without a bound, requests to every agent in turn would
//! grow with the cube of the nodes. A part of the bound is reserved for addresses that ask as seldom as a
//! collector, so that one host that floods hides no row from the agents.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Rows that an agent sends in a second: twice those of ten pages on ten agents that refresh as fast as
/// a matrix is collected.
const ROWS_PER_SECOND: u32 = 4;
/// Rows at once, after a pause: all of these collections may fall together.
const ROWS_BURST: u32 = 40;
/// The part of these for addresses that got none lately.
const RESERVED: u32 = 20;
/// How long an address is remembered that got a row: a collector asks once in 5 s.
const LATELY: Duration = Duration::from_secs(4);

/// A token bucket, kept as the time at which it is full again.
#[derive(Default)]
pub(super) struct RowBudget {
    full_at: Option<Instant>,
    /// Who got a row lately, the last at the end: as many as are sent in that time.
    served: VecDeque<(Instant, IpAddr)>,
}

impl RowBudget {
    /// Takes a row for this address; `false` if none is left for it.
    pub(super) fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let is_old = |(at, _): &(Instant, IpAddr)| now.duration_since(*at) >= LATELY;
        while self.served.front().is_some_and(is_old) {
            self.served.pop_front();
        }
        let again = self.served.iter().any(|(_, served)| *served == address);
        let burst = if again { ROWS_BURST - RESERVED } else { ROWS_BURST };
        let spacing = Duration::from_secs(1) / ROWS_PER_SECOND;
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + spacing;
        let available = full_at.duration_since(now) <= spacing * burst;
        if available {
            self.full_at = Some(full_at);
            self.served.push_back((now, address));
        }
        available
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn a_host_that_floods_takes_no_row_from_collectors() {
        let (mut budget, start) = (RowBudget::default(), Instant::now());
        let mut flooder = 0;
        for at in 0..60_000_u64 {
            let now = start + Duration::from_millis(at);
            flooder += u32::from(budget.take(ip(0), now));
            // 18 agents, each once in 5 s, all at the same time.
            if at % 5000 == 2500 {
                let served = (1..=18).filter(|agent| budget.take(ip(*agent), now)).count();
                assert_eq!(served, 18, "after {at} ms");
            }
        }
        assert!(flooder <= 60 * ROWS_PER_SECOND - 12 * 18 + ROWS_BURST, "{flooder}");
    }

    #[test]
    fn ten_pages_on_ten_agents_always_get_the_row() {
        for shared in [false, true] {
            let (mut budget, start) = (RowBudget::default(), Instant::now());
            for round in 0..20 {
                let now = start + Duration::from_secs(5) * round;
                // Addresses may be rewritten to one.
                let served =
                    (0..10).filter(|agent| budget.take(ip(agent * u8::from(!shared)), now));
                assert_eq!(served.count(), 10, "{round}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_pattern_of_requests_exceeds_burst_and_rate(
            requests in prop::collection::vec((0_u64..700, 0_u8..30), 1..300),
        ) {
            let (mut budget, start) = (RowBudget::default(), Instant::now());
            let (mut at, mut taken) = (0, 0);
            for (pause, address) in requests {
                at += pause;
                taken += u64::from(budget.take(ip(address), start + Duration::from_millis(at)));
                prop_assert!(taken <= u64::from(ROWS_BURST) + at * u64::from(ROWS_PER_SECOND) / 1000);
                prop_assert!(budget.served.len() <= 40 + 4 * 4, "as many as are sent in {LATELY:?}");
            }
        }
    }
}
