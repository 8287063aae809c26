//! The vocabulary of one probe: what is asked, what came of it, how long it took.
//!
//! A probe's failure is data. Nothing here waits, reads a clock or opens a socket.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::label::label_set;
use crate::name::{Instance, NodeName};

/// Names one probe among all of this process, from 1 on.
pub type ProbeId = u64;

/// One attempt that a worker is to make.
#[derive(Debug, Clone)]
pub struct Probe {
    /// To match the [`Report`] with what was asked.
    pub id: ProbeId,
    /// The node that must answer.
    pub node: NodeName,
    /// The target.
    pub address: SocketAddr,
    /// When it should start; the difference to the real start is our own lateness.
    pub due: Instant,
    /// Where it waits when workers are short.
    pub priority: Priority,
    /// What is said.
    pub kind: ProbeKind,
}

/// What a probe says to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// The blank request.
    Blank,
    /// A request for a large answer: full-size segments on the way back.
    Large,
    /// The last request of an agent that stops; it answers for this long yet.
    Goodbye {
        /// How long the agent keeps answering.
        drain: Duration,
    },
}

/// Where a probe waits when workers are short, so that a black hole delays no healthy peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// The last probe of this peer succeeded.
    Healthy,
    /// It failed, or there was none yet.
    Suspect,
}

label_set! {
    /// A step of one probe.
    pub enum Phase {
        /// Until the connection is established.
        Connect = "connect",
        /// From there until the answer is read.
        Receive = "receive",
    }
}

label_set! {
    /// Why a probe failed, from the peer or the path to it. A closed set; each implies its phase.
    pub enum FailureReason {
        /// No answer to the SYN before the deadline.
        ConnectTimeout = "connect_timeout",
        /// A reset answered the SYN (ECONNREFUSED): the host lives, the port does not.
        Refused = "refused",
        /// A router or our own routing table says that there is no way (EHOSTUNREACH, ENETUNREACH).
        Unreachable = "unreachable",
        /// The established connection was reset.
        Reset = "reset",
        /// Connected, but no whole answer before the deadline.
        ResponseTimeout = "response_timeout",
        /// The peer closed before a whole answer.
        Closed = "closed",
        /// An answer that is not ours: malformed, too long, or another status.
        BadResponse = "bad_response",
        /// A well-formed answer from another node than the one we meant.
        WrongPeer = "wrong_peer",
    }
}

label_set! {
    /// A fault of our own, never counted against the peer.
    pub enum LocalError {
        /// No file descriptor left (EMFILE, ENFILE).
        NoDescriptors = "no_descriptors",
        /// No local port left (EADDRNOTAVAIL).
        NoPorts = "no_ports",
        /// The kernel had no memory for a socket (ENOBUFS, ENOMEM).
        NoMemory = "no_memory",
        /// Our own host forbids it (EPERM, EACCES): a local firewall or a policy.
        Denied = "denied",
        /// The probe could not be started: no thread for it.
        NotStarted = "not_started",
        /// We came too late ourselves, as after a freeze or without CPU: nothing can be said of the peer.
        Late = "late",
        /// Anything else that our own kernel refused.
        Other = "other",
    }
}

/// What the peer's answer told beyond its status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The answering agent's life, where it tells.
    pub instance: Option<Instance>,
    /// It is about to stop.
    pub draining: bool,
    /// It gives large answers.
    pub can_large: bool,
}

/// The durations of one successful probe, all on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Start to established.
    pub connect: Duration,
    /// Established to answer read; with `connect` it adds up to `total`.
    pub response: Duration,
    /// Start to answer read.
    pub total: Duration,
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A whole, well-formed answer of the node we meant, before the deadline.
    Success {
        /// How long it took.
        timings: Timings,
        /// What the answer told.
        answer: Answer,
    },
    /// The peer's or the path's failure.
    Failure(FailureReason),
    /// Our own failure.
    Local(LocalError),
}

/// What the kernel tells of the probe's socket (TCP_INFO, tcp(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelView {
    /// Segments sent again, SYNs included.
    pub retransmits: u32,
    /// Smoothed round-trip time; `None` when anything was sent again, since it is then a guess.
    pub rtt: Option<Duration>,
    /// Path MTU in bytes; `None` before the connection is established.
    pub path_mtu: Option<u32>,
}

/// What a worker reports of one probe.
#[derive(Debug, Clone)]
pub struct Report {
    /// The probe this is about.
    pub id: ProbeId,
    /// The node it was meant for.
    pub node: NodeName,
    /// When it should have started.
    pub due: Instant,
    /// When it did.
    pub started: Instant,
    /// When it ended; the report may be read later.
    pub ended: Instant,
    /// What was said.
    pub kind: ProbeKind,
    /// How it ended.
    pub outcome: Outcome,
    /// The kernel's view, where there was a socket to ask.
    pub kernel: Option<KernelView>,
}

impl FailureReason {
    /// The step in which this happens.
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
