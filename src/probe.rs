//! The vocabulary of one probe: request, outcome, timings.
//!
//! A probe's failure is data. Nothing here waits, reads a clock or opens a socket.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::label::label_set;
use crate::name::{Instance, NodeName};
use crate::token::{PairToken, Token};

/// Number of a probe, unique in this process.
pub type ProbeId = u64;

/// One probe for a worker to make.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Identifies the probe in its [`Report`].
    pub id: ProbeId,
    /// The target node, which must answer.
    pub node: NodeName,
    /// The target address.
    pub address: SocketAddr,
    /// When it should start; the difference from the real start is the agent's own delay.
    pub due: Instant,
    /// The queue in which it waits for a worker.
    pub priority: Priority,
    /// The tokens to show.
    pub token: Option<PairToken>,
    /// The request.
    pub kind: ProbeKind,
}

/// Half-open incoming connections from one address: when their SYNs arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syns {
    /// The last one, whose handshake may still complete.
    pub last: Instant,
    /// The last one whose handshake has not completed for [`MAX_HANDSHAKE`].
    pub failed: Option<Instant>,
}

/// Longest time of a handshake that may still complete: the default timeout of a probe. The SYN-ACK was sent again
/// twice by then, and a round trip of 4 s is none that leads to nothing.
pub const MAX_HANDSHAKE: Duration = Duration::from_secs(5);

impl Syns {
    /// One SYN that arrived `age` ago.
    #[must_use]
    pub fn one(arrival: Instant, age: Duration) -> Self {
        Self { last: arrival, failed: (age >= MAX_HANDSHAKE).then_some(arrival) }
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { last: self.last.max(other.last), failed: self.failed.max(other.failed) }
    }
}

/// The request that a probe sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// The blank request.
    Blank,
    /// A blank request outside the schedule, whose answer decides on what a request claimed.
    Check,
    /// A large probe: one whose messages fill full-size segments.
    Large(Large),
    /// The last request of an agent that stops.
    Goodbye {
        /// How long the agent keeps answering.
        drain: Duration,
    },
}

/// A large probe: which of its messages fill a full-size segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Large {
    /// Request and answer: its success proves both directions at once.
    Both,
    /// The request.
    Request {
        /// Bytes of the IP packet that the path carried before, if the kernel's cache has a smaller path MTU
        /// now: the probe asks the path itself.
        packet: Option<u32>,
    },
    /// The answer.
    Answer,
}

/// The queue in which a probe waits for a worker: a black hole must not delay healthy peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// The last probe of the peer succeeded.
    Healthy,
    /// The last probe failed, or there was none.
    Suspect,
}

label_set! {
    /// The direction of a fault, as its source sees it.
    pub enum Direction {
        /// From this node to the peer.
        Outgoing = "outgoing",
        /// From the peer to this node.
        Incoming = "incoming",
        /// Both.
        Both = "both",
    }
}

impl Direction {
    /// The direction of faults that were found in each direction apart; `None` for none.
    #[must_use]
    pub const fn of(outgoing: bool, incoming: bool) -> Option<Self> {
        match (outgoing, incoming) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Outgoing),
            (false, true) => Some(Self::Incoming),
            (false, false) => None,
        }
    }
}

label_set! {
    /// A step of one probe.
    pub enum Phase {
        /// Until the connection is established.
        Connect = "connect",
        /// From then on until the answer is received.
        Receive = "receive",
    }
}

label_set! {
    /// Why a probe failed: a cause in the peer or the path to it.
    pub enum FailureReason {
        /// No answer to the SYN before the deadline.
        ConnectTimeout = "connect_timeout",
        /// A reset answered the SYN (ECONNREFUSED): the host is up, the port is closed.
        Refused = "refused",
        /// A router or this host's routing table reports no route (EHOSTUNREACH, ENETUNREACH).
        Unreachable = "unreachable",
        /// The established connection was reset.
        Reset = "reset",
        /// Connected, but no complete answer before the deadline.
        ResponseTimeout = "response_timeout",
        /// The peer closed the connection before a complete answer.
        Closed = "closed",
        /// Not an agent's answer: malformed, too long, or another status.
        BadResponse = "bad_response",
        /// A well-formed answer of another node than the target.
        WrongPeer = "wrong_peer",
    }
}

label_set! {
    /// An error of this host or agent, never counted against the peer.
    pub enum LocalError {
        /// No file descriptor left (EMFILE, ENFILE).
        NoDescriptors = "no_descriptors",
        /// No local port left (EADDRNOTAVAIL).
        NoPorts = "no_ports",
        /// The kernel had no memory for a socket (ENOBUFS, ENOMEM).
        NoMemory = "no_memory",
        /// This host has no route to any peer (ENETUNREACH and the like): its interface is down, or its
        /// routes are missing.
        NoRoute = "no_route",
        /// This host forbids it (EPERM, EACCES): a local firewall or a policy.
        Denied = "denied",
        /// No thread could be started for the probe.
        NotStarted = "not_started",
        /// This agent was late, as after a freeze or without CPU: the result proves nothing.
        Late = "late",
        /// Any other error of this kernel.
        Other = "other",
    }
}

impl LocalError {
    /// Whether what caused it also keeps this agent from receiving requests, so that a peer's silence until then
    /// proves nothing. A policy, or a lack of local ports, concerns only what this host sends.
    #[must_use]
    pub const fn hides_requests(self) -> bool {
        match self {
            Self::NoDescriptors | Self::NoMemory | Self::NoRoute | Self::Late => true,
            Self::NoPorts | Self::Denied | Self::NotStarted | Self::Other => false,
        }
    }
}

/// The fields of a peer's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The answering instance, if given.
    pub instance: Option<Instance>,
    /// The agent is about to stop.
    pub draining: bool,
    /// The agent supports large answers.
    pub can_large: bool,
    /// The agent shows tokens.
    pub can_token: bool,
    /// The seal of the token that the agent shows to this one.
    pub seal: Option<Token>,
}

/// The durations of one successful probe, all on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// From the start to the established connection.
    pub connect: Duration,
    /// From the established connection to the received answer; `connect` and `response` sum to `total`.
    pub response: Duration,
    /// From the start to the received answer.
    pub total: Duration,
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A complete, well-formed answer of the target node, before the deadline.
    Success {
        /// The durations.
        timings: Timings,
        /// The fields of the answer.
        answer: Answer,
    },
    /// A failure of the peer or the path.
    Failure(FailureReason),
    /// A failure of this host.
    Local(LocalError),
}

/// The kernel's statistics of the probe's socket (TCP_INFO, tcp(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelView {
    /// Retransmitted segments, SYNs included.
    pub retransmits: u32,
    /// The SYNs among them.
    pub syn_retransmits: u32,
    /// From the start to the established connection, also of a probe that failed later.
    pub connect: Option<Duration>,
    /// Round-trip time of the handshake; `None` if it is ambiguous.
    pub rtt: Option<Duration>,
    /// Path MTU in bytes; `None` before the connection is established. Of a [`Large::Request`] that asked
    /// the path itself: what it learned.
    pub path_mtu: Option<u32>,
    /// The local port.
    pub source_port: Option<u16>,
}

impl KernelView {
    /// Retransmitted segments of the request.
    #[must_use]
    pub const fn request_retransmits(self) -> u32 {
        self.retransmits.saturating_sub(self.syn_retransmits)
    }

    /// With the timings of a success. After a retransmitted SYN, the kernel's round-trip time may include its
    /// timer: handshake and exchange bound it, and without an exchange it is ambiguous.
    pub(crate) fn bounded_by(self, timings: Option<Timings>) -> Self {
        if self.syn_retransmits == 0 {
            return self;
        }
        let bound = timings.map(|timings| timings.connect.min(timings.response));
        Self { rtt: bound.map(|bound| self.rtt.map_or(bound, |rtt| rtt.min(bound))), ..self }
    }
}

/// The report of one probe.
#[derive(Debug, Clone)]
pub struct Report {
    /// The probe's number.
    pub id: ProbeId,
    /// The target node.
    pub node: NodeName,
    /// When it should have started.
    pub due: Instant,
    /// When it started.
    pub started: Instant,
    /// When it ended; the report may be read later.
    pub ended: Instant,
    /// The request.
    pub kind: ProbeKind,
    /// The outcome.
    pub outcome: Outcome,
    /// The kernel's statistics, if there was a socket.
    pub kernel: Option<KernelView>,
}

impl FailureReason {
    /// The phase in which this failure occurs.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self {
            Self::ConnectTimeout | Self::Refused | Self::Unreachable => Phase::Connect,
            Self::Reset
            | Self::ResponseTimeout
            | Self::Closed
            | Self::BadResponse
            | Self::WrongPeer => Phase::Receive,
        }
    }
}
