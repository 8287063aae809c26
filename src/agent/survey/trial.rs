//! One trial: silence, then who speaks first opens a connection, and warm ones as the control.
//!
//! If the first one fails for all of its time, the other end opens one before the warm ones: through a NAT that has
//! forgotten the pair, only the inside can. Both ends know when.

use std::time::{Duration, Instant};

use super::Survey;
use super::grants::{Contact, Rest, SETTLING, Stage};
use crate::name::NodeName;
use crate::probe::{Direction, FailureReason};
use crate::prober;
use crate::survey::{Attempt, Command, MAX_TRIAL, Trial, TrialReport, WARM_ATTEMPTS};

/// Time limit of a warm connection: a lost SYN, and a lost one after it.
const WARM_TIMEOUT: Duration = Duration::from_secs(4);
/// After a first connection that failed: when the other end opens one, and when the warm ones begin.
const HELP_AFTER: Duration = Duration::from_secs(1);
const WARM_AFTER: Duration = Duration::from_secs(3);
/// Between two looks whether the peer is quiet.
const POLL: Duration = Duration::from_millis(250);
/// The loop resumes a peer at once.
const RESUME: Duration = Duration::from_secs(2);
/// How much later than planned a first connection may begin.
const MAX_LATE: Duration = Duration::from_millis(500);
/// The status of a command that was accepted.
pub(super) const OK: u16 = 200;

const NO_ATTEMPT: Attempt =
    Attempt { connect: Err(FailureReason::ConnectTimeout), syn_retransmits: 0, rtt: None };

impl Survey {
    /// Makes one trial of a pair, and returns what it found and how to reach the peer.
    ///
    /// # Errors
    /// Why there was no silence.
    pub(super) fn try_gap(
        &self,
        peer: &NodeName,
        trial: Trial,
    ) -> Result<(TrialReport, Contact), String> {
        let hold = trial.gap + MAX_TRIAL + SETTLING * 2;
        let number = self
            .change(|inner| inner.grants.rest(Instant::now(), peer, hold, true))
            .map_err(|(_, reason)| reason)?;
        let result = self.rest_and_try(peer, number, hold, trial);
        self.end_rest(peer);
        result
    }

    fn rest_and_try(
        &self,
        peer: &NodeName,
        number: u64,
        hold: Duration,
        trial: Trial,
    ) -> Result<(TrialReport, Contact), String> {
        let lost = || self.lock().grants.why_over(peer).to_owned();
        let contact = self.await_quiet(number).ok_or_else(lost)?;
        self.renew_for_trial(contact);
        self.ask(contact, &Command::Rest(hold))?;
        let end = Instant::now() + SETTLING;
        loop {
            match self.ask(contact, &Command::Begin(trial)) {
                Ok(_) => break,
                Err(reason) if reason != "busy" || Instant::now() >= end => return Err(reason),
                Err(_) => _ = self.wait(Instant::now() + POLL, |_| false),
            }
            if self.lock().grants.resting(number).is_none() {
                return Err(lost());
            }
        }
        // The answer was the last packet.
        let since = Instant::now();
        let speaks = trial.direction == Direction::Outgoing;
        self.change(|inner| inner.grants.begin(since, peer, trial.gap, speaks).map(drop))
            .map_err(|(_, reason)| reason)?;
        let mut report = if speaks {
            let report = self.speak(number, contact, since, trial.gap).ok_or_else(lost)?;
            // From here on, the peer may probe again.
            self.update(|inner| inner.grants.complete(number));
            report
        } else {
            self.listen(number, contact, since, trial.gap).ok_or_else(lost)?
        };
        let answer = self.ask(contact, &Command::Report)?;
        if !speaks {
            report = TrialReport::read(&answer).ok_or("a malformed report")?;
        }
        Ok((report, contact))
    }

    /// Sends a command, and returns the answer.
    fn ask(&self, contact: Contact, command: &Command) -> Result<String, String> {
        match self.send(contact, command) {
            Ok((OK, answer)) => Ok(answer),
            Ok((_, reason)) => Err(reason),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    /// Waits until nothing is in flight here.
    fn await_quiet(&self, number: u64) -> Option<Contact> {
        let quiet = self.wait(Instant::now() + SETTLING, |inner| {
            inner.grants.pending(number).is_none_or(|rest| rest.stage == Stage::Quiet)
        });
        let inner = self.lock();
        inner.grants.resting(number).filter(|_| quiet)?.contact
    }

    /// Ends the rest of the surveyor, and waits until the loop has resumed the peer.
    fn end_rest(&self, peer: &NodeName) {
        self.update(|inner| inner.grants.end_rest(Some(peer), "the trial is over"));
        self.wait(Instant::now() + RESUME, |inner| inner.grants.is_free());
    }

    /// The peer's part of a trial.
    pub(super) fn attend(
        &self,
        number: u64,
        contact: Contact,
        since: Instant,
        gap: Duration,
        speaks: bool,
    ) {
        if !speaks {
            self.help(number, contact, since, gap);
            return;
        }
        let Some(report) = self.speak(number, contact, since, gap) else { return };
        self.update(|inner| inner.grants.spoke(number, report));
        // If it is lost, the surveyor asks later.
        let _ = self.send(contact, &Command::Report);
    }

    /// Waits in a rest until then; `false` if it has ended.
    fn wait_in_rest(&self, number: u64, until: Instant) -> bool {
        !self.wait(until, |inner| inner.grants.resting(number).is_none())
    }

    /// Waits until the trial of a rest is complete, or the rest has ended; `false` if neither is so by then.
    fn wait_for_trial(&self, number: u64, until: Instant) -> bool {
        self.wait(until, |inner| inner.grants.resting(number).is_none_or(Rest::is_complete))
    }

    /// Speaks first after the gap. `None` if the rest ends before.
    fn speak(
        &self,
        number: u64,
        contact: Contact,
        since: Instant,
        gap: Duration,
    ) -> Option<TrialReport> {
        let at = since + gap;
        if !self.wait_in_rest(number, at) {
            return None;
        }
        let began = Instant::now();
        let mut disturbed = began > at + MAX_LATE;
        let mut attempt = |timeout| {
            prober::attempt(contact.address, timeout).unwrap_or_else(|_| {
                disturbed = true;
                NO_ATTEMPT
            })
        };
        let first = attempt(MAX_TRIAL);
        if first.connect.is_err() && !self.wait_in_rest(number, at + MAX_TRIAL + WARM_AFTER) {
            return None;
        }
        let warm = (0..WARM_ATTEMPTS).map(|_| attempt(WARM_TIMEOUT)).collect();
        self.lock().grants.resting(number)?;
        Some(TrialReport { gap: began - since, first, warm, disturbed })
    }

    /// Waits until the other end has spoken first; helps it when that has failed. `None` if the rest ends.
    fn listen(
        &self,
        number: u64,
        contact: Contact,
        since: Instant,
        gap: Duration,
    ) -> Option<TrialReport> {
        if !self.help(number, contact, since, gap) {
            let last = since + gap + MAX_TRIAL + WARM_AFTER;
            let warm = WARM_TIMEOUT * u32::try_from(WARM_ATTEMPTS).unwrap_or(u32::MAX);
            self.wait_for_trial(number, last + warm);
        }
        self.lock().grants.resting(number)?;
        Some(TrialReport { gap, first: NO_ATTEMPT, warm: Vec::new(), disturbed: true })
    }

    /// Opens a connection if the other end may have failed to; `true` if the trial is over before.
    fn help(&self, number: u64, contact: Contact, since: Instant, gap: Duration) -> bool {
        let over = self.wait_for_trial(number, since + gap + MAX_TRIAL + HELP_AFTER);
        if !over {
            let _ = prober::attempt(contact.address, WARM_TIMEOUT);
        }
        over
    }
}
