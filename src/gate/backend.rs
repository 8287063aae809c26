//! One lane's connection to the server, its queue, and the request in flight. Knows clients by their
//! numbers only.
//!
//! The connection is never closed or reopened. A response whose client has left is read to its end,
//! because the next one follows it.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::fairness::Window;
use super::poll::{ClientId, Interest, Poll, Token};
use super::queue::{FairQueue, Standing};
use super::request::RequestHead;
use super::response::{BackendResponse, ResponseError};
use crate::route::Lane;

/// Requests that wait for the bulk lane. Each takes milliseconds, unless its reader is slow.
const BULK_QUEUE: usize = 16;
/// Requests that wait for the gathered lane; most get what the first one gathered.
const GATHERED_QUEUE: usize = 16;
/// Requests that wait for the lane of pairs. Each takes 2 s if its source does not respond.
const PAIR_QUEUE: usize = 8;
/// Of these, requests for the same pair.
const SAME_PAIR: usize = 2;
/// Longest response of the small lane, which is buffered as a whole.
const MAX_SMALL_RESPONSE: usize = 16 * 1024;

/// Why a lane failed, which ends the process.
#[derive(Debug, thiserror::Error)]
pub(super) enum BackendError {
    #[error("connection closed by the server")]
    Closed,
    #[error("receive: {0}")]
    Receive(Errno),
    /// A request always fits the empty send buffer.
    #[error("send: {0}")]
    Send(Errno),
    #[error("send: only a part of the request was taken")]
    PartialSend,
    #[error("data without a request")]
    Unrequested,
    #[error("invalid response: {0}")]
    Response(#[from] ResponseError),
    #[error("response longer than {MAX_SMALL_RESPONSE} bytes")]
    TooLong,
    #[error("response overdue")]
    Overdue,
}

/// A piece of a response, for its client.
pub(super) struct Part {
    pub(super) client: ClientId,
    pub(super) code: u16,
    /// The first piece of the response.
    pub(super) first: bool,
    /// The last piece of the response.
    pub(super) complete: bool,
    pub(super) bytes: Vec<u8>,
}

struct Exchange {
    /// `None` once the client has left.
    client: Option<ClientId>,
    response: BackendResponse,
    /// Bytes received and not yet handed out.
    received: Vec<u8>,
    started: bool,
    /// When data last arrived, or when the timeout was last restarted.
    progress: Instant,
    /// While others wait for a client that does not keep up.
    window: Option<Window>,
}

pub(super) struct Backend {
    lane: Lane,
    stream: UnixStream,
    /// Longest time without data while a response is due.
    timeout: Duration,
    queue: FairQueue,
    exchange: Option<Exchange>,
    /// Not read, because the client does not read.
    paused: bool,
    sequence: u64,
}

impl Backend {
    pub(super) fn new(
        lane: Lane,
        stream: UnixStream,
        timeout: Duration,
        poll: &Poll,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        poll.add(&stream, Token::Lane(lane), Interest::Read)?;
        let queue = FairQueue::default();
        Ok(Self { lane, stream, timeout, queue, exchange: None, paused: false, sequence: 0 })
    }

    /// Appends a request; returns the client to refuse if the queue is full. The small lane's queue is
    /// bounded by the number of connections.
    pub(super) fn enqueue(
        &mut self,
        client: ClientId,
        address: IpAddr,
        request: RequestHead,
    ) -> Option<ClientId> {
        let limit = match self.lane {
            Lane::Small => usize::MAX,
            Lane::Bulk => BULK_QUEUE,
            Lane::Gathered => GATHERED_QUEUE,
            Lane::Pair if self.queue.count_of_path(&request.path) >= SAME_PAIR => {
                return Some(client);
            }
            Lane::Pair => PAIR_QUEUE,
        };
        self.queue.push(client, address, request, limit)
    }

    /// Remembers whether the response to this address was read.
    pub(super) fn note(&mut self, address: IpAddr, standing: Standing) {
        self.queue.note(address, standing);
    }

    /// The client of the response in flight.
    pub(super) fn client(&self) -> Option<ClientId> {
        self.exchange.as_ref().and_then(|exchange| exchange.client)
    }

    /// Whether the server cannot wait for the client of the response in flight.
    pub(super) fn is_unpaused(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.response.is_unpaused())
    }

    /// Whether requests wait for the response in flight.
    pub(super) fn is_contended(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a request waits though no response is in flight: for room.
    pub(super) fn is_idle_and_contended(&self) -> bool {
        self.exchange.is_none() && self.is_contended()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the client of the response in flight, of which the kernel has taken this much, holds up
    /// others without progress.
    pub(super) fn has_stalled(&mut self, taken: usize, now: Instant) -> bool {
        let contended = self.paused && self.is_contended();
        let Some(exchange) = &mut self.exchange else { return false };
        if self.queue.is_empty() {
            exchange.window = None;
        }
        let window = exchange.window.or_else(|| contended.then(|| Window::new(now, taken)));
        exchange.window = window;
        let Some(window) = window.filter(|window| window.end() <= now) else { return false };
        exchange.window = Some(Window::new(now, taken));
        contended && window.has_stalled(taken)
    }

    /// Sends the next request, unless one is in flight.
    pub(super) fn send_next(&mut self, now: Instant) -> Result<(), BackendError> {
        if self.exchange.is_some() {
            return Ok(());
        }
        let next = match self.lane {
            Lane::Small => self.queue.pop_oldest(),
            Lane::Bulk | Lane::Gathered | Lane::Pair => self.queue.pop(),
        };
        let Some((client, request)) = next else { return Ok(()) };
        self.sequence += 1;
        let text = request.render(self.sequence);
        match send(&self.stream, text.as_bytes(), SendFlags::NOSIGNAL) {
            Ok(sent) if sent == text.len() => {}
            Ok(_) => return Err(BackendError::PartialSend),
            Err(error) => return Err(BackendError::Send(error)),
        }
        self.exchange = Some(Exchange {
            client: Some(client),
            response: BackendResponse::new(self.sequence, &request),
            received: Vec::new(),
            started: false,
            progress: now,
            window: None,
        });
        Ok(())
    }

    /// Reads the connection; a small response is handed out as a whole.
    pub(super) fn receive(
        &mut self,
        scratch: &mut [u8],
        now: Instant,
    ) -> Result<Option<Part>, BackendError> {
        let count = match recv(&self.stream, &mut *scratch, RecvFlags::empty()) {
            Ok((_, 0)) => return Err(BackendError::Closed),
            Ok((_, count)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(BackendError::Receive(error)),
        };
        let exchange = self.exchange.as_mut().ok_or(BackendError::Unrequested)?;
        exchange.progress = now;
        let bytes = scratch.get(..count).unwrap_or_default();
        let complete = exchange.response.feed(bytes, &mut exchange.received)?;
        if exchange.client.is_none() {
            exchange.received.clear();
        }
        let small = self.lane == Lane::Small;
        if small && exchange.received.len() > MAX_SMALL_RESPONSE {
            return Err(BackendError::TooLong);
        }
        let part = match (exchange.client, exchange.response.code()) {
            (Some(client), Some(code)) if complete || !small => Some(Part {
                client,
                code,
                first: !std::mem::replace(&mut exchange.started, true),
                complete,
                bytes: std::mem::take(&mut exchange.received),
            }),
            _ => None,
        };
        if complete {
            self.exchange = None;
        }
        Ok(part)
    }

    /// The client has left: drops its request, or reads its response to the end.
    pub(super) fn abandon(
        &mut self,
        client: ClientId,
        poll: &Poll,
        now: Instant,
    ) -> Result<(), Errno> {
        self.queue.remove(client);
        match &mut self.exchange {
            Some(exchange) if exchange.client == Some(client) => exchange.client = None,
            _ => return Ok(()),
        }
        self.set_paused(false, poll, now)
    }

    /// Stops reading the connection, or reads it again.
    pub(super) fn set_paused(
        &mut self,
        paused: bool,
        poll: &Poll,
        now: Instant,
    ) -> Result<(), Errno> {
        if std::mem::replace(&mut self.paused, paused) == paused {
            return Ok(());
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.progress = now;
        }
        let interest = if paused { Interest::Nothing } else { Interest::Read };
        poll.modify(&self.stream, Token::Lane(self.lane), interest)
    }

    /// Restarts the timeout of the response in flight, and the observation of its client.
    pub(super) fn restart_timeout(&mut self, now: Instant) {
        if let Some(exchange) = &mut self.exchange {
            exchange.progress = now;
            exchange.window = None;
        }
    }

    /// When [`Self::has_stalled`] judges next.
    pub(super) fn judged_at(&self) -> Option<Instant> {
        let exchange = self.exchange.as_ref().filter(|exchange| exchange.client.is_some())?;
        Some(exchange.window?.end())
    }

    /// When the response in flight is overdue.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let exchange = self.exchange.as_ref().filter(|_| !self.paused)?;
        Some(exchange.progress + self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use wylis_harness::bounds::worst_case;

    use super::super::request::HeadReader;
    use super::*;
    use crate::shutdown::StopToken;

    const TIMEOUT: Duration = Duration::from_secs(15);

    fn backend() -> (Backend, UnixStream, Poll) {
        let (near, far) = UnixStream::pair().unwrap();
        let poll = Poll::new(&StopToken::new()).unwrap();
        (Backend::new(Lane::Bulk, near, TIMEOUT, &poll).unwrap(), far, poll)
    }

    fn enqueue(backend: &mut Backend, client: ClientId, path: &str) -> Option<ClientId> {
        let text = format!("GET {path} HTTP/1.0\r\n\r\n");
        let request = HeadReader::default().read(text.as_bytes()).unwrap().unwrap();
        backend.enqueue(client, [10, 0, 0, 1].into(), request)
    }

    #[test]
    fn a_resumed_response_gets_the_whole_timeout_again() {
        let (mut backend, _far, poll) = backend();
        let start = Instant::now();
        assert_eq!(enqueue(&mut backend, ClientId::FIRST, "/a"), None);
        assert_eq!(backend.deadline(), None);
        backend.send_next(start).unwrap();
        assert_eq!(backend.deadline(), Some(start + TIMEOUT));
        backend.set_paused(true, &poll, start).unwrap();
        assert_eq!(backend.deadline(), None);
        let later = start + 2 * TIMEOUT;
        backend.set_paused(false, &poll, later).unwrap();
        assert_eq!(backend.deadline(), Some(later + TIMEOUT));
    }

    #[test]
    fn requests_of_clients_that_left_are_not_sent() {
        let (mut backend, mut far, poll) = backend();
        let now = Instant::now();
        let ids = [ClientId::FIRST, ClientId::FIRST.next(), ClientId::FIRST.next().next()];
        for (id, path) in ids.into_iter().zip(["/a", "/b", "/c"]) {
            assert_eq!(enqueue(&mut backend, id, path), None);
        }
        let mut received = [0; 512];
        backend.send_next(now).unwrap();
        assert!(far.read(&mut received).unwrap() > 0 && received.starts_with(b"GET /a "));
        for id in [ids[0], ids[1]] {
            backend.abandon(id, &poll, now).unwrap();
        }
        far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nWylis-Sequence: 1\r\n\r\na")
            .unwrap();
        // The response is read to its end, but not handed out.
        assert!(backend.receive(&mut [0; 512], now).unwrap().is_none());
        backend.send_next(now).unwrap();
        assert!(far.read(&mut received).unwrap() > 0 && received.starts_with(b"GET /c "));
    }

    #[test]
    fn a_reader_without_progress_yields_when_others_wait() {
        const DRIP: usize = 1000;
        let (mut backend, _far, poll) = backend();
        let start = Instant::now();
        assert_eq!(enqueue(&mut backend, ClientId::FIRST, "/a"), None);
        backend.send_next(start).unwrap();
        backend.set_paused(true, &poll, start).unwrap();
        // With none waiting, it may take its time.
        assert!(!backend.has_stalled(0, start + TIMEOUT));
        assert_eq!(backend.judged_at(), None);
        assert_eq!(enqueue(&mut backend, ClientId::FIRST.next(), "/b"), None);
        let since = start + TIMEOUT;
        let mut taken = 0;
        // While it makes progress, it stays.
        for second in [0, 2, 4] {
            let now = since + Duration::from_secs(second);
            assert!(!backend.has_stalled(taken, now), "{second}");
            taken += 1024 * 1024;
        }
        taken -= 1024 * 1024;
        let last = since + Duration::from_secs(4);
        let end = backend.judged_at().unwrap();
        let held = end.duration_since(last).as_secs_f64();
        assert!(held <= worst_case("YIELD_AFTER"), "{held}");
        let mut now = last;
        while now < end {
            assert!(!backend.has_stalled(taken, now));
            (now, taken) = (now + Duration::from_millis(100), taken + DRIP);
        }
        assert!(backend.has_stalled(taken, end), "a drip is no progress");
        backend.abandon(ClientId::FIRST, &poll, end).unwrap();
        assert_eq!(backend.judged_at(), None, "or the loop would spin");
    }

    #[test]
    fn each_queue_is_bounded() {
        let poll = Poll::new(&StopToken::new()).unwrap();
        let waiting = |lane, path: fn(usize) -> String| {
            let (near, _far) = UnixStream::pair().unwrap();
            let mut backend = Backend::new(lane, near, TIMEOUT, &poll).unwrap();
            let mut id = ClientId::FIRST;
            let accepted = (0..100).filter(|number| {
                id = id.next();
                enqueue(&mut backend, id, &path(*number)).is_none()
            });
            accepted.count() as f64
        };
        assert!(waiting(Lane::Bulk, |_| "/a".into()) <= worst_case("BULK_QUEUE"));
        assert!(waiting(Lane::Gathered, |_| "/a".into()) <= worst_case("GATHERED_QUEUE"));
        assert!(waiting(Lane::Pair, |number| format!("/{number}")) <= worst_case("PAIR_QUEUE"));
        assert!(waiting(Lane::Pair, |_| "/a".into()) <= worst_case("SAME_PAIR"));
    }
}
