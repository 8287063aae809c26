//! One client connection: reads its head, writes its response, waits for its close. Each method
//! returns the next step, which the event loop applies. Knows neither the lanes' connections nor epoll.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::{Errno, ioctl_fionread};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::counters::Rejection;
use super::outbox::Outbox;
use super::poll::Interest;
use super::request::{HeadReader, Method, RequestHead};
use super::{KERNEL_RECEIVE_BUFFER, KERNEL_SEND_BUFFER, Limits};
use crate::route::{Lane, Route};
use crate::wire::KeepAlive;

/// Bytes discarded from a lingering connection; one that sends more is reset.
const MAX_DISCARDED: usize = 64 * 1024;

/// What the event loop does next with a connection.
pub(super) enum Step {
    /// Waits until the socket is ready for this.
    Watch(Interest),
    /// Forwards the request.
    Forward(RequestHead),
    /// Refuses the request.
    Refuse(Rejection),
    /// The kernel took all of an incomplete response: reads more of it from the backend.
    Resume,
    /// The client does not keep up with an incomplete response: the rest is buffered until the socket is
    /// writable.
    Buffer,
    /// The refusal is written and the FIN sent: waits for the client's close.
    Linger,
    /// Ends with a FIN, after the response if there is one. Counts the rejection.
    Close(Option<Rejection>),
    /// Resets: an incomplete response must not look complete. Counts the rejection.
    Reset(Option<Rejection>),
}

enum ClientState {
    /// The head is incomplete.
    ReadingHead(HeadReader),
    /// The request waits for its lane, or for the response to begin.
    Waiting,
    /// The response is being written; `complete` if nothing will be added to the buffer.
    Responding { complete: bool },
    /// The FIN is sent, and the client's close is due.
    Lingering { discarded: usize },
}

pub(super) struct Client {
    pub(super) socket: OwnedFd,
    pub(super) address: IpAddr,
    state: ClientState,
    /// The part of the response that the kernel has not taken.
    pub(super) unsent: Outbox,
    /// Bytes of the response that the kernel has taken.
    pub(super) taken: usize,
    /// When the kernel last took some.
    pub(super) progress: Instant,
    pub(super) deadline: Instant,
    /// What epoll watches the socket for; `None` if it is not registered.
    pub(super) watched: Option<Interest>,
    /// The lane of the request.
    pub(super) lane: Lane,
    /// The label of the request's route.
    pub(super) label: &'static str,
    head_only: bool,
    /// The sender of a blank request that may be proven.
    pub(super) sender: Option<KeepAlive>,
    /// How long to wait for the client's close after a refusal.
    linger: Option<Duration>,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, address: IpAddr, deadline: Instant) -> Self {
        Self {
            socket,
            address,
            state: ClientState::ReadingHead(HeadReader::default()),
            unsent: Outbox::default(),
            taken: 0,
            progress: deadline,
            deadline,
            watched: None,
            lane: Lane::Small,
            label: "",
            head_only: false,
            sender: None,
            linger: None,
        }
    }

    pub(super) fn is_reading_head(&self) -> bool {
        matches!(self.state, ClientState::ReadingHead(_))
    }

    fn is_responding(&self) -> bool {
        matches!(self.state, ClientState::Responding { .. })
    }

    /// Whether the response is the server's, not a refusal.
    pub(super) fn is_served(&self) -> bool {
        self.is_responding() && self.linger.is_none()
    }

    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.state, ClientState::Lingering { .. })
    }

    /// Handles an event of the socket.
    pub(super) fn ready(&mut self, scratch: &mut [u8], now: Instant) -> Step {
        match self.state {
            ClientState::ReadingHead(_) => self.read_head(scratch),
            ClientState::Responding { .. } if !self.unsent.is_empty() => self.write(now),
            ClientState::Lingering { .. } => self.discard(scratch),
            // Watched for nothing but the connection's end.
            ClientState::Waiting | ClientState::Responding { .. } => {
                Step::Close(Some(Rejection::ClientGone))
            }
        }
    }

    /// Handles a passed deadline.
    pub(super) fn overdue(&self) -> Step {
        match self.state {
            ClientState::ReadingHead(_) => Step::Refuse(Rejection::Timeout),
            ClientState::Waiting => Step::Refuse(Rejection::Overload),
            ClientState::Responding { .. } => Step::Reset(Some(Rejection::Timeout)),
            ClientState::Lingering { .. } => Step::Reset(None),
        }
    }

    fn read_head(&mut self, scratch: &mut [u8]) -> Step {
        let ClientState::ReadingHead(reader) = &mut self.state else { return Step::Reset(None) };
        let count = match recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
            Ok((_, count)) if count > 0 => count,
            Err(Errno::AGAIN | Errno::INTR) => return Step::Watch(Interest::Read),
            // Opened and closed, as load balancers and port checks do: not counted.
            _ if reader.is_empty() => return Step::Close(None),
            _ => return Step::Close(Some(Rejection::ClientGone)),
        };
        match reader.read(scratch.get(..count).unwrap_or_default()) {
            Ok(None) => Step::Watch(Interest::Read),
            Ok(Some(request)) => Step::Forward(request),
            Err(rejection) => Step::Refuse(rejection),
        }
    }

    /// Accepts the request, which waits for its lane.
    pub(super) fn wait(
        &mut self,
        route: &Route,
        request: &RequestHead,
        limits: &Limits,
        now: Instant,
    ) {
        self.state = ClientState::Waiting;
        self.deadline = now + limits.wait;
        self.lane = route.lane();
        self.label = route.label();
        self.head_only = request.method == Method::Head;
        self.sender = if *route == Route::KeepAlive { request.sender() } else { None };
    }

    /// Writes the next part of the response.
    pub(super) fn respond(&mut self, part: &[u8], complete: bool, now: Instant) -> Step {
        if !self.is_responding() {
            self.progress = now;
        }
        self.state = ClientState::Responding { complete };
        // Most of it passes to the kernel without a copy.
        let sent = if self.unsent.is_empty() { self.hand_over(part) } else { Ok(0) };
        let Ok(sent) = sent else { return Step::Close(Some(Rejection::ClientGone)) };
        self.count(sent, now);
        self.unsent.push(part.get(sent..).unwrap_or_default());
        self.continue_response(now)
    }

    /// Answers without the backend.
    pub(super) fn refuse(&mut self, rejection: Rejection, limits: &Limits, now: Instant) -> Step {
        let Some(status) = rejection.status() else { return Step::Reset(None) };
        // The client may send on: only a lingering close lets the response arrive.
        self.linger = Some(limits.linger);
        self.deadline = now + limits.small_response;
        self.unsent.clear();
        self.respond(&refusal(status, rejection, self.head_only), true, now)
    }

    /// Writes what is buffered.
    fn write(&mut self, now: Instant) -> Step {
        while let Some(next) = self.unsent.next() {
            let length = next.len();
            let Ok(sent) = self.hand_over(next) else {
                return Step::Close(Some(Rejection::ClientGone));
            };
            self.unsent.advance(sent);
            self.count(sent, now);
            if sent < length {
                break;
            }
        }
        self.continue_response(now)
    }

    /// Hands bytes of the response to the kernel, and returns how many it took.
    fn hand_over(&self, bytes: &[u8]) -> Result<usize, Errno> {
        // The end of the response and the FIN share a packet.
        let complete = matches!(self.state, ClientState::Responding { complete: true });
        let more = if complete { SendFlags::MORE } else { SendFlags::empty() };
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match send(&self.socket, rest, SendFlags::NOSIGNAL | more) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn count(&mut self, sent: usize, now: Instant) {
        if sent > 0 {
            self.taken += sent;
            self.progress = now;
        }
    }

    fn continue_response(&mut self, now: Instant) -> Step {
        let ClientState::Responding { complete } = self.state else { return Step::Reset(None) };
        match (complete, !self.unsent.is_empty()) {
            (true, true) => Step::Watch(Interest::Write),
            (true, false) => self.linger.map_or(Step::Close(None), |time| self.linger(now + time)),
            (false, true) => Step::Buffer,
            (false, false) => Step::Resume,
        }
    }

    fn linger(&mut self, until: Instant) -> Step {
        self.state = ClientState::Lingering { discarded: 0 };
        self.deadline = until;
        match shutdown(&self.socket, Shutdown::Write) {
            Ok(()) => Step::Linger,
            Err(_) => Step::Close(None),
        }
    }

    fn discard(&mut self, scratch: &mut [u8]) -> Step {
        let ClientState::Lingering { discarded } = &mut self.state else {
            return Step::Reset(None);
        };
        match recv(&self.socket, scratch, RecvFlags::empty()) {
            Ok((_, count)) if count > 0 && *discarded + count <= MAX_DISCARDED => {
                *discarded += count;
                Step::Watch(Interest::Read)
            }
            Err(Errno::AGAIN | Errno::INTR) => Step::Watch(Interest::Read),
            _ => Step::Close(None),
        }
    }

    /// Sends the FIN. Returns the socket and the bytes that its kernel buffers may hold; `None` if the
    /// connection has ended, or ends here with a reset.
    pub(super) fn finish(self) -> Option<(OwnedFd, usize)> {
        let (how, bytes) = match self.lane {
            // From here on, data from the client is answered with a reset, as after a close.
            Lane::Small => (Shutdown::Both, self.taken),
            // The client may have sent another request: a reset would discard data on its way.
            Lane::Bulk | Lane::Gathered | Lane::Pair => {
                (Shutdown::Write, self.taken.min(KERNEL_SEND_BUFFER) + KERNEL_RECEIVE_BUFFER)
            }
        };
        shutdown(&self.socket, how).ok()?;
        // What came after the head is held for nothing; the close of a socket with unread data is a reset.
        let unread = self.lane == Lane::Small && ioctl_fionread(&self.socket) != Ok(0);
        (!unread).then_some((self.socket, bytes))
    }

    /// Has the close send a RST instead of a FIN.
    pub(super) fn reset_on_close(&self) {
        // Fails only on a socket that is no longer connected.
        let _ = set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}

fn refusal(status: &str, rejection: Rejection, head_only: bool) -> Vec<u8> {
    let extra = match rejection {
        Rejection::Method => "Allow: GET, HEAD\r\n",
        Rejection::Overload => "Retry-After: 1\r\n",
        _ => "",
    };
    let body = format!("{status}\n");
    let length = body.len();
    let body = if head_only { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\
         \r\n{extra}Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
