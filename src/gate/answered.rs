//! Sockets whose response and FIN are sent, until the client has received or refused them.
//!
//! A plain close would leave them to the kernel, where no limit counts them: it keeps the response and 6.5 KiB
//! for each client that vanished without a reset, for the whole [`USER_TIMEOUT`](super::USER_TIMEOUT).
//! They are watched by no epoll and no timer: a prober resets after a round trip, and the next response
//! finds that out. Knows neither clients nor lanes.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::Retransmitted;
use super::counters::{Counters, Rejection};
use crate::tcp_info::{self, Served};
use crate::wire::KeepAlive;

/// Most sockets: 10 KiB of kernel memory each with an unacknowledged probe response. 1,000 peers 200 ms
/// away keep 20.
pub(super) const MAX_ANSWERED: usize = 256;
/// Bytes of their kernel buffers: as many small responses, or 14 large ones, unread.
pub(super) const MAX_ANSWERED_BYTES: usize = 2 * 1024 * 1024;
/// The kernel charges buffers in pages, and reserves one.
const PAGE: usize = 4096;
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
    address: IpAddr,
    /// The sender of a blank request that may be proven.
    sender: Option<KeepAlive>,
    /// What its buffers may occupy.
    bytes: usize,
    since: Instant,
}

/// The state of one socket.
enum Delivery {
    /// The kernel holds a response that the client has not acknowledged.
    Pending,
    /// A close leaves nothing to the kernel; so many segments were lost on their way to the client.
    Delivered { lost: u32 },
}

impl Entry {
    fn delivery(&self) -> Delivery {
        let served = tcp_info::read_served(&self.socket);
        if served.is_none_or(Served::is_delivered) {
            Delivery::Delivered { lost: served.map_or(0, Served::lost) }
        } else {
            Delivery::Pending
        }
    }
}

/// What one address has of the queue.
#[derive(Default)]
struct Share {
    sockets: usize,
    bytes: usize,
}

/// The queue, the oldest first.
pub(super) struct Answered {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// A client that vanishes again and again ends no response of another address.
    by_address: BTreeMap<IpAddr, Share>,
    limit: usize,
    /// The entry to examine next: one client that does not acknowledge hides no other.
    next: usize,
    counters: Arc<Counters>,
    retransmitted: Retransmitted,
}

impl Answered {
    pub(super) fn new(limit: usize, counters: Arc<Counters>, retransmitted: Retransmitted) -> Self {
        let (entries, by_address) = (VecDeque::new(), BTreeMap::new());
        Self { entries, bytes: 0, by_address, limit, next: 0, counters, retransmitted }
    }

    /// Examines the next few sockets, and makes room for another one.
    pub(super) fn make_room(&mut self, now: Instant) {
        for _ in 0..EXAMINED.min(self.entries.len()) {
            self.next = if self.next < self.entries.len() { self.next } else { 0 };
            if !self.examine(self.next, now) {
                self.next += 1;
            }
        }
        while self.entries.len() >= self.limit && self.release() {}
    }

    /// Adds a socket whose kernel buffers hold up to `bytes` of data; [`Self::make_room`] comes before.
    pub(super) fn push(
        &mut self,
        socket: OwnedFd,
        (address, sender): (IpAddr, Option<KeepAlive>),
        bytes: usize,
        now: Instant,
    ) {
        let bytes = bytes.next_multiple_of(PAGE) + PAGE;
        self.bytes += bytes;
        let share = self.by_address.entry(address).or_default();
        share.sockets += 1;
        share.bytes += bytes;
        self.entries.push_back(Entry { socket, address, sender, bytes, since: now });
        while self.bytes > MAX_ANSWERED_BYTES && self.end_oldest_of_largest(|share| share.bytes) {}
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

    /// Frees a descriptor: the oldest socket of the address with the most; `false` if there is none.
    pub(super) fn release(&mut self) -> bool {
        self.end_oldest_of_largest(|share| share.sockets)
    }

    fn end_oldest_of_largest(&mut self, size: impl Fn(&Share) -> usize) -> bool {
        let largest = self.by_address.values().map(&size).max();
        let is_of_largest =
            |entry: &Entry| self.by_address.get(&entry.address).map(&size) == largest;
        self.entries.iter().position(is_of_largest).is_some_and(|at| self.end(at))
    }

    /// Ends a socket that is delivered or late; `false` if it stays. One TCP_INFO for most of them.
    fn examine(&mut self, at: usize, now: Instant) -> bool {
        let Some(entry) = self.entries.get(at) else { return false };
        let is_late = now.duration_since(entry.since) >= UNACKNOWLEDGED;
        match entry.delivery() {
            Delivery::Pending => is_late && self.end(at),
            Delivery::Delivered { lost } => self.finish(at, lost),
        }
    }

    /// Closes a socket that is delivered, and resets any other; `false` if there is none.
    fn end(&mut self, at: usize) -> bool {
        let Some(entry) = self.entries.get(at) else { return false };
        if let Delivery::Delivered { lost } = entry.delivery() {
            return self.finish(at, lost);
        }
        let Some(entry) = self.remove(at) else { return false };
        self.counters.reject(Rejection::ClientGone);
        // Fails only on a socket that is no longer connected.
        let _ = set_socket_linger(&entry.socket, Some(Duration::ZERO));
        true
    }

    /// Closes a socket that is delivered, and reports what was lost on the way. One that never is says
    /// nothing of the path: its client may have died, and its prober's own failures show it.
    fn finish(&mut self, at: usize, lost: u32) -> bool {
        let Some(entry) = self.remove(at) else { return false };
        if let Some(sender) = entry.sender.filter(|_| lost > 0) {
            (self.retransmitted)(sender, lost);
        }
        true
    }

    /// Takes a socket out of the queue and of the counts.
    fn remove(&mut self, at: usize) -> Option<Entry> {
        let entry = self.entries.remove(at)?;
        self.bytes -= entry.bytes;
        if let Some(share) = self.by_address.get_mut(&entry.address) {
            share.sockets -= 1;
            share.bytes -= entry.bytes;
            if share.sockets == 0 {
                self.by_address.remove(&entry.address);
            }
        }
        if self.next > at {
            self.next -= 1;
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use wylis_harness::bounds::worst_case;

    use super::*;

    /// The end of a connection whose peer has not closed.
    fn socket(listener: &TcpListener) -> (OwnedFd, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0.into(), client)
    }

    fn addresses(queue: &Answered) -> Vec<u8> {
        let last = |address: &IpAddr| address.to_string().rsplit('.').next().unwrap().parse();
        queue.entries.iter().map(|entry| last(&entry.address).unwrap()).collect()
    }

    #[test]
    fn the_address_with_the_most_makes_room_the_oldest_first() {
        let listener = TcpListener::bind("127.64.9.1:0").unwrap();
        let now = Instant::now();
        let mut queue = Answered::new(4, Arc::new(Counters::new(&[])), Box::new(|_, _| ()));
        let mut clients = Vec::new();
        let mut push = |queue: &mut Answered, address: u8, bytes| {
            let (server, client) = socket(&listener);
            clients.push(client);
            queue.make_room(now);
            queue.push(server, ([10, 0, 0, address].into(), None), bytes, now);
        };
        for address in [1, 2, 3, 4, 5] {
            push(&mut queue, address, 100);
        }
        assert_eq!(addresses(&queue), [2, 3, 4, 5]);
        push(&mut queue, 4, 100);
        assert_eq!(addresses(&queue), [3, 4, 5, 4]);
        push(&mut queue, 6, 100);
        assert_eq!(addresses(&queue), [3, 5, 4, 6], "the older of two");
        push(&mut queue, 3, MAX_ANSWERED_BYTES / 2);
        assert_eq!(addresses(&queue), [5, 4, 6, 3]);
        push(&mut queue, 9, MAX_ANSWERED_BYTES * 3 / 4);
        assert_eq!(addresses(&queue), [4, 6, 3], "the largest of all, too many or not");
        push(&mut queue, 5, 100);
        assert_eq!(addresses(&queue), [4, 6, 3, 5]);
        assert_eq!(queue.bytes, MAX_ANSWERED_BYTES / 2 + 7 * PAGE);
        while queue.release() {}
        assert_eq!((queue.bytes, queue.by_address.len(), queue.deadline()), (0, 0, None));
    }

    #[test]
    fn only_a_socket_that_is_delivered_or_late_ends() {
        let listener = TcpListener::bind("127.64.9.2:0").unwrap();
        let now = Instant::now();
        let counters = Arc::new(Counters::new(&[]));
        let mut queue = Answered::new(4, Arc::clone(&counters), Box::new(|_, _| ()));
        let ((open, _client), (ended, client)) = (socket(&listener), socket(&listener));
        queue.push(open, ([10, 0, 0, 1].into(), None), 100, now);
        queue.push(ended, ([10, 0, 0, 2].into(), None), 100, now);
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        queue.make_room(now);
        assert_eq!(addresses(&queue), [1]);
        let late = now + UNACKNOWLEDGED;
        queue.make_room(late - Duration::from_millis(1));
        queue.sweep(late);
        assert_eq!(addresses(&queue), [1]);
        assert_eq!(queue.deadline(), Some(now + SWEEP));
        queue.make_room(late);
        assert_eq!(addresses(&queue), [0_u8; 0]);
        assert!(late.duration_since(now).as_secs_f64() <= worst_case("UNACKNOWLEDGED"));
        assert_eq!(counters.rejected(Rejection::ClientGone), 1);
    }
}
