//! One lane's connection to the server, its queue, and the request in flight. Knows clients by their
//! numbers only.
//!
//! The connection is never closed or reopened. A response whose client has left is read to its end,
//! because the next one follows it.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::poll::{ClientId, Interest, Poll, Token};
use super::request::RequestHead;
use super::response::{BackendResponse, ResponseError};
use crate::route::Lane;

/// Requests that wait for the bulk lane; each may take its whole deadline.
const BULK_QUEUE: usize = 4;
/// Requests that wait for the gathered lane; most get what the first one gathered.
const GATHERED_QUEUE: usize = 16;
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
}

pub(super) struct Backend {
    lane: Lane,
    stream: UnixStream,
    /// Longest time without data while a response is due.
    timeout: Duration,
    queue: VecDeque<(ClientId, RequestHead)>,
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
        let queue = VecDeque::new();
        Ok(Self { lane, stream, timeout, queue, exchange: None, paused: false, sequence: 0 })
    }

    /// Appends a request; `false` if the queue is full. The small lane's queue is bounded by the
    /// number of connections.
    pub(super) fn enqueue(&mut self, client: ClientId, request: RequestHead) -> bool {
        let limit = match self.lane {
            Lane::Small => usize::MAX,
            Lane::Bulk => BULK_QUEUE,
            Lane::Gathered => GATHERED_QUEUE,
        };
        let fits = self.queue.len() < limit;
        if fits {
            self.queue.push_back((client, request));
        }
        fits
    }

    /// Sends the next request, unless one is in flight.
    pub(super) fn send_next(&mut self, now: Instant) -> Result<(), BackendError> {
        if self.exchange.is_some() {
            return Ok(());
        }
        let Some((client, request)) = self.queue.pop_front() else { return Ok(()) };
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
        self.queue.retain(|(waiting, _)| *waiting != client);
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
        self.restart_timeout(now);
        if std::mem::replace(&mut self.paused, paused) == paused {
            return Ok(());
        }
        let interest = if paused { Interest::Nothing } else { Interest::Read };
        poll.modify(&self.stream, Token::Lane(self.lane), interest)
    }

    /// Restarts the timeout of the response in flight.
    pub(super) fn restart_timeout(&mut self, now: Instant) {
        if let Some(exchange) = &mut self.exchange {
            exchange.progress = now;
        }
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

    use super::super::request::HeadReader;
    use super::*;
    use crate::shutdown::StopToken;

    const TIMEOUT: Duration = Duration::from_secs(15);

    fn backend() -> (Backend, UnixStream, Poll) {
        let (near, far) = UnixStream::pair().unwrap();
        let poll = Poll::new(&StopToken::new()).unwrap();
        (Backend::new(Lane::Bulk, near, TIMEOUT, &poll).unwrap(), far, poll)
    }

    fn request(path: &str) -> RequestHead {
        let text = format!("GET {path} HTTP/1.0\r\n\r\n");
        HeadReader::default().read(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_resumed_response_gets_the_whole_timeout_again() {
        let (mut backend, _far, poll) = backend();
        let start = Instant::now();
        assert!(backend.enqueue(ClientId::FIRST, request("/a")));
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
            assert!(backend.enqueue(id, request(path)));
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
}
