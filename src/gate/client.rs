//! One client's connection: its head is read, its answer written, and it is closed, each under a
//! deadline. Errors of a client are its own affair: they are counted, and end its connection.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::Rejection;
use super::head::{self, Progress, Request};
use super::lane::Broken;
use super::poll::Interest;
use super::port::Port;
use super::slots::Id;
use crate::route::{Lane, Route};
use crate::wire;

/// Connections that wait for the client's close: one that has its answer unread keeps the kernel's
/// send buffer, so they are few.
const MAX_LINGERING: usize = 32;
/// Octets read and thrown away while waiting for the close; whoever sends more wants a reset.
const MAX_DISCARDED: usize = 64 * 1024;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its head is not whole.
    Head,
    /// Its request waits for the lane, or for the answer's begin.
    Waiting,
    /// Its answer is being written; `whole` when nothing will be added to the buffer.
    Answering { whole: bool },
    /// Everything is written; its close is waited for. So many octets were thrown away.
    Lingering { discarded: usize },
}

/// One connection.
pub(super) struct Client {
    socket: OwnedFd,
    pub(super) state: State,
    /// The head as far as it came, then the request built from it, then the answer not yet sent.
    pub(super) buffer: Vec<u8>,
    pub(super) deadline: Instant,
    /// Ascends with each connection: who came first.
    pub(super) born: u64,
    watched: Option<Interest>,
    lane: Lane,
    /// How long its close is waited for: more may come from it, or much of the answer may still be on
    /// its way.
    linger: Duration,
    pub(super) label: &'static str,
    pub(super) head_only: bool,
    pub(super) sequence: u64,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, deadline: Instant, born: u64) -> Self {
        Self {
            socket,
            state: State::Head,
            buffer: Vec::new(),
            deadline,
            born,
            watched: None,
            lane: Lane::Small,
            linger: Duration::ZERO,
            label: "",
            head_only: false,
            sequence: 0,
        }
    }
}

impl Port {
    /// Something happened on a connection.
    pub(super) fn client_event(&mut self, id: Id) -> Result<(), Broken> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        match client.state {
            State::Head => self.read_head(id),
            State::Lingering { .. } => {
                self.discard(id);
                Ok(())
            }
            State::Answering { .. } if !client.buffer.is_empty() => self.push(id),
            // Watched for nothing but this.
            State::Waiting | State::Answering { .. } => self.gone(id),
        }
    }

    /// Reads what came of a head, and judges it.
    pub(super) fn read_head(&mut self, id: Id) -> Result<(), Broken> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let seen = client.buffer.len();
        // One octet more than a head may have tells that it is too long.
        let room = (wire::MAX_REQUEST_HEAD + 1).saturating_sub(seen);
        let scratch = self.scratch.get_mut(..room).unwrap_or_default();
        let count = match recv(&client.socket, scratch, RecvFlags::empty()) {
            Ok((_, count)) if count > 0 => count,
            Err(Errno::AGAIN | Errno::INTR) => return self.watch(id, Interest::Read),
            // Opened and closed, as load balancers and port checks do: nothing to count.
            Ok(_) | Err(_) if seen == 0 => return self.close(id),
            Ok(_) => return self.gone(id),
            Err(_) => return self.gone(id),
        };
        client.buffer.extend_from_slice(self.scratch.get(..count).unwrap_or_default());
        match head::read(&client.buffer, seen) {
            Progress::Incomplete => self.watch(id, Interest::Read),
            Progress::Complete(request) => self.forward(id, &request),
            Progress::Refused(rejection) => self.refuse(id, rejection),
        }
    }

    fn forward(&mut self, id: Id, request: &Request) -> Result<(), Broken> {
        let route = Route::of(&request.path);
        let lane = route.lane();
        self.sequence += 1;
        let limits = self.limits;
        let (sequence, deadline) = (self.sequence, self.now + limits.wait);
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        client.state = State::Waiting;
        client.deadline = deadline;
        client.lane = lane;
        client.linger = match lane {
            Lane::Bulk | Lane::Gathered => limits.linger,
            // What does not fit a packet or two is not left to the kernel, where it would count for
            // nobody. A prober that gets nothing of it must see its own time run out, not our reset.
            Lane::Small if request.asks_for_more() => limits.small_answer,
            Lane::Small => Duration::ZERO,
        };
        client.label = route.label();
        client.head_only = request.head_only;
        client.sequence = sequence;
        client.buffer = request.render(sequence).into_bytes();
        if client.watched.is_some() {
            self.watch(id, Interest::Nothing)?;
        }
        self.due(deadline);
        if !self.enqueue(lane, id) {
            return self.refuse(id, Rejection::Overload);
        }
        self.pump(lane)
    }

    /// Answers by ourselves, and hangs up.
    pub(super) fn refuse(&mut self, id: Id, rejection: Rejection) -> Result<(), Broken> {
        self.counters.reject(rejection);
        self.abandon(id)?;
        let deadline = self.now + self.limits.small_answer;
        let linger = self.limits.linger;
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        client.buffer.clear();
        match rejection.status() {
            None => return self.reset(id),
            Some(status) => client.buffer.extend(refusal(status, rejection, client.head_only)),
        }
        client.state = State::Answering { whole: true };
        // It may send on what we do not want: only a lingering close lets the answer arrive.
        client.linger = linger;
        client.deadline = deadline;
        self.due(deadline);
        self.push(id)
    }

    /// Writes what there is to write, and takes the next step when all of it is written.
    pub(super) fn push(&mut self, id: Id) -> Result<(), Broken> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let State::Answering { whole } = client.state else { return Ok(()) };
        // The end of the answer and the FIN go out as one packet.
        let more = if whole { SendFlags::MORE } else { SendFlags::empty() };
        let mut sent = 0;
        let result = loop {
            let rest = client.buffer.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match send(&client.socket, rest, SendFlags::NOSIGNAL | more) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(error) => break Err(error),
            }
        };
        client.buffer.drain(..sent.min(client.buffer.len()));
        let (lane, lingers) = (client.lane, !client.linger.is_zero());
        let watched = client.watched;
        match result {
            Ok(()) if whole && lingers => self.linger(id),
            Ok(()) if whole => self.close(id),
            Ok(()) => {
                if watched.is_some() {
                    self.watch(id, Interest::Nothing)?;
                }
                self.resume(lane)
            }
            Err(Errno::AGAIN) => {
                self.watch(id, Interest::Write)?;
                if whole { Ok(()) } else { self.pause(lane) }
            }
            Err(_) => self.gone(id),
        }
    }

    /// All is written: says so, and waits for the client to close.
    fn linger(&mut self, id: Id) -> Result<(), Broken> {
        let now = self.now;
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let deadline = now + client.linger;
        client.buffer = Vec::new();
        client.state = State::Lingering { discarded: 0 };
        client.deadline = deadline;
        if shutdown(&client.socket, Shutdown::Write).is_err() {
            return self.close(id);
        }
        self.lingering += 1;
        self.due(deadline);
        self.watch(id, Interest::Read)?;
        if self.lingering > MAX_LINGERING
            && let Some(oldest) = self.oldest(|state| matches!(state, State::Lingering { .. }))
        {
            return self.reset(oldest);
        }
        Ok(())
    }

    fn discard(&mut self, id: Id) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let State::Lingering { discarded } = &mut client.state else { return };
        let ended = match recv(&client.socket, self.scratch.as_mut_slice(), RecvFlags::empty()) {
            Ok((_, 0)) => true,
            Ok((_, count)) => {
                *discarded += count;
                *discarded > MAX_DISCARDED
            }
            Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
        };
        if ended {
            self.drop_client(id);
        }
    }

    /// A deadline has passed.
    pub(super) fn client_overdue(&mut self, id: Id) -> Result<(), Broken> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        match client.state {
            State::Head => self.refuse(id, Rejection::Timeout),
            State::Waiting => self.refuse(id, Rejection::Overload),
            State::Answering { .. } => {
                self.counters.reject(Rejection::Timeout);
                self.reset(id)
            }
            State::Lingering { .. } => self.reset(id),
        }
    }

    /// The client closed or reset before it had its answer.
    fn gone(&mut self, id: Id) -> Result<(), Broken> {
        self.counters.reject(Rejection::ClientGone);
        self.close(id)
    }

    /// Closes; the kernel still delivers what was written.
    pub(super) fn close(&mut self, id: Id) -> Result<(), Broken> {
        self.abandon(id)?;
        self.drop_client(id);
        Ok(())
    }

    /// Breaks off: whatever the client has got, it must not pass for the whole.
    pub(super) fn reset(&mut self, id: Id) -> Result<(), Broken> {
        self.abandon(id)?;
        self.break_off(id);
        Ok(())
    }

    /// As [`Self::reset`], when the lane is no matter any more.
    pub(super) fn break_off(&mut self, id: Id) {
        if let Some(client) = self.clients.get_mut(id) {
            // A socket that is no longer connected needs no reset.
            let _ = set_socket_linger(&client.socket, Some(Duration::ZERO));
        }
        self.drop_client(id);
    }

    fn drop_client(&mut self, id: Id) {
        // Closing the descriptor takes it out of epoll: it is never shared.
        if let Some(client) = self.clients.remove(id) {
            if matches!(client.state, State::Lingering { .. }) {
                self.lingering = self.lingering.saturating_sub(1);
            }
            self.place_free = true;
        }
    }

    /// The lane need not answer this one any more.
    fn abandon(&mut self, id: Id) -> Result<(), Broken> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        if matches!(client.state, State::Head | State::Lingering { .. }) {
            return Ok(());
        }
        let lane = client.lane;
        let state = self.lane(lane);
        state.abandon(id);
        let drains = state.exchange.as_ref().is_some_and(|exchange| exchange.client.is_none());
        if drains && state.paused { self.resume(lane) } else { Ok(()) }
    }

    fn watch(&mut self, id: Id, interest: Interest) -> Result<(), Broken> {
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        let result = match client.watched.replace(interest) {
            None => self.poll.add(&client.socket, id.as_u64(), interest),
            Some(before) if before == interest => return Ok(()),
            Some(_) => self.poll.modify(&client.socket, id.as_u64(), interest),
        };
        // The kernel has no memory or no watch left for it: this one goes, not the process.
        if result.is_err() {
            self.counters.reject(Rejection::Overload);
            return self.reset(id);
        }
        Ok(())
    }

    /// The connection that came first among those in such a state.
    pub(super) fn oldest(&self, suits: impl Fn(State) -> bool) -> Option<Id> {
        let suiting = self.clients.iter().filter(|(_, client)| suits(client.state));
        suiting.min_by_key(|(_, client)| client.born).map(|(id, _)| id)
    }
}

/// Small and plain.
fn refusal(status: &str, rejection: Rejection, head_only: bool) -> Vec<u8> {
    let extra = match rejection {
        Rejection::Method => "Allow: GET, HEAD\r\n",
        Rejection::Overload => "Retry-After: 1\r\n",
        _ => "",
    };
    let body = if head_only { "" } else { status };
    // The length is that of the body a GET would get: one line.
    let length = status.len() + 1;
    let end = if head_only { "" } else { "\n" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\
         \r\n{extra}Connection: close\r\n\r\n{body}{end}"
    )
    .into_bytes()
}
