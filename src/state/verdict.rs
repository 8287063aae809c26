//! From evidence to a verdict: one pure function.

use std::fmt;

use crate::experiment::Detail;
use crate::label::label_set;
use crate::probe::{Direction, FailureReason};

/// The verdict on a peer; the first that applies. Readiness, as Kubernetes reports it, is separate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No success yet, and not enough failures.
    Unknown,
    /// It sent a goodbye, and is not probed for a bounded time.
    Draining,
    /// Too many consecutive slots without a success; the reason of the last failure.
    Down(FailureReason),
    /// Probes of it succeed, its own probes no longer arrive.
    OneWay,
    /// Up, but its probes keep failing and succeeding in turns; the most frequent reason.
    Flaky(FailureReason),
    /// Up, but the path loses packets.
    Lossy,
    /// Up, but the path drops full-size packets, or its path MTU has shrunk.
    Mtu(Direction),
    /// Up, without an impairment.
    Up,
}

label_set! {
    /// What comes in from a peer that is down, or whose requests are missing.
    pub enum Incoming {
        /// Whole requests.
        Requests = "requests",
        /// SYNs that lead to no connection: what this node sends does not arrive there.
        Syns = "syns",
        /// Nothing.
        Nothing = "nothing",
    }
}

/// What a verdict depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub(super) draining: bool,
    pub(super) up: Option<bool>,
    pub(super) last_failure: Option<FailureReason>,
    pub(super) silent: bool,
    /// Its probes fail and succeed in turns; the most frequent reason.
    pub(super) flaky: Option<FailureReason>,
    /// Recent probes succeeded only after a retransmit.
    pub(super) lossy: bool,
    /// The direction that loses full-size segments, or whose path MTU has shrunk.
    pub(super) mtu: Option<Direction>,
}

impl Evidence {
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self { draining: true, .. } => Verdict::Draining,
            Self { up: None, .. } => Verdict::Unknown,
            Self { up: Some(false), last_failure: Some(reason), .. } => Verdict::Down(reason),
            Self { silent: true, .. } => Verdict::OneWay,
            Self { flaky: Some(reason), .. } => Verdict::Flaky(reason),
            Self { lossy: true, .. } => Verdict::Lossy,
            Self { mtu, .. } => mtu.map_or(Verdict::Up, Verdict::Mtu),
        }
    }
}

impl Verdict {
    /// The name in JSON and logs, without a reason or a direction.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Draining => "draining",
            Self::Down(_) => "down",
            Self::OneWay => "one-way",
            Self::Flaky(_) => "flaky",
            Self::Lossy => "lossy",
            Self::Mtu(_) => "mtu",
            Self::Up => "up",
        }
    }

    /// The reason of a verdict that rests on failed probes.
    #[must_use]
    pub const fn reason(self) -> Option<FailureReason> {
        match self {
            Self::Down(reason) | Self::Flaky(reason) => Some(reason),
            Self::Unknown
            | Self::Draining
            | Self::OneWay
            | Self::Lossy
            | Self::Mtu(_)
            | Self::Up => None,
        }
    }

    /// The direction of a verdict that has one.
    #[must_use]
    pub const fn direction(self) -> Option<Direction> {
        match self {
            Self::Mtu(direction) => Some(direction),
            Self::Unknown
            | Self::Draining
            | Self::Down(_)
            | Self::OneWay
            | Self::Flaky(_)
            | Self::Lossy
            | Self::Up => None,
        }
    }

    /// The text with what an experiment adds: `mtu (outgoing, 1,337 bytes)`.
    #[must_use]
    pub fn with(self, detail: Option<Detail>) -> String {
        let text = self.to_string();
        match (text.strip_suffix(')'), detail) {
            (Some(open), Some(detail)) => format!("{open}, {detail})"),
            _ => text,
        }
    }

    /// The impairment of a peer that is up, named as in JSON.
    #[must_use]
    pub const fn impairment(self) -> Option<&'static str> {
        match self {
            Self::OneWay | Self::Flaky(_) | Self::Lossy | Self::Mtu(_) => Some(self.as_str()),
            Self::Unknown | Self::Draining | Self::Down(_) | Self::Up => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(reason) | Self::Flaky(reason) => write!(f, "{} ({reason})", self.as_str()),
            Self::Mtu(direction) => write!(f, "mtu ({direction})"),
            other => f.write_str(other.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{DeadFlows, HostState, LargestPacket};

    #[test]
    fn a_detail_follows_reason_or_direction() {
        let reason = FailureReason::ConnectTimeout;
        let largest = Detail::Largest(LargestPacket { bytes: 1337, is_exact: true });
        let flows = Detail::Flows(DeadFlows { dead: 1, flows: 4 });
        for (verdict, detail, text) in [
            (Verdict::Mtu(Direction::Outgoing), Some(largest), "mtu (outgoing, 1,337 bytes)"),
            (Verdict::Mtu(Direction::Both), None, "mtu (both)"),
            (
                Verdict::Down(reason),
                Some(Detail::Host(HostState::Answers)),
                "down (connect_timeout, its host answers)",
            ),
            (
                Verdict::Flaky(reason),
                Some(flows),
                "flaky (connect_timeout, 1 of 4 flows never gets through)",
            ),
            (Verdict::Up, None, "up"),
        ] {
            assert_eq!(verdict.with(detail), text);
        }
    }

    const HEALTHY: Evidence = Evidence {
        draining: false,
        up: Some(true),
        last_failure: None,
        silent: false,
        flaky: None,
        lossy: false,
        mtu: None,
    };

    #[test]
    fn the_worst_verdict_that_applies_wins() {
        let mut evidence = HEALTHY;
        assert_eq!(evidence.verdict(), Verdict::Up);
        evidence.mtu = Some(Direction::Incoming);
        assert_eq!(evidence.verdict(), Verdict::Mtu(Direction::Incoming));
        evidence.lossy = true;
        assert_eq!(evidence.verdict(), Verdict::Lossy);
        evidence.flaky = Some(FailureReason::WrongPeer);
        assert_eq!(evidence.verdict(), Verdict::Flaky(FailureReason::WrongPeer));
        evidence.silent = true;
        assert_eq!(evidence.verdict(), Verdict::OneWay);
        evidence.up = Some(false);
        evidence.last_failure = Some(FailureReason::Refused);
        assert_eq!(evidence.verdict(), Verdict::Down(FailureReason::Refused));
        evidence.draining = true;
        assert_eq!(evidence.verdict(), Verdict::Draining);
        assert_eq!(Evidence { up: None, ..HEALTHY }.verdict(), Verdict::Unknown);
    }
}
