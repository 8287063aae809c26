//! The way to the server: one kept connection a lane, one request in flight on each.
//!
//! A lane is never closed or reopened. It drains what nobody wants any more, because the next
//! answer comes only after it.

use std::collections::VecDeque;
use std::fmt;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::answer::{Answer, AnswerError};
use super::client::State;
use super::poll::{BULK, GATHERED, Interest, SMALL};
use super::port::Port;
use super::slots::Id;
use crate::route::Lane;

/// Requests that wait for the bulk lane; each may take its whole deadline.
const BULK_QUEUE: usize = 4;
/// Requests that wait for the lane of what is gathered; mostly they get what the first one gathered.
const GATHERED_QUEUE: usize = 16;
/// Longest answer of the small lane, which is held as a whole.
const MAX_SMALL_ANSWER: usize = 16 * 1024;

/// Why a lane is lost, and the process with it.
#[derive(Debug)]
pub(super) enum Broken {
    /// The server closed the connection, or it failed.
    Closed(Lane, Option<Errno>),
    /// The request did not go out at once, into an empty buffer.
    Forward(Lane, Option<Errno>),
    /// Octets came that nobody asked for.
    Unasked(Lane),
    /// The answer is not the one to our request.
    Answer(Lane, AnswerError),
    /// A small answer is larger than that.
    NotSmall,
    /// No octet for too long.
    Overdue(Lane),
    /// epoll failed.
    Poll(Errno),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(lane, None) => write!(f, "{lane:?} lane: the server closed it"),
            Self::Closed(lane, Some(error)) => write!(f, "{lane:?} lane: receive: {error}"),
            Self::Forward(lane, None) => write!(f, "{lane:?} lane: send: only a part was taken"),
            Self::Forward(lane, Some(error)) => write!(f, "{lane:?} lane: send: {error}"),
            Self::Unasked(lane) => write!(f, "{lane:?} lane: the server spoke unasked"),
            Self::Answer(lane, error) => write!(f, "{lane:?} lane: wrong answer: {error}"),
            Self::NotSmall => {
                write!(f, "Small lane: an answer is longer than {MAX_SMALL_ANSWER} octets")
            }
            Self::Overdue(lane) => write!(f, "{lane:?} lane: the answer is overdue"),
            Self::Poll(error) => write!(f, "wait for events: {error}"),
        }
    }
}

/// A request in flight.
pub(super) struct Exchange {
    /// Who waits for it; none once that one is gone: then it is drained.
    pub(super) client: Option<Id>,
    answer: Answer,
    out: Vec<u8>,
    counted: bool,
    /// When an octet last came, or was last not wanted.
    pub(super) progress: Instant,
}

/// One lane's state.
pub(super) struct LaneState {
    stream: UnixStream,
    pub(super) queue: VecDeque<Id>,
    pub(super) exchange: Option<Exchange>,
    /// Not read, because the client does not.
    pub(super) paused: bool,
}

impl LaneState {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, queue: VecDeque::new(), exchange: None, paused: false }
    }

    /// Nobody waits any more for what this connection asked.
    pub(super) fn abandon(&mut self, id: Id) {
        self.queue.retain(|waiting| *waiting != id);
        if let Some(exchange) = &mut self.exchange
            && exchange.client == Some(id)
        {
            exchange.client = None;
        }
    }
}

impl Lane {
    pub(super) fn name(self) -> u64 {
        match self {
            Self::Small => SMALL,
            Self::Bulk => BULK,
            Self::Gathered => GATHERED,
        }
    }
}

impl Port {
    pub(super) fn lane(&mut self, lane: Lane) -> &mut LaneState {
        match lane {
            Lane::Small => &mut self.small,
            Lane::Bulk => &mut self.bulk,
            Lane::Gathered => &mut self.gathered,
        }
    }

    /// Has a request wait for its lane; `false` when too many do. The small lane's queue is
    /// bounded by the connections.
    pub(super) fn enqueue(&mut self, lane: Lane, id: Id) -> bool {
        let state = self.lane(lane);
        let most = match lane {
            Lane::Small => usize::MAX,
            Lane::Bulk => BULK_QUEUE,
            Lane::Gathered => GATHERED_QUEUE,
        };
        if state.queue.len() >= most {
            return false;
        }
        state.queue.push_back(id);
        true
    }

    /// Sends the next request, if the lane is free.
    pub(super) fn pump(&mut self, lane: Lane) -> Result<(), Broken> {
        while self.lane(lane).exchange.is_none() {
            let Some(id) = self.lane(lane).queue.pop_front() else { return Ok(()) };
            let now = self.now;
            let Some(client) = self.clients.get_mut(id) else { continue };
            let answer = Answer::new(client.sequence, client.head_only);
            let request = std::mem::take(&mut client.buffer);
            let state = self.lane(lane);
            match send(&state.stream, &request, SendFlags::NOSIGNAL) {
                Ok(sent) if sent == request.len() => {}
                Ok(_) => return Err(Broken::Forward(lane, None)),
                Err(error) => return Err(Broken::Forward(lane, Some(error))),
            }
            state.exchange = Some(Exchange {
                client: Some(id),
                answer,
                out: Vec::new(),
                counted: false,
                progress: now,
            });
            self.due(now + self.limits.backend);
        }
        Ok(())
    }

    /// The server has sent something, or is gone.
    pub(super) fn lane_readable(&mut self, lane: Lane) -> Result<(), Broken> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let received = recv(&self.lane(lane).stream, scratch.as_mut_slice(), RecvFlags::empty());
        let result = match received {
            Ok((_, 0)) => Err(Broken::Closed(lane, None)),
            Ok((_, count)) => self.answered(lane, scratch.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(Broken::Closed(lane, Some(error))),
        };
        self.scratch = scratch;
        result
    }

    fn answered(&mut self, lane: Lane, bytes: &[u8]) -> Result<(), Broken> {
        let now = self.now;
        let Some(exchange) = &mut self.lane(lane).exchange else {
            return Err(Broken::Unasked(lane));
        };
        exchange.progress = now;
        let done = exchange.answer.feed(bytes, &mut exchange.out);
        let done = done.map_err(|error| Broken::Answer(lane, error))?;
        if exchange.client.is_none() {
            exchange.out.clear();
        }
        if lane == Lane::Small && exchange.out.len() > MAX_SMALL_ANSWER {
            return Err(Broken::NotSmall);
        }
        // A small answer is delivered as a whole.
        if lane != Lane::Small || done {
            self.deliver(lane, done)?;
        }
        if done {
            self.lane(lane).exchange = None;
            self.pump(lane)?;
        }
        Ok(())
    }

    /// Hands the client what came so far.
    fn deliver(&mut self, lane: Lane, done: bool) -> Result<(), Broken> {
        let Some(exchange) = &mut self.lane(lane).exchange else { return Ok(()) };
        let (Some(id), Some(code)) = (exchange.client, exchange.answer.code()) else {
            return Ok(());
        };
        let first = !std::mem::replace(&mut exchange.counted, true);
        let mut out = std::mem::take(&mut exchange.out);
        if done {
            // It is no longer the lane's: whatever becomes of the client, nothing is to drain.
            exchange.client = None;
        }
        let limits = self.limits;
        let now = self.now;
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let label = client.label;
        client.buffer.append(&mut out);
        if first {
            client.deadline = now
                + match lane {
                    Lane::Small => limits.small_answer,
                    Lane::Bulk | Lane::Gathered => limits.bulk_answer,
                };
        }
        client.state = State::Answering { whole: done };
        let deadline = client.deadline;
        if first {
            self.due(deadline);
            self.counters.answered(label, code);
        }
        self.push(id)
    }

    /// Reads no more of the lane until the client has taken what there is.
    pub(super) fn pause(&mut self, lane: Lane) -> Result<(), Broken> {
        self.set_paused(lane, true, Interest::Nothing)
    }

    /// Reads the lane again.
    pub(super) fn resume(&mut self, lane: Lane) -> Result<(), Broken> {
        let now = self.now;
        if let Some(exchange) = &mut self.lane(lane).exchange {
            exchange.progress = now;
        }
        self.set_paused(lane, false, Interest::Read)?;
        self.due(now + self.limits.backend);
        Ok(())
    }

    fn set_paused(&mut self, lane: Lane, paused: bool, interest: Interest) -> Result<(), Broken> {
        let (poll, state) = match lane {
            Lane::Small => (&self.poll, &mut self.small),
            Lane::Bulk => (&self.poll, &mut self.bulk),
            Lane::Gathered => (&self.poll, &mut self.gathered),
        };
        if state.paused != paused {
            state.paused = paused;
            poll.modify(&state.stream, lane.name(), interest).map_err(Broken::Poll)?;
        }
        Ok(())
    }

    /// Whether an answer is overdue; when the next one will be.
    pub(super) fn check_lanes(&mut self, slept_long: bool) -> Result<(), Broken> {
        let (now, patience) = (self.now, self.limits.backend);
        for lane in Lane::ALL {
            let state = self.lane(lane);
            let paused = state.paused;
            let Some(exchange) = &mut state.exchange else { continue };
            if slept_long {
                // We were not running either, so the server is owed the time.
                exchange.progress = now;
            }
            let due = exchange.progress + patience;
            if !paused && due <= now {
                return Err(Broken::Overdue(lane));
            }
            if !paused {
                self.due(due);
            }
        }
        Ok(())
    }
}
