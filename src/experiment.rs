//! The vocabulary of experiments: what an agent tries beside its probes, on its own when something is wrong, or
//! because a person asks.
//!
//! An experiment is bounded in number, time and bytes, waits behind all probes, is counted as none of them, and
//! moves no verdict: it adds to a verdict what the person who must act needs. Nothing here waits, reads a clock or
//! opens a socket.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use crate::label::label_set;
use crate::name::NodeName;
use crate::probe::Direction;

/// The largest IP packet that a direction of a path carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargestPacket {
    /// Bytes, IP header included.
    pub bytes: u16,
    /// `false`: at least so many. Larger segments could not be sent, as behind SYN cookies or a clamp.
    pub is_exact: bool,
}

impl LargestPacket {
    /// What two measurements of one path say, or the narrowest known of two paths. An exact figure is the better one,
    /// since it bounds.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.is_exact, other.is_exact) {
            (true, false) => self,
            (false, true) => other,
            _ => Self { bytes: self.bytes.min(other.bytes), ..self },
        }
    }

    /// What both directions of a path carry: the smaller figure, which is a lower bound if it is one of its direction.
    #[must_use]
    pub fn both_ways(self, back: Self) -> Self {
        let order = |one: &Self| (one.bytes, !one.is_exact);
        std::cmp::min_by_key(self, back, order)
    }
}

impl fmt::Display for LargestPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_exact { "" } else { "at least " })?;
        match (self.bytes / 1000, self.bytes % 1000) {
            (0, bytes) => write!(f, "{bytes} bytes"),
            (thousands, bytes) => write!(f, "{thousands},{bytes:03} bytes"),
        }
    }
}

label_set! {
    /// The host behind a peer's pod.
    pub enum HostState {
        /// It has answered the last time.
        Answers = "answers",
        /// It answered before, and does not any more.
        Silent = "silent",
    }
}

/// Flows, each of one source port, that never get through while others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadFlows {
    /// Flows of which every connection timed out.
    pub dead: u8,
    /// Flows that were tried.
    pub flows: u8,
}

impl fmt::Display for DeadFlows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dead, flows } = self;
        write!(f, "{dead} of {flows} flows never get{} through", if *dead == 1 { "s" } else { "" })
    }
}

/// What an experiment adds to a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// To `mtu`, in its direction; of both, what both carry.
    Largest(LargestPacket),
    /// To `flaky`.
    Flows(DeadFlows),
    /// To `down`.
    Host(HostState),
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Largest(largest) => largest.fmt(f),
            Self::Flows(flows) => flows.fmt(f),
            Self::Host(HostState::Answers) => f.write_str("its host answers"),
            Self::Host(HostState::Silent) => f.write_str("its host is silent"),
        }
    }
}

/// An experiment to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Experiment {
    /// Find the largest packet that a direction carries.
    Mtu {
        /// The peer.
        address: SocketAddr,
        /// One of both.
        direction: Direction,
    },
    /// Look for any sign of life of the host behind the peer.
    Host {
        /// The host, and a port that is expected to be closed.
        address: SocketAddr,
    },
    /// Repeat flows.
    Flows {
        /// The peer.
        address: SocketAddr,
        /// Source ports of connections that timed out.
        failed: Vec<u16>,
        /// Source ports of connections that succeeded: the control.
        passed: Vec<u16>,
    },
}

impl Experiment {
    /// Whether it takes long: a question to a host may be asked together with others.
    #[must_use]
    pub const fn is_slow(&self) -> bool {
        !matches!(self, Self::Host { .. })
    }

    /// The address to which it connects.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        match self {
            Self::Mtu { address, .. } | Self::Host { address } | Self::Flows { address, .. } => {
                *address
            }
        }
    }
}

/// What an experiment found. `None` where its control failed: nothing is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Of [`Experiment::Mtu`].
    Mtu(Direction, Option<LargestPacket>),
    /// Of [`Experiment::Host`]: whether it has answered.
    Host(Option<bool>),
    /// Of [`Experiment::Flows`].
    Flows(Option<DeadFlows>),
}

/// The report of an experiment.
#[derive(Debug, Clone)]
pub struct ExperimentReport {
    /// The peer.
    pub node: NodeName,
    /// The address of the experiment.
    pub address: SocketAddr,
    /// When it ended; the report may be read later.
    pub ended: Instant,
    /// What it found.
    pub found: Found,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn largest(bytes: u16, is_exact: bool) -> LargestPacket {
        LargestPacket { bytes, is_exact }
    }

    #[test]
    fn what_was_found_is_told_with_its_unit() {
        let flows = |dead, flows| Detail::Flows(DeadFlows { dead, flows });
        for (detail, text) in [
            (Detail::Largest(largest(1337, true)), "1,337 bytes"),
            (Detail::Largest(largest(1005, true)), "1,005 bytes"),
            (Detail::Largest(largest(65535, true)), "65,535 bytes"),
            (Detail::Largest(largest(524, false)), "at least 524 bytes"),
            (flows(1, 4), "1 of 4 flows never gets through"),
            (flows(2, 16), "2 of 16 flows never get through"),
            (Detail::Host(HostState::Answers), "its host answers"),
            (Detail::Host(HostState::Silent), "its host is silent"),
        ] {
            assert_eq!(detail.to_string(), text);
        }
    }

    #[test]
    fn two_paths_carry_the_smaller_exact_figure() {
        for (one, other, both) in [
            (largest(1337, true), largest(1400, true), largest(1337, true)),
            (largest(1337, true), largest(524, false), largest(1337, true)),
            (largest(524, false), largest(900, false), largest(524, false)),
        ] {
            assert_eq!((one.and(other), other.and(one)), (both, both));
        }
    }

    #[test]
    fn two_directions_carry_the_smaller_figure() {
        for (there, back, both) in [
            (largest(1337, true), largest(1400, true), largest(1337, true)),
            (largest(1337, true), largest(1400, false), largest(1337, true)),
            (largest(1337, true), largest(1337, false), largest(1337, true)),
            // Whether the way back carries 1,337 bytes is not known.
            (largest(1337, true), largest(524, false), largest(524, false)),
            (largest(524, false), largest(900, false), largest(524, false)),
        ] {
            assert_eq!((there.both_ways(back), back.both_ways(there)), (both, both));
        }
    }
}
