//! Documents of other agents: many at once on the caller's thread, each by a GET over a new
//! connection, with its own deadline and size limit. Content comes compressed from agents that can. It
//! knows no route, reads no document, and uses no worker, so that it delays no probe.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags};

use super::answer::{Expected, Parsed, parse};
use super::deadline_stream::{DeadlineStream, LATE, wait_for_any};
use super::failure::{Step, classify};
use crate::gzip::{self, GzipError};
use crate::name::NodeName;
use crate::probe::{FailureReason, LocalError, Outcome};
use crate::wire::MAX_ANSWER;

/// A document to fetch.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The node that must answer; any node for `None`.
    pub node: Option<NodeName>,
    /// The agent's address.
    pub address: SocketAddr,
    /// Path and query, in characters that the gate accepts.
    pub path: String,
    /// Timeout of this fetch; the deadline of the whole round applies as well.
    pub timeout: Duration,
    /// Largest size of the document, as sent and as inflated.
    pub max_bytes: usize,
}

/// Why a fetch failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchError {
    /// A failure of the peer or the path.
    Failure(FailureReason),
    /// A failure of this host.
    Local(LocalError),
    /// The document is larger than `max_bytes`.
    TooLarge,
    /// The answer has this status instead of 200.
    Status(u16),
}

/// When a document was made that tells its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its age when it was sent, in milliseconds.
    pub age: u64,
    /// When it arrived, by the clock of this host.
    pub arrival: SystemTime,
    /// From the request to its arrival.
    pub took: Duration,
}

/// A source of fetches that receives their results.
pub trait FetchJob {
    /// The next fetch; called when another one may start.
    fn next(&mut self) -> Option<Fetch>;
    /// Takes the result of a fetch.
    fn finished(&mut self, fetch: Fetch, result: Result<Vec<u8>, FetchError>);
    /// Takes when the document of a node was made, after the result.
    fn made(&mut self, _node: &NodeName, _origin: Origin) {}
}

/// Runs all fetches of a job, at most `concurrency` at once. At the deadline, those in progress time
/// out, and no further one starts.
pub fn fetch_all(job: &mut dyn FetchJob, concurrency: usize, deadline: Instant) {
    let mut transfers: Vec<Transfer> = Vec::new();
    loop {
        while transfers.len() < concurrency.max(1) && Instant::now() < deadline {
            let Some(fetch) = job.next() else { break };
            match connect(&fetch, deadline) {
                Ok(stream) => transfers.push(Transfer::new(fetch, stream)),
                Err(error) => job.finished(fetch, Err(error)),
            }
        }
        let Some(first) = transfers.iter().map(|transfer| transfer.stream.deadline).min() else {
            return;
        };
        let mut sockets: Vec<PollFd<'_>> = transfers.iter().map(Transfer::poll_fd).collect();
        let waited = wait_for_any(&mut sockets, first);
        let ready: Vec<bool> = sockets.iter().map(|socket| !socket.revents().is_empty()).collect();
        let now = Instant::now();
        for (mut transfer, ready) in std::mem::take(&mut transfers).into_iter().zip(ready) {
            let result = match &waited {
                Err(_) => Some(Err(FetchError::Local(LocalError::Other))),
                Ok(_) => transfer.advance(ready, now).transpose(),
            };
            match result {
                None => transfers.push(transfer),
                Some(result) => {
                    drop(transfer.stream);
                    let origin = transfer.fetch.node.clone().zip(transfer.origin);
                    job.finished(transfer.fetch, result);
                    if let Some((node, origin)) = origin {
                        job.made(&node, origin);
                    }
                }
            }
        }
    }
}

/// Fetches one document.
///
/// # Errors
/// Why the fetch failed.
pub fn fetch(fetch: Fetch) -> Result<Vec<u8>, FetchError> {
    let now = Instant::now();
    let deadline = now.checked_add(fetch.timeout).unwrap_or(now);
    let not_started = Err(FetchError::Local(LocalError::NotStarted));
    let mut job = SingleFetch { fetch: Some(fetch), result: not_started };
    fetch_all(&mut job, 1, deadline);
    job.result
}

struct SingleFetch {
    fetch: Option<Fetch>,
    result: Result<Vec<u8>, FetchError>,
}

impl FetchJob for SingleFetch {
    fn next(&mut self) -> Option<Fetch> {
        self.fetch.take()
    }

    fn finished(&mut self, _: Fetch, result: Result<Vec<u8>, FetchError>) {
        self.result = result;
    }
}

/// Starts to connect.
fn connect(fetch: &Fetch, deadline: Instant) -> Result<DeadlineStream, FetchError> {
    let own = Instant::now().checked_add(fetch.timeout).unwrap_or(deadline);
    DeadlineStream::open(fetch.address, own.min(deadline))
        .and_then(|(stream, connecting)| connecting.map(|()| stream))
        .map_err(|error| fetch_error(Step::Open, &error))
}

/// A fetch in progress.
struct Transfer {
    fetch: Fetch,
    stream: DeadlineStream,
    stage: Stage,
    /// When it began, and then when the request was sent.
    sent: Instant,
    origin: Option<Origin>,
}

enum Stage {
    Connecting,
    /// The rest of the request.
    Sending(Vec<u8>),
    /// The head received so far.
    Head(Vec<u8>),
    /// The content received so far.
    Content {
        received: Vec<u8>,
        length: usize,
        gzip: bool,
    },
}

impl Transfer {
    fn new(fetch: Fetch, stream: DeadlineStream) -> Self {
        Self { fetch, stream, stage: Stage::Connecting, sent: Instant::now(), origin: None }
    }

    fn poll_fd(&self) -> PollFd<'_> {
        let events = match self.stage {
            Stage::Connecting | Stage::Sending(_) => PollFlags::OUT,
            Stage::Head(_) | Stage::Content { .. } => PollFlags::IN,
        };
        PollFd::new(&self.stream.stream, events)
    }

    /// Makes progress if the socket is ready; returns the document once it is complete.
    fn advance(&mut self, ready: bool, now: Instant) -> Result<Option<Vec<u8>>, FetchError> {
        let document = if ready { self.transfer()? } else { None };
        if document.is_some() || now < self.stream.deadline {
            return Ok(document);
        }
        Err(match self.stage {
            _ if now - self.stream.deadline > LATE => FetchError::Local(LocalError::Late),
            Stage::Connecting => FetchError::Failure(FailureReason::ConnectTimeout),
            _ => FetchError::Failure(FailureReason::ResponseTimeout),
        })
    }

    /// Sends and receives until the document is complete, or the socket would block (`None`).
    fn transfer(&mut self) -> Result<Option<Vec<u8>>, FetchError> {
        let mut stream = &self.stream.stream;
        loop {
            match &mut self.stage {
                Stage::Connecting => {
                    if let Some(error) = stream.take_error().unwrap_or_else(Some) {
                        return Err(fetch_error(Step::Connect, &error));
                    }
                    let Fetch { path, address, .. } = &self.fetch;
                    let request = format!(
                        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: gzip\r\n\r\n"
                    );
                    self.stage = Stage::Sending(request.into_bytes());
                }
                Stage::Sending(request) => {
                    let Some(sent) = unless_blocked(stream.write(request))? else {
                        return Ok(None);
                    };
                    request.drain(..sent.min(request.len()));
                    if request.is_empty() {
                        self.sent = Instant::now();
                        self.stage = Stage::Head(Vec::new());
                    }
                }
                Stage::Head(head) => {
                    let room = MAX_ANSWER.saturating_sub(head.len());
                    if !receive(stream, head, room)? {
                        return Ok(None);
                    }
                    if let Some((content, age)) = content(head, &self.fetch)? {
                        self.stage = content;
                        let (arrival, took) = (SystemTime::now(), self.sent.elapsed());
                        self.origin = age.map(|age| Origin { age, arrival, took });
                    }
                }
                Stage::Content { received, length, gzip } => {
                    let remaining = length.saturating_sub(received.len());
                    if remaining == 0 && *gzip {
                        return inflate(received, self.fetch.max_bytes).map(Some);
                    }
                    if remaining == 0 {
                        return Ok(Some(std::mem::take(received)));
                    }
                    if !receive(stream, received, remaining)? {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// The next stage, once the head is complete, and the age in it.
fn content(received: &[u8], fetch: &Fetch) -> Result<Option<(Stage, Option<u64>)>, FetchError> {
    match parse(received, Expected::Document(fetch.max_bytes)) {
        Parsed::Incomplete => Ok(None),
        Parsed::Bad => Err(FetchError::Failure(FailureReason::BadResponse)),
        Parsed::OtherStatus(status) => Err(FetchError::Status(status)),
        Parsed::TooLarge => Err(FetchError::TooLarge),
        Parsed::Complete { node, .. }
            if fetch.node.as_ref().is_some_and(|expected| *expected != node) =>
        {
            Err(FetchError::Failure(FailureReason::WrongPeer))
        }
        Parsed::Complete { head, remaining, gzip, age, .. } => {
            let begun = received.get(head..).unwrap_or_default();
            let length = begun.len() + remaining;
            let mut received = Vec::with_capacity(length);
            received.extend_from_slice(begun);
            Ok(Some((Stage::Content { received, length, gzip }, age)))
        }
    }
}

fn inflate(received: &[u8], max: usize) -> Result<Vec<u8>, FetchError> {
    gzip::decompress(received, max).map_err(|error| match error {
        GzipError::TooLarge => FetchError::TooLarge,
        GzipError::Malformed => FetchError::Failure(FailureReason::BadResponse),
    })
}

/// Appends at most `room` received bytes; `false` if there are none yet.
fn receive(mut stream: &TcpStream, into: &mut Vec<u8>, room: usize) -> Result<bool, FetchError> {
    let mut piece = [0; 4096];
    let room = room.min(piece.len());
    match unless_blocked(stream.read(piece.get_mut(..room).unwrap_or_default()))? {
        None => Ok(false),
        Some(0) => Err(FetchError::Failure(FailureReason::Closed)),
        Some(count) => {
            into.extend_from_slice(piece.get(..count).unwrap_or_default());
            Ok(true)
        }
    }
}

/// `None` if the operation would block.
fn unless_blocked(result: io::Result<usize>) -> Result<Option<usize>, FetchError> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(fetch_error(Step::Exchange, &error)),
    }
}

pub(super) fn fetch_error(step: Step, error: &io::Error) -> FetchError {
    match classify(step, error) {
        Outcome::Failure(reason) => FetchError::Failure(reason),
        Outcome::Local(error) => FetchError::Local(error),
        // An error is never classified as a success.
        Outcome::Success { .. } => FetchError::Local(LocalError::Other),
    }
}
