//! Whether the host behind a peer's pod lives, and when to look.
//!
//! Silence means something only of a host that answered while its pod did: others are filtered from the start. So
//! hosts are asked in health as well, seldom, and a host that stops answering while its pod answers is one that is
//! filtered now.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::super::{Moment, Verdict};
use super::{HOST_BASELINE, Situation};
use crate::experiment::{Experiment, HostState};

/// Time between two looks while probes fail.
const FAILING: Duration = Duration::from_secs(60);
/// The same after one look without an answer, which a lossy path explains.
const CONFIRM: Duration = Duration::from_secs(5);
/// Age of what was found, at which it is dropped if this host cannot ask again: it may have lost its route.
const OUTDATED: Duration = Duration::from_secs(120);
/// Looks without an answer after which a host is silent.
const UNANSWERED: u8 = 2;

/// The host behind a peer's pod.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// `None` while unknown: it never answered, is filtered, or was not asked since probes began to fail or to succeed
    /// again.
    pub state: Option<HostState>,
    /// When it was asked last.
    pub at: Option<SystemTime>,
    /// What was asked last.
    pub address: Option<SocketAddr>,
    /// It has answered while its pod did, or since.
    answered: bool,
    /// Probes of the pod fail.
    failing: bool,
    /// Looks without an answer in a row.
    unanswered: u8,
    /// When the last look began; `None` before the first, and before the first since probes fail.
    began: Option<Instant>,
    /// A healthy peer had a look at its own offset.
    spread: bool,
}

impl Host {
    /// Whether probes of the pod fail now. What was found before tells nothing of the host after the change.
    pub(in crate::state) fn turn(&mut self, failing: bool) {
        (self.failing, self.state, self.at, self.unanswered) = (failing, None, None, 0);
        if failing {
            self.began = None;
        }
    }

    /// The pod is behind another host now.
    pub(in crate::state) fn replace(&mut self) {
        *self = Self { failing: self.failing, ..Self::default() };
    }

    /// `host` is what may be asked, `offset` the pair's own within [`HOST_BASELINE`].
    pub(super) fn due(
        &self,
        now: Moment,
        peer: Situation,
        (host, offset): (Option<SocketAddr>, Duration),
    ) -> Option<Experiment> {
        let address = host?;
        let unknown = peer.verdict == Verdict::Unknown && !self.failing;
        if unknown || peer.verdict == Verdict::Draining {
            return None;
        }
        let wait = match (self.unanswered, self.failing) {
            (1, _) if self.answered => CONFIRM,
            (_, true) => FAILING,
            (_, false) if self.spread => HOST_BASELINE,
            (_, false) => offset,
        };
        let due = self.began.is_none_or(|began| now.instant >= began + wait);
        due.then_some(Experiment::Host { address })
    }

    pub(super) fn begin(&mut self, now: Moment, address: SocketAddr) {
        // Without an offset, those of all peers that are new at the same time would stay together.
        self.spread = self.began.is_some() && !self.failing;
        self.began = Some(now.instant);
        self.address = Some(address);
    }

    pub(super) fn end(&mut self, now: Moment, answered: Option<bool>) {
        let Some(answered) = answered else {
            let age = self.at.and_then(|at| now.wall.duration_since(at).ok());
            if self.failing && age.is_some_and(|age| age >= OUTDATED) {
                (self.state, self.at) = (None, None);
            }
            return;
        };
        self.answered |= answered;
        if self.began.is_none() {
            // It began before the first failure.
            return;
        }
        self.at = Some(now.wall);
        self.unanswered = if answered { 0 } else { self.unanswered.saturating_add(1) };
        if answered {
            self.state = Some(HostState::Answers);
        } else if self.unanswered >= UNANSWERED {
            self.answered &= self.failing;
            self.state = self.answered.then_some(HostState::Silent);
        }
    }
}
