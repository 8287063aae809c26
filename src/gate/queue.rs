//! The requests that wait for a lane, and which of them is next.
//!
//! Pure. Addresses take turns. One whose last response was read goes before one that is not known, and one
//! that stalled goes last: so a crowd of clients that read nothing delays a scraper by two responses at most.
//! Every other turn, one that is not known goes first: so no crowd that reads keeps it waiting.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::poll::ClientId;
use super::request::RequestHead;

/// Addresses whose standing is remembered, 20 bytes each: a crowd of 500 that reads in turns does not make a
/// scraper unknown between two scrapes.
const MAX_KNOWN: usize = 512;

/// How the last response to an address ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// The kernel took all of it.
    Read,
    Unknown,
    /// It was not read in time.
    Stalled,
}

struct Waiting {
    client: ClientId,
    address: IpAddr,
    request: RequestHead,
}

#[derive(Default)]
pub(super) struct FairQueue {
    waiting: VecDeque<Waiting>,
    /// The address served last is the last.
    known: VecDeque<(IpAddr, Standing)>,
    /// The next turn is that of an address that is not known, if one waits.
    unknown_first: bool,
}

impl FairQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Requests for this path.
    pub(super) fn count_of_path(&self, path: &str) -> usize {
        self.waiting.iter().filter(|waiting| waiting.request.path == path).count()
    }

    /// Appends a request. If more than `limit` wait, removes one and returns its client: of an address that
    /// stalled, else of the one that has most in the queue, else of those that read or those that are not
    /// known, whichever are more, the one served last. So neither crowd takes the places of the other, and a
    /// scraper, which asks seldom, keeps its own.
    pub(super) fn push(
        &mut self,
        client: ClientId,
        address: IpAddr,
        request: RequestHead,
        limit: usize,
    ) -> Option<ClientId> {
        self.waiting.push_back(Waiting { client, address, request });
        if self.waiting.len() <= limit {
            return None;
        }
        let standings = self.waiting.iter().map(|waiting| self.standing(waiting.address));
        let read = standings.filter(|standing| *standing == Standing::Read).count();
        let crowd = if read * 2 > self.waiting.len() { Standing::Read } else { Standing::Unknown };
        let claim = |address: IpAddr| {
            let all = self.waiting.iter().filter(|waiting| waiting.address == address);
            let standing = self.standing(address);
            let stalled = standing == Standing::Stalled;
            (stalled, all.count(), standing == crowd, self.last_turn(address))
        };
        // The last of equals, so that requests which wait already stay.
        let worst = (0..self.waiting.len())
            .max_by_key(|at| self.waiting.get(*at).map(|waiting| claim(waiting.address)))?;
        self.waiting.remove(worst).map(|waiting| waiting.client)
    }

    /// Takes the next request.
    pub(super) fn pop(&mut self) -> Option<(ClientId, RequestHead)> {
        let turn = |address: IpAddr| {
            let standing = match self.standing(address) {
                Standing::Unknown if self.unknown_first => Standing::Read,
                standing => standing,
            };
            (standing, self.last_turn(address))
        };
        let next = (0..self.waiting.len())
            .min_by_key(|at| self.waiting.get(*at).map(|waiting| turn(waiting.address)))?;
        let Waiting { client, address, request } = self.waiting.remove(next)?;
        self.unknown_first = !self.unknown_first;
        self.note(address, self.standing(address));
        Some((client, request))
    }

    /// Takes the oldest request, whatever its address.
    pub(super) fn pop_oldest(&mut self) -> Option<(ClientId, RequestHead)> {
        self.waiting.pop_front().map(|waiting| (waiting.client, waiting.request))
    }

    /// Drops the request of a client that has left.
    pub(super) fn remove(&mut self, client: ClientId) {
        self.waiting.retain(|waiting| waiting.client != client);
    }

    /// Remembers how the response to this address ended.
    pub(super) fn note(&mut self, address: IpAddr, standing: Standing) {
        self.known.retain(|(known, _)| *known != address);
        if self.known.len() >= MAX_KNOWN {
            // Addresses that never read must not push out one that does.
            let drop = self.known.iter().position(|(_, standing)| *standing != Standing::Read);
            self.known.remove(drop.unwrap_or(0));
        }
        self.known.push_back((address, standing));
    }

    /// The higher, the later the address was served; 0 for one that is not known.
    fn last_turn(&self, address: IpAddr) -> usize {
        self.known.iter().position(|(known, _)| *known == address).map_or(0, |at| at + 1)
    }

    fn standing(&self, address: IpAddr) -> Standing {
        let known = self.known.iter().find(|(known, _)| *known == address);
        known.map_or(Standing::Unknown, |(_, standing)| *standing)
    }
}

#[cfg(test)]
mod tests {
    use wylis_harness::bounds::worst_case;

    use super::super::request::HeadReader;
    use super::*;

    /// A queue whose clients are numbered in the order of their requests.
    struct Fixture {
        queue: FairQueue,
        next: ClientId,
        numbers: Vec<ClientId>,
    }

    impl Fixture {
        fn new() -> Self {
            Self { queue: FairQueue::default(), next: ClientId::FIRST, numbers: Vec::new() }
        }

        /// Returns the number of the request that had to go.
        fn push(&mut self, address: u16, limit: usize) -> Option<usize> {
            let head = HeadReader::default().read(b"GET /a HTTP/1.0\r\n\r\n").unwrap().unwrap();
            let id = self.next;
            self.numbers.push(id);
            self.next = id.next();
            let gone = self.queue.push(id, ip(address), head, limit);
            gone.map(|gone| self.number(gone))
        }

        fn pop(&mut self) -> Option<usize> {
            let (id, _) = self.queue.pop()?;
            Some(self.number(id))
        }

        fn number(&self, id: ClientId) -> usize {
            self.numbers.iter().position(|known| *known == id).unwrap()
        }
    }

    fn ip(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        [10, 0, high, low].into()
    }

    #[test]
    fn addresses_take_turns() {
        let mut fixture = Fixture::new();
        for address in [1, 1, 1, 2, 2, 3] {
            assert_eq!(fixture.push(address, 9), None);
        }
        let order: Vec<_> = std::iter::from_fn(|| fixture.pop()).collect();
        assert_eq!(order, [0, 3, 5, 1, 4, 2]);
    }

    #[test]
    fn an_address_that_reads_goes_before_any_number_that_do_not() {
        let mut fixture = Fixture::new();
        fixture.queue.note(ip(1), Standing::Read);
        // More than are remembered.
        for address in 2..700 {
            fixture.queue.note(ip(address), Standing::Stalled);
        }
        assert!(fixture.queue.known.len() as f64 <= worst_case("MAX_KNOWN"));
        for address in [698, 699, 800, 801, 1] {
            assert_eq!(fixture.push(address, 9), None);
        }
        let order: Vec<_> = std::iter::from_fn(|| fixture.pop()).collect();
        assert_eq!(order, [4, 2, 3, 0, 1]);
    }

    #[test]
    fn an_address_that_reads_and_floods_keeps_no_other_waiting() {
        let mut fixture = Fixture::new();
        fixture.queue.note(ip(1), Standing::Read);
        for _ in 0..4 {
            assert_eq!(fixture.push(1, 4), None);
        }
        // The newest of the address that fills the queue goes.
        assert_eq!(fixture.push(2, 4), Some(3));
        let mut order = Vec::new();
        while !order.contains(&Some(4)) && order.len() < 9 {
            order.push(fixture.pop());
            fixture.queue.note(ip(1), Standing::Read);
            fixture.push(1, 4);
        }
        assert_eq!(order, [Some(0), Some(4)], "a scraper that is not known yet");
    }

    #[test]
    fn a_full_queue_refuses_the_address_that_fills_it() {
        let mut fixture = Fixture::new();
        for _ in 0..4 {
            assert_eq!(fixture.push(1, 4), None);
        }
        assert_eq!(fixture.push(1, 4), Some(4), "itself");
        assert_eq!(fixture.push(2, 4), Some(3), "the newest of the other");
        assert_eq!(fixture.push(3, 4), Some(2));
        // One that reads is never refused for as many of others that do not.
        fixture.queue.note(ip(4), Standing::Read);
        assert_eq!([fixture.push(4, 4), fixture.push(5, 4)], [Some(1), Some(8)]);
        assert_eq!(fixture.push(4, 4), Some(9), "it has more than the others");
        fixture.queue.note(ip(2), Standing::Stalled);
        assert_eq!(fixture.push(4, 4), Some(5), "one that stalled goes first");
    }

    #[test]
    fn no_crowd_takes_the_place_of_a_scraper() {
        const SCRAPER: u16 = 1;
        // Addresses that read since the scraper did, and those that fill the queue: the same, or none that
        // is known.
        for (crowd, waiting) in [(30, 2..18), (300, 200..216), (700, 600..616), (300, 900..916)] {
            let mut fixture = Fixture::new();
            for address in SCRAPER..=1 + crowd {
                fixture.queue.note(ip(address), Standing::Read);
            }
            for address in waiting {
                assert_eq!(fixture.push(address, 16), None);
            }
            let refused = fixture.push(SCRAPER, 16);
            assert!(refused.is_some_and(|number| number < 16), "{crowd}: {refused:?}");
            let next = [fixture.pop(), fixture.pop()];
            assert!(next.contains(&Some(16)), "{crowd}: {next:?}");
        }
    }

    #[test]
    fn requests_of_clients_that_left_are_dropped() {
        let mut fixture = Fixture::new();
        fixture.push(1, 9);
        fixture.push(2, 9);
        fixture.queue.remove(fixture.numbers[0]);
        assert_eq!(fixture.queue.count_of_path("/a"), 1);
        assert_eq!([fixture.pop(), fixture.pop()], [Some(1), None]);
        assert!(fixture.queue.is_empty());
    }
}
