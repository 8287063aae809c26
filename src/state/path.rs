//! What the recent probes of a peer tell of the path to it: losses, slowness, and something that answers in
//! its place. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::samples::Sample;

/// The kernel's first timer of a SYN (TCP_TIMEOUT_INIT), and the shortest one of data (TCP_RTO_MIN).
const SYN_TIMER: Duration = Duration::from_secs(1);
const DATA_TIMER: Duration = Duration::from_millis(200);
/// The round trip of one segment may be longer than the known one by half of that, and by this part of the timer
/// at most, until it counts as an answer to a retransmit.
const JITTER_PART: u32 = 4;

/// So many of the last probes must have connected too late for a peer that is slow. One before may have seen the
/// path become slow.
const SLOW_PROBES: usize = 3;
/// Fewest of them that connected at all: one may have lost its first SYNs, and where the timeout is longer than
/// the interval, one makes a peer down.
const MIN_SLOW_PROBES: usize = 2;

/// Fewest successes that show something which answers handshakes: three minutes at the default interval show
/// twice as many.
const MIN_INTERCEPTED: usize = 10;
/// How many times as long as every handshake every response must take then, and how much longer: an agent on the
/// slowest boards answers within 5 ms at a round trip of 0.3 ms, and a proxy on this side of a satellite saves
/// hundreds of milliseconds.
const INTERCEPTED_RATIO: u32 = 5;
const INTERCEPTED_GAP: Duration = Duration::from_millis(20);

/// Whether a success at `index` needed a retransmit because a segment was lost, and not because the answer takes
/// longer than the kernel's timer.
///
/// Without a loss, the exchange took one round trip, whatever was sent meanwhile. With a loss, it took the timer
/// as well, since only the retransmitted segment was answered. The round trip is that of the other half of the
/// probe (the shortest of its handshake and its response); or that of the probes before and after, if both were
/// faster: a busy agent may take long for one response.
pub(super) fn lost(recent: &VecDeque<Sample>, index: usize) -> bool {
    let Some(sample) = recent.get(index).filter(|sample| sample.retransmits() > 0) else {
        return false;
    };
    let Some((connect, response)) = sample.round_trips() else { return false };
    let shortest = |sample: &Sample| sample.round_trips().map(|(one, other)| one.min(other));
    let before = recent.iter().take(index).rev().find_map(shortest);
    let after = recent.iter().skip(index + 1).find_map(shortest);
    let around = before.zip(after).map(|(before, after)| before.max(after));
    let round_trip = |other: Duration| around.map_or(other, |around| around.min(other));
    let syns = sample.syn_retransmits();
    (syns > 0 && took_timer(connect, round_trip(response), SYN_TIMER))
        || (sample.retransmits() > syns && took_timer(response, round_trip(connect), DATA_TIMER))
}

/// Whether an exchange of this duration contains a timer, if the round trip is so long.
fn took_timer(exchange: Duration, round_trip: Duration, timer: Duration) -> bool {
    let jitter = (round_trip / 2).min(timer / JITTER_PART);
    // A timer that is much longer than the round trip expires only after a loss.
    round_trip * 2 < timer || exchange + jitter >= round_trip + timer
}

/// The round trip of a peer whose probes since the last success failed although they connected; `None` unless
/// twice of it, handshake and exchange, exceeds the time that each of them had.
pub(super) fn too_slow(recent: &VecDeque<Sample>) -> Option<Duration> {
    let failures = recent.iter().rev().take_while(|sample| sample.failure().is_some());
    let (mut shortest, mut late) = (None, 0);
    for (connect, took) in failures.filter_map(Sample::failed_after).take(SLOW_PROBES) {
        if connect * 2 <= took {
            return None;
        }
        shortest = Some(shortest.map_or(connect, |known: Duration| known.min(connect)));
        late += 1;
    }
    shortest.filter(|_| late >= MIN_SLOW_PROBES)
}

/// Whether something completes handshakes in place of the peer: every handshake was far faster than every
/// response.
pub(super) fn is_intercepted(recent: &VecDeque<Sample>) -> bool {
    let shows = |(connect, response): (Duration, Duration)| {
        connect * INTERCEPTED_RATIO <= response && connect + INTERCEPTED_GAP <= response
    };
    let exchanges = || recent.iter().filter_map(Sample::round_trips);
    // Asked after each probe: of nearly all peers, the last one says no.
    if !exchanges().next_back().is_some_and(shows) {
        return false;
    }
    let (Some(connect), Some(response)) = (
        exchanges().map(|(connect, _)| connect).max(),
        exchanges().map(|(_, response)| response).min(),
    ) else {
        return false;
    };
    exchanges().count() >= MIN_INTERCEPTED && shows((connect, response))
}
