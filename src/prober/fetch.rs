//! Documents from other agents: many at once on the caller's thread, each a GET over a new connection,
//! under its own deadline and with bounded octets. It knows no route, reads no document, and takes no
//! worker: whatever it waits for, no probe starts later for it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::answer::{Expected, Parsed, parse};
use super::deadline_stream::{LATE, close, open, wait_for};
use super::failure::{Step, classify};
use crate::name::NodeName;
use crate::probe::{FailureReason, LocalError, Outcome};
use crate::wire::MAX_ANSWER;

/// One document that is wanted.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Who must answer; `None` for whoever does.
    pub node: Option<NodeName>,
    /// Where.
    pub address: SocketAddr,
    /// What, of the characters that the gate lets through.
    pub path: String,
    /// For all of it, and never beyond the deadline of the whole round.
    pub timeout: Duration,
    /// Octets that it may have.
    pub max_bytes: usize,
}

/// Why a document was not had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchError {
    /// The other side's or the path's.
    Failure(FailureReason),
    /// Our own.
    Local(LocalError),
    /// It is longer than it may be.
    TooLarge,
    /// The other side answered with this status instead.
    Status(u16),
}

/// Who wants documents, and gets them.
pub trait FetchJob {
    /// What is wanted next; asked when there is room for one more.
    fn next(&mut self) -> Option<Fetch>;
    /// How that went.
    fn finished(&mut self, fetch: Fetch, result: Result<Vec<u8>, FetchError>);
}

/// Fetches whatever is wanted, so many at once. What has not come by the deadline was too slow, what
/// has not begun by then is not wanted any more.
pub fn fetch_all(job: &mut dyn FetchJob, at_once: usize, deadline: Instant) {
    let mut transfers: Vec<Transfer> = Vec::new();
    loop {
        while transfers.len() < at_once.max(1) && Instant::now() < deadline {
            let Some(fetch) = job.next() else { break };
            match begin(fetch.address) {
                Ok(stream) => transfers.push(Transfer::new(fetch, stream, deadline)),
                Err(fault) => job.finished(fetch, Err(fault)),
            }
        }
        let Some(first) = transfers.iter().map(|transfer| transfer.deadline).min() else { return };
        let mut sockets: Vec<PollFd<'_>> = transfers.iter().map(Transfer::awaits).collect();
        if wait_for(&mut sockets, first).is_err() {
            drop(sockets);
            for transfer in transfers {
                job.finished(transfer.fetch, Err(FetchError::Local(LocalError::Other)));
            }
            return;
        }
        let ready: Vec<bool> = sockets.iter().map(|socket| !socket.revents().is_empty()).collect();
        drop(sockets);
        let now = Instant::now();
        // From the end: whoever has ended makes place for the last, which was looked at already.
        for (index, ready) in ready.into_iter().enumerate().rev() {
            let Some(transfer) = transfers.get_mut(index) else { continue };
            let ended = match if ready { transfer.advance() } else { Ok(None) } {
                Ok(None) if transfer.deadline <= now => Err(transfer.overdue(now)),
                Ok(None) => continue,
                Ok(Some(document)) => Ok(document),
                Err(fault) => Err(fault),
            };
            let Transfer { fetch, stream, .. } = transfers.swap_remove(index);
            close(stream);
            job.finished(fetch, ended);
        }
    }
}

/// Fetches one document.
///
/// # Errors
/// Why it was not had.
pub fn fetch(wanted: Fetch) -> Result<Vec<u8>, FetchError> {
    let now = Instant::now();
    let deadline = now.checked_add(wanted.timeout).unwrap_or(now);
    let mut job = One { wanted: Some(wanted), had: Err(FetchError::Local(LocalError::NotStarted)) };
    fetch_all(&mut job, 1, deadline);
    job.had
}

struct One {
    wanted: Option<Fetch>,
    had: Result<Vec<u8>, FetchError>,
}

impl FetchJob for One {
    fn next(&mut self) -> Option<Fetch> {
        self.wanted.take()
    }

    fn finished(&mut self, _: Fetch, result: Result<Vec<u8>, FetchError>) {
        self.had = result;
    }
}

/// A document under way.
struct Transfer {
    fetch: Fetch,
    stream: TcpStream,
    deadline: Instant,
    stage: Stage,
}

enum Stage {
    Connecting,
    /// The request, as far as it was not sent.
    Sending(Vec<u8>),
    /// The head as far as it came.
    Head(Vec<u8>),
    /// The document as far as it came, and how long it will be.
    Content(Vec<u8>, usize),
}

impl Transfer {
    fn new(fetch: Fetch, stream: TcpStream, deadline: Instant) -> Self {
        let own = Instant::now().checked_add(fetch.timeout).unwrap_or(deadline);
        Self { fetch, stream, deadline: own.min(deadline), stage: Stage::Connecting }
    }

    fn awaits(&self) -> PollFd<'_> {
        let events = match self.stage {
            Stage::Connecting | Stage::Sending(_) => PollFlags::OUT,
            Stage::Head(_) | Stage::Content(..) => PollFlags::IN,
        };
        PollFd::new(&self.stream, events)
    }

    /// Why it has not come by its deadline.
    fn overdue(&self, now: Instant) -> FetchError {
        if now.saturating_duration_since(self.deadline) > LATE {
            return FetchError::Local(LocalError::Late);
        }
        FetchError::Failure(match self.stage {
            Stage::Connecting => FailureReason::ConnectTimeout,
            Stage::Sending(_) | Stage::Head(_) | Stage::Content(..) => {
                FailureReason::ResponseTimeout
            }
        })
    }

    /// Goes on until the socket has no more to give or to take; the whole document at the end.
    fn advance(&mut self) -> Result<Option<Vec<u8>>, FetchError> {
        loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(document)) => return Ok(Some(document)),
                Err(Halt::Wait) => return Ok(None),
                Err(Halt::End(fault)) => return Err(fault),
            }
        }
    }

    fn step(&mut self) -> Result<Option<Vec<u8>>, Halt> {
        match &mut self.stage {
            Stage::Connecting => {
                let error = self.stream.take_error().unwrap_or_else(Some);
                if let Some(error) = error {
                    return Err(Halt::End(fault(Step::Connect, &error)));
                }
                let Fetch { path, address, .. } = &self.fetch;
                let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
                self.stage = Stage::Sending(request.into_bytes());
            }
            Stage::Sending(request) => {
                let sent = self.stream.write(request)?;
                request.drain(..sent.min(request.len()));
                if request.is_empty() {
                    self.stage = Stage::Head(Vec::new());
                }
            }
            Stage::Head(head) => {
                let room = MAX_ANSWER.saturating_sub(head.len());
                receive(&self.stream, head, room)?;
                let (from, left) = match parse(head, Expected::Document(self.fetch.max_bytes)) {
                    Parsed::Incomplete => return Ok(None),
                    Parsed::Bad => return Err(failure(FailureReason::BadResponse)),
                    Parsed::OtherStatus(status) => {
                        return Err(Halt::End(FetchError::Status(status)));
                    }
                    Parsed::TooLarge => return Err(Halt::End(FetchError::TooLarge)),
                    Parsed::Complete { node, .. }
                        if self.fetch.node.as_ref().is_some_and(|meant| *meant != node) =>
                    {
                        return Err(failure(FailureReason::WrongPeer));
                    }
                    Parsed::Complete { head, remaining, .. } => (head, remaining),
                };
                let length = head.len().saturating_sub(from) + left;
                let mut content = Vec::with_capacity(length);
                content.extend_from_slice(head.get(from..).unwrap_or_default());
                self.stage = Stage::Content(content, length);
            }
            Stage::Content(content, length) => {
                let left = length.saturating_sub(content.len());
                if left == 0 {
                    return Ok(Some(std::mem::take(content)));
                }
                receive(&self.stream, content, left)?;
            }
        }
        Ok(None)
    }
}

/// Why a step was not the last one, or was.
enum Halt {
    /// The socket is not ready.
    Wait,
    /// It is over.
    End(FetchError),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => Self::Wait,
            _ => Self::End(fault(Step::Exchange, &error)),
        }
    }
}

/// Begins to connect.
fn begin(address: SocketAddr) -> Result<TcpStream, FetchError> {
    let (stream, pending) = open(address).map_err(|error| fault(Step::Open, &error))?;
    pending.map_err(|error| fault(Step::Open, &error))?;
    Ok(stream)
}

/// Appends what has come, at most `room` octets.
fn receive(mut stream: &TcpStream, into: &mut Vec<u8>, room: usize) -> Result<(), Halt> {
    let mut piece = [0; 4096];
    let room = room.min(piece.len());
    let count = stream.read(piece.get_mut(..room).unwrap_or_default())?;
    if count == 0 {
        return Err(failure(FailureReason::Closed));
    }
    into.extend_from_slice(piece.get(..count).unwrap_or_default());
    Ok(())
}

fn failure(reason: FailureReason) -> Halt {
    Halt::End(FetchError::Failure(reason))
}

fn fault(step: Step, error: &io::Error) -> FetchError {
    match classify(step, error) {
        Outcome::Failure(reason) => FetchError::Failure(reason),
        Outcome::Local(error) => FetchError::Local(error),
        // It never is; and nothing is known of the peer.
        Outcome::Success { .. } => FetchError::Local(LocalError::Other),
    }
}
