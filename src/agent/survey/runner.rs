//! Surveys one pair: trials in both directions in turn, until each is known.

use std::time::{Duration, Instant};

use super::Survey;
use crate::name::NodeName;
use crate::probe::Direction;
use crate::survey::{Command, MAX_TRIAL, PairResult, Plan, Search, Trial};

/// After so long without a trial, the pair is given up: a search for an MTU, which may go on, takes a minute.
const PATIENCE: Duration = Duration::from_secs(120);
/// A trial may end so much after the budget, as a budget for just one trial starts before the pair does.
const SLACK: Duration = Duration::from_secs(5);
/// After a trial without silence, and after one for which an end was busy.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_BUSY: Duration = Duration::from_millis(500);

impl Survey {
    /// Surveys the pair with a peer, and tells the result to both ends.
    pub(super) fn survey_pair(&self, peer: &NodeName, plan: &Plan) {
        let began = Instant::now();
        let mut searches = [Search::new(plan.gaps()), Search::new(plan.gaps())];
        let (mut last, mut trials, mut contact) = (began, 0, None);
        while let Some(trial) = next(&searches, trials) {
            let (now, needed) = (Instant::now(), trial.gap + MAX_TRIAL);
            if now + needed > began + plan.budget() + SLACK
                || self.lock().grants.pair_is_stopped(now)
            {
                break;
            }
            self.show(peer, Some(trial), trials);
            match self.try_gap(peer, trial) {
                Ok((report, reached)) => {
                    let [outgoing, incoming] = &mut searches;
                    let search =
                        if trial.direction == Direction::Outgoing { outgoing } else { incoming };
                    search.add(&report);
                    contact = Some(reached);
                    last = Instant::now();
                    trials += 1;
                }
                Err(reason) => {
                    log::debug!("survey of the pair with {peer:?}: {reason}");
                    if last.elapsed() > PATIENCE + trial.gap {
                        log::warn!("survey of the pair with {peer:?} given up: {reason}");
                        break;
                    }
                    let stopped =
                        |inner: &mut super::Inner| inner.grants.pair_is_stopped(Instant::now());
                    let retry = if reason.starts_with("busy") { RETRY_BUSY } else { RETRY };
                    self.wait(Instant::now() + retry, stopped);
                }
            }
        }
        let [outgoing, incoming] = searches.map(|search| search.result());
        let result = PairResult { outgoing, incoming };
        if let Some(contact) = contact {
            // If it is lost, the peer does without.
            let _ = self.send(contact, &Command::End(Some(result)));
        }
        self.finish_pair(peer, result);
    }

    /// Shows which trial goes on.
    fn show(&self, peer: &NodeName, trial: Option<Trial>, trials: u16) {
        let mut inner = self.lock();
        let is_it =
            |now: &&mut crate::survey::PairNow| now.source == self.node && now.target == *peer;
        if let Some(now) = inner.status.now.iter_mut().find(is_it) {
            (now.trial, now.trials) = (trial, trials);
        }
    }
}

/// The next trial: the directions take turns.
fn next([outgoing, incoming]: &[Search; 2], trials: u16) -> Option<Trial> {
    let outgoing = outgoing.next().map(|gap| Trial { gap, direction: Direction::Outgoing });
    let incoming = incoming.next().map(|gap| Trial { gap, direction: Direction::Incoming });
    if trials.is_multiple_of(2) { outgoing.or(incoming) } else { incoming.or(outgoing) }
}
