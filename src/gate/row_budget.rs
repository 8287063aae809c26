//! How many rows are sent, how many past matrices are collected, and for which addresses. Pure.
//!
//! A request for the matrix makes one for each peer: without a bound, requests to every agent in turn would
//! grow with the cube of the nodes. A part of each bound is reserved for addresses that ask as seldom as a
//! collector, so that one host that floods hides no row from the agents. Rows of the past have a bound of their
//! own: a page that moves through the day asks for many, and must hide none of now. Since each second is another
//! matrix, the cache of the collector does not bound those.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::route::Route;

/// Rows that an agent sends in a second: twice those of ten pages on ten agents that refresh as fast as
/// a matrix is collected.
const ROWS_PER_SECOND: u32 = 4;
/// Rows at once, after a pause: all of these collections may fall together.
const ROWS_BURST: u32 = 40;
/// The part of these for addresses that got none lately.
const RESERVED: u32 = 20;
/// Matrices of the past that an agent collects in a second: a page that moves through the day needs no more.
const PAST_MATRICES_PER_SECOND: u32 = 4;
/// The same at once, after a pause.
const PAST_MATRICES_BURST: u32 = 20;
/// Rows of the past that an agent sends in a second: those of ten agents that collect as fast as they may. Each
/// is rendered anew, and its answer takes 0.5 ms at 100 peers.
const PAST_ROWS_PER_SECOND: u32 = 40;
/// The same at once, after a pause.
const PAST_ROWS_BURST: u32 = 200;
/// How long an address is remembered that got a row: a collector asks once in 5 s.
const LATELY: Duration = Duration::from_secs(4);

/// The bounds of all routes that have one.
pub(super) struct RowBudgets {
    rows: RowBudget,
    past_rows: RowBudget,
    past_matrices: RowBudget,
}

impl Default for RowBudgets {
    fn default() -> Self {
        Self {
            rows: RowBudget::new(ROWS_PER_SECOND, [ROWS_BURST, RESERVED]),
            past_rows: RowBudget::new(PAST_ROWS_PER_SECOND, [PAST_ROWS_BURST, RESERVED]),
            past_matrices: RowBudget::new(
                PAST_MATRICES_PER_SECOND,
                [PAST_MATRICES_BURST, PAST_MATRICES_BURST / 2],
            ),
        }
    }
}

impl RowBudgets {
    /// Takes an answer of this route for this address; `false` if none is left for it.
    pub(super) fn take(&mut self, route: &Route, address: IpAddr, now: Instant) -> bool {
        let budget = match route {
            Route::Row | Route::RowOf(_) => &mut self.rows,
            Route::PastRow(_) | Route::PastRowOf(..) | Route::Faults | Route::FaultsOf(_) => {
                &mut self.past_rows
            }
            Route::PastMatrix(_) => &mut self.past_matrices,
            _ => return true,
        };
        budget.take(address, now)
    }
}

/// A token bucket, kept as the time at which it is full again.
struct RowBudget {
    spacing: Duration,
    burst: u32,
    /// The part of the burst for addresses that got none lately.
    reserved: u32,
    full_at: Option<Instant>,
    /// Who got a row lately, the last at the end: as many as are sent in that time.
    served: VecDeque<(Instant, IpAddr)>,
}

impl RowBudget {
    fn new(per_second: u32, [burst, reserved]: [u32; 2]) -> Self {
        let spacing = Duration::from_secs(1) / per_second.max(1);
        Self { spacing, burst, reserved, full_at: None, served: VecDeque::new() }
    }

    /// Takes a row for this address; `false` if none is left for it.
    fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let is_old = |(at, _): &(Instant, IpAddr)| now.duration_since(*at) >= LATELY;
        while self.served.front().is_some_and(is_old) {
            self.served.pop_front();
        }
        let again = self.served.iter().any(|(_, served)| *served == address);
        let burst = if again { self.burst - self.reserved } else { self.burst };
        let spacing = self.spacing;
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
mod tests;
