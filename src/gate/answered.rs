//! Sockets whose response and FIN are sent, until the client has received or refused them.
//!
//! A plain close would leave them to the kernel, where no limit counts them: it keeps the response and 6.5 KiB
//! for each client that vanished without a reset, for the whole [`USER_TIMEOUT`](super::USER_TIMEOUT).
//! They are watched by no epoll and no timer: a prober resets after a round trip, and the next response
//! finds that out. Knows neither clients nor lanes.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::counters::{Counters, Rejection};
use crate::tcp_info::{self, Info};

/// Most sockets: 10 KiB of kernel memory each with an unacknowledged probe response. 1,000 peers 200 ms
/// away keep 20.
pub(super) const MAX_ANSWERED: usize = 256;
/// Bytes of their kernel buffers: as many small responses, or 14 large ones, unread.
pub(super) const MAX_ANSWERED_BYTES: usize = 2 * 1024 * 1024;
/// The kernel charges buffers in pages, and reserves one.
const PAGE: usize = 4096;
/// A response in one page never makes room for a larger one: a probe does not end because of scrapes.
const SMALL: usize = 2 * PAGE;
/// Time for the acknowledgement. Covers three lost packets, and a prober has given up by then: it must
/// see its own timeout rather than a reset.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// Age at which the oldest socket wakes the gate. Longer than the default interval, and so than any pause
/// of a live mesh: the wake-up comes after the last probe only.
const SWEEP: Duration = Duration::from_secs(15);
/// Sockets examined when a connection ends: more than one, so that the queue shrinks.
const EXAMINED: usize = 2;

struct Entry {
    socket: OwnedFd,
    /// What its buffers may occupy.
    bytes: usize,
    since: Instant,
}

impl Entry {
    /// Whether a close leaves nothing to the kernel.
    fn is_delivered(&self) -> bool {
        tcp_info::read(&self.socket).is_none_or(Info::is_delivered)
    }
}

/// The queue, the oldest first.
pub(super) struct Answered {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
    /// The entry to examine next: one client that does not acknowledge hides no other.
    next: usize,
    counters: Arc<Counters>,
}

impl Answered {
    pub(super) fn new(limit: usize, counters: Arc<Counters>) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit, next: 0, counters }
    }

    /// Examines the next few sockets.
    pub(super) fn examine_some(&mut self, now: Instant) {
        for _ in 0..EXAMINED.min(self.entries.len()) {
            self.next = if self.next < self.entries.len() { self.next } else { 0 };
            if !self.examine(self.next, now) {
                self.next += 1;
            }
        }
    }

    /// Adds a socket whose kernel buffers hold up to `bytes` of data, and makes room for it.
    pub(super) fn push(&mut self, socket: OwnedFd, bytes: usize, now: Instant) {
        let bytes = bytes.next_multiple_of(PAGE) + PAGE;
        self.bytes += bytes;
        self.entries.push_back(Entry { socket, bytes, since: now });
        while self.entries.len() > self.limit {
            self.release();
        }
        while self.bytes > MAX_ANSWERED_BYTES {
            let large = self.entries.iter().position(|entry| entry.bytes > SMALL);
            self.end(large.unwrap_or(0));
        }
    }

    /// When the queue is to be swept, if no new socket comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.entries.front().map(|oldest| oldest.since + SWEEP)
    }

    /// Examines all sockets if the oldest is due.
    pub(super) fn sweep(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            for at in (0..self.entries.len()).rev() {
                self.examine(at, now);
            }
        }
    }

    /// Frees the descriptor of the oldest socket; `false` if there is none.
    pub(super) fn release(&mut self) -> bool {
        self.end(0)
    }

    /// Ends a socket that is delivered or late; `false` if it stays.
    fn examine(&mut self, at: usize, now: Instant) -> bool {
        let Some(entry) = self.entries.get(at) else { return false };
        let late = now.duration_since(entry.since) >= UNACKNOWLEDGED;
        (late || entry.is_delivered()) && self.end(at)
    }

    /// Closes a socket that is delivered, and resets any other; `false` if there is none.
    fn end(&mut self, at: usize) -> bool {
        let Some(entry) = self.entries.remove(at) else { return false };
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        if self.next > at {
            self.next -= 1;
        }
        if !entry.is_delivered() {
            self.counters.reject(Rejection::ClientGone);
            // Fails only on a socket that is no longer connected.
            let _ = set_socket_linger(&entry.socket, Some(Duration::ZERO));
        }
        true
    }
}
