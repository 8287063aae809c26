//! Flows of a peer that never get through, and when to repeat some.
//!
//! Where a path has several members (a bundle of links, paths of equal cost, queues), the ports of a connection choose
//! the one that carries it. A member that loses everything makes connections of the same ports fail always, and others
//! never.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::super::{Moment, Sample, Verdict};
use super::Situation;
use crate::experiment::{DeadFlows, Experiment};
use crate::probe::FailureReason;

/// Longest time between two experiments while the verdict lasts.
const SPACING: Duration = Duration::from_secs(600);
/// The same after one that proved nothing; it doubles with each.
const AGAIN: Duration = Duration::from_secs(60);
/// Source ports that are repeated, of those that failed and of those that passed.
const REPEATED: usize = 4;
/// A flow that never gets through loses its SYNs.
const VERDICT: Verdict = Verdict::Flaky(FailureReason::ConnectTimeout);

/// Flows that never get through.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    /// `None` while nothing is proven.
    pub dead: Option<DeadFlows>,
    /// When they were tried last.
    pub at: Option<SystemTime>,
    /// When the last experiment began, of this verdict.
    began: Option<Instant>,
    /// Experiments in a row that proved nothing.
    unproven: u8,
}

impl Flows {
    pub(super) fn due(
        &self,
        now: Moment,
        peer: Situation,
        recent: &VecDeque<Sample>,
    ) -> Option<Experiment> {
        let wait = match self.unproven {
            0 => SPACING,
            times => SPACING.min(AGAIN * (1 << times.min(5)) / 2),
        };
        let waits = self.began.is_some_and(|began| now.instant < began + wait);
        if peer.verdict != VERDICT || waits {
            return None;
        }
        let timeout = Some(FailureReason::ConnectTimeout);
        // What passed before the first failure may have done so before the fault began.
        let since = recent.iter().position(|sample| sample.failure() == timeout)?;
        let recent = || recent.iter().skip(since).rev();
        let (failed, passed) = (ports(recent(), timeout), ports(recent(), None));
        let proves = !failed.is_empty() && !passed.is_empty();
        proves.then_some(Experiment::Flows { address: peer.address, failed, passed })
    }

    pub(super) fn begin(&mut self, now: Moment) {
        self.began = Some(now.instant);
    }

    pub(super) fn end(&mut self, now: Moment, dead: Option<DeadFlows>) {
        // Unless the verdict has changed meanwhile.
        if self.began.is_some() {
            self.unproven = if dead.is_some() { 0 } else { self.unproven.saturating_add(1) };
            self.dead = dead;
            self.at = Some(now.wall);
        }
    }

    pub(super) fn follow(&mut self, verdict: Verdict) {
        if verdict != VERDICT {
            *self = Self::default();
        }
    }
}

/// The source ports of the first of these probes that ended so, each once.
fn ports<'a>(recent: impl Iterator<Item = &'a Sample>, failure: Option<FailureReason>) -> Vec<u16> {
    let mut ports = Vec::new();
    for sample in recent.filter(|sample| sample.failure() == failure) {
        if let Some(port) = sample.source_port()
            && !ports.contains(&port)
            && ports.len() < REPEATED
        {
            ports.push(port);
        }
    }
    ports
}
