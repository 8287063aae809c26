//! What the recent probes of a peer tell.

use std::time::Duration;

use super::super::flaky::Failures;
use super::super::large::Strain;
use super::super::path;
use super::super::samples::LossWindow;
use super::super::verdict::Verdict;
use super::PeerRecord;
use crate::probe::{FailureReason, Outcome, Report};

/// So many make the size of a lost packet prove nothing.
const SUSPECT_PROBES: usize = 2;
/// A probe that takes so long leaves a large one, which ends after 3 s, no time for three retransmits.
const SLOW: Duration = Duration::from_secs(1);
/// How much later an answer comes that was sent again: the kernel's shortest RTO (TCP_RTO_MIN, 200 ms), less
/// what one answer varies more than the last 20.
const LATE_ANSWER: Duration = Duration::from_millis(180);

impl PeerRecord {
    /// Whether the path loses packets: until none of the last [`RECENT`](super::RECENT) probes and requests tells so, so
    /// that the verdict does not come and go. Failed probes do not count: an outage loses every packet, and has a
    /// verdict of its own. The requests are those of the peer whose SYN-ACK or answer needed a retransmit: what
    /// this node sends to it is lost, and the peer's own probes show none of it.
    pub(in crate::state) fn loses_packets(&self) -> bool {
        if self.verdict == Verdict::Lossy {
            return self.lossy_probes() > 0 || self.recent_incoming_retransmits() > 0;
        }
        self.incoming_window.shows_loss()
            || self.probe_losses().shows_loss() && !self.is_intercepted()
    }

    /// Which of the last probes needed a retransmit because of a loss.
    fn probe_losses(&self) -> LossWindow {
        let mut losses = self.older_losses;
        for index in 0..self.recent.len() {
            losses.add(path::lost(&self.recent, index));
        }
        losses
    }

    /// Whether the path may lose packets of every size.
    pub(in crate::state) fn is_lossy(&self) -> bool {
        self.lossy_probes() >= SUSPECT_PROBES
    }

    /// Recent successes that needed a retransmit because of a loss. None where something answers handshakes in
    /// place of the peer: they tell nothing of the path.
    #[must_use]
    pub fn lossy_probes(&self) -> usize {
        let lost = self.probe_losses().recent().into();
        // Rarely asked: the verdict is judged after each probe and each request.
        if lost > 0 && self.is_intercepted() { 0 } else { lost }
    }

    /// Whether the last probe failed with retransmits, or succeeded only after one because of a loss, as far as is
    /// known before the next one.
    #[must_use]
    pub fn last_probe_lost(&self) -> bool {
        let Some(sample) = self.recent.back().filter(|sample| sample.retransmits() > 0) else {
            return false;
        };
        let lost = || path::lost(&self.recent, self.recent.len() - 1) && !self.is_intercepted();
        sample.failure().is_some() || lost()
    }

    /// Whether something completes handshakes in place of the peer.
    #[must_use]
    pub fn is_intercepted(&self) -> bool {
        path::is_intercepted(&self.recent)
    }

    /// Whether it is down only because twice the round trip exceeds the timeout.
    #[must_use]
    pub fn is_slower_than_timeout(&self) -> bool {
        self.verdict == Verdict::Down(FailureReason::ResponseTimeout)
            && path::too_slow(&self.recent).is_some()
    }

    /// The round-trip time of the last success; `None` if something else answers handshakes.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.filter(|_| !self.is_intercepted())
    }

    /// As [`Self::rtt`], while one of the recent probes succeeded.
    #[must_use]
    pub fn recent_rtt(&self) -> Option<Duration> {
        self.rtt().filter(|_| self.recent.iter().any(|sample| sample.failure().is_none()))
    }

    /// How long one round trip takes now, if that is known.
    #[must_use]
    pub fn expected_round_trip(&self) -> Option<Duration> {
        path::too_slow(&self.recent).or_else(|| self.recent_rtt())
    }

    /// Whether its probes fail and succeed in turns.
    pub(in crate::state) fn is_flaky(&self) -> bool {
        matches!(self.verdict, Verdict::Flaky(_)) || Failures::of(&self.recent).alternate()
    }

    /// Failures among the recent probes, and how many these are.
    #[must_use]
    pub fn recent_failures(&self) -> (usize, usize) {
        let failed = self.recent.iter().filter(|sample| sample.failure().is_some()).count();
        (failed, self.recent.len())
    }

    /// The longest total and response time of the recent successful probes.
    fn longest_times(&self) -> Option<(Duration, Duration)> {
        let times = self.recent.iter().filter_map(|sample| sample.result().ok());
        let times = times.map(|(connect, total)| (total, total.saturating_sub(connect)));
        times.reduce(|longest, (total, response)| (longest.0.max(total), longest.1.max(response)))
    }

    /// Whether the path is so slow that a large probe has no time for retransmits.
    pub(in crate::state) fn is_slow_for_large(&self) -> bool {
        self.longest_times().is_some_and(|(total, _)| total >= SLOW)
    }

    /// How a large probe that succeeded went through in each direction. Of its request the kernel tells; an
    /// answer was sent again if it comes later than any recent one by nearly an RTO, and the request was not.
    pub(in crate::state) fn strain_of(&self, report: &Report) -> Strain {
        let request = report.kernel.is_some_and(|kernel| kernel.request_retransmits() > 0);
        let late = match (&report.outcome, self.longest_times()) {
            (Outcome::Success { timings, .. }, Some((_, usual))) => {
                timings.response >= usual + LATE_ANSWER
            }
            _ => false,
        };
        // Blank probes that something else completes show no loss on the path.
        let clean =
            !self.is_intercepted() && self.recent.iter().all(|sample| sample.retransmits() == 0);
        Strain {
            outgoing: if request { clean.then_some(true) } else { Some(false) },
            incoming: if late { (clean && !request).then_some(true) } else { Some(false) },
        }
    }

    /// Mean retransmits of the recent successful probes; `None` without any.
    #[must_use]
    pub fn retransmits_per_probe(&self) -> Option<f64> {
        let good = self.recent.iter().enumerate().filter(|(_, sample)| sample.result().is_ok());
        let (probes, sum) = good.fold((0_u32, 0_u32), |(probes, sum), (index, sample)| {
            let lost = path::lost(&self.recent, index);
            (probes + 1, sum + if lost { u32::from(sample.retransmits()) } else { 0 })
        });
        (probes > 0).then(|| f64::from(sum) / f64::from(probes))
    }
}
