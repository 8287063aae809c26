//! From evidence to a verdict: one pure function.

use std::fmt;

use crate::probe::FailureReason;

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
    /// Up, but the path loses packets.
    Lossy,
    /// Up, but the path drops full-size packets, or its path MTU has shrunk.
    Mtu,
    /// Up, without an impairment.
    Up,
}

/// What a verdict depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub(super) draining: bool,
    pub(super) up: Option<bool>,
    pub(super) last_failure: Option<FailureReason>,
    pub(super) silent: bool,
    /// Recent probes succeeded only after a retransmit.
    pub(super) lossy: bool,
    /// Large probes fail for their size.
    pub(super) drops_full_size: bool,
    pub(super) path_mtu_shrunk: bool,
}

impl Evidence {
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self { draining: true, .. } => Verdict::Draining,
            Self { up: None, .. } => Verdict::Unknown,
            Self { up: Some(false), last_failure: Some(reason), .. } => Verdict::Down(reason),
            Self { silent: true, .. } => Verdict::OneWay,
            Self { lossy: true, .. } => Verdict::Lossy,
            Self { drops_full_size: true, .. } | Self { path_mtu_shrunk: true, .. } => Verdict::Mtu,
            Self { .. } => Verdict::Up,
        }
    }
}

impl Verdict {
    /// The name in JSON and logs, without the reason of [`Verdict::Down`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Draining => "draining",
            Self::Down(_) => "down",
            Self::OneWay => "one-way",
            Self::Lossy => "lossy",
            Self::Mtu => "mtu",
            Self::Up => "up",
        }
    }

    /// The impairment of a peer that is up, named as in JSON.
    #[must_use]
    pub const fn impairment(self) -> Option<&'static str> {
        match self {
            Self::OneWay | Self::Lossy | Self::Mtu => Some(self.as_str()),
            Self::Unknown | Self::Draining | Self::Down(_) | Self::Up => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(reason) => write!(f, "down ({reason})"),
            other => f.write_str(other.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: Evidence = Evidence {
        draining: false,
        up: Some(true),
        last_failure: None,
        silent: false,
        lossy: false,
        drops_full_size: false,
        path_mtu_shrunk: false,
    };

    #[test]
    fn the_worst_verdict_that_applies_wins() {
        let mut evidence = HEALTHY;
        assert_eq!(evidence.verdict(), Verdict::Up);
        evidence.drops_full_size = true;
        assert_eq!(evidence.verdict(), Verdict::Mtu);
        evidence.drops_full_size = false;
        evidence.path_mtu_shrunk = true;
        assert_eq!(evidence.verdict(), Verdict::Mtu);
        evidence.lossy = true;
        assert_eq!(evidence.verdict(), Verdict::Lossy);
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
