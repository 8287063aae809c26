//! What a peer says of itself, and what that is worth: its tokens, its goodbyes, its return. Pure.
//!
//! A request can claim any sender. Only one that shows this agent's token is *proven*: its sender receives
//! probes at the peer's address. Any other is a claim, which changes nothing: it makes the agent check the
//! peer with one more probe, and the answer decides.

use std::time::{Duration, Instant};

use crate::name::NodeName;
use crate::probe::{Answer, Outcome, ProbeId, Report};
use crate::token::{Token, TokenKey};
use crate::wire::KeepAlive;

/// Longest drain that a goodbye can announce: the setting has the same limit. A goodbye hides a peer for
/// this and one refresh at most.
pub(super) const MAX_DRAIN: Duration = Duration::from_secs(300);
/// Intervals for which an unproven goodbye of an agent without tokens holds when the check fails: the next
/// list of peers normally shows within them that it has left. Once in a life.
pub(super) const UNPROVEN_INTERVALS: u32 = 2;

/// What a request claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The peer stops.
    Goodbye,
    /// The peer, whose goodbye is in effect, is back.
    Return,
}

/// A goodbye that was accepted.
#[derive(Debug, Clone, Copy)]
struct Goodbye {
    at: Instant,
    /// An answer may show another one: one has refuted this, or it was never more than a claim.
    is_over: bool,
}

/// A claim that a probe decides.
#[derive(Debug, Clone, Copy)]
struct Check {
    claim: Claim,
    /// `None` until the probe is submitted.
    probe: Option<ProbeId>,
}

/// The tokens and claims of one peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    /// The seal in the peer's last answer that had one.
    seal: Option<Token>,
    /// The peer's token, which fits the seal.
    token: Option<Token>,
    /// The peer's last answer says that it shows tokens.
    can_prove: bool,
    /// The peer has proven a request in this life. Requests that are not proven are forged, or older.
    pub(super) has_proven: bool,
    /// `None` until the first claim, which most peers make when they stop.
    past: Option<Box<Past>>,
}

/// What a peer claimed so far.
#[derive(Debug, Clone, Default)]
struct Past {
    goodbye: Option<Goodbye>,
    /// A failed check counted as a goodbye, and no answer came since.
    excused: bool,
    check: Option<Check>,
    /// The last check of a goodbye and of a return.
    checked: [Option<Instant>; 2],
}

/// How long goodbyes hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Spacing of one peer's slots.
    pub(super) interval: Duration,
    /// The drain of a peer whose answer shows only that it drains.
    pub(super) drain: Duration,
    /// The next list of peers comes within this time.
    pub(super) refresh_within: Duration,
}

/// What the rest of the record says of the peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// The request names the listed instance, or the one that answers.
    pub(super) is_known: bool,
    /// The peer list names the instance, so that a new pod has another address.
    pub(super) is_listed: bool,
    /// A goodbye is in effect.
    pub(super) is_draining: bool,
    /// Its last probe failed.
    pub(super) is_failing: bool,
}

/// What follows from a claim or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// One more probe decides.
    Check,
    /// The peer stops: it is neither probed nor counted for this long.
    Pause(Duration),
    /// It is probed, and not counted for this long.
    Excuse(Duration),
    /// It stays.
    Resume,
}

impl Claims {
    /// The peer's token, to be shown to it.
    pub(super) fn token(&self) -> Option<Token> {
        self.token
    }

    /// Folds in the tokens of a request to the agent of `own_node`, which has this key. Returns whether it
    /// shows this agent's token, so that its sender is the peer.
    pub(super) fn identify(
        &mut self,
        request: &KeepAlive,
        key: &TokenKey,
        own_node: &NodeName,
    ) -> bool {
        let Some(token) = request.token else { return false };
        let own = key.own(&request.node, request.instance.as_ref());
        let seal = |shown: Token| shown.seal(own, &request.node, own_node);
        // The seal came from the peer itself, so that a forged request can neither set nor replace the token.
        if self.token != Some(token.own) && self.seal.is_some_and(|known| known == seal(token.own))
        {
            self.token = Some(token.own);
        }
        let is_proof = token.echo == Some(own);
        self.has_proven |= is_proof;
        is_proof
    }

    /// Folds in who answers. Returns whether it is a new life of the peer.
    pub(super) fn learn(&mut self, answer: &Answer, is_other_instance: bool) -> bool {
        self.can_prove = answer.can_token;
        if let Some(past) = &mut self.past {
            past.excused = false;
        }
        // With the known token, an agent that still has its key would have given no seal, or the same.
        let new_seal = answer.seal.is_some() && answer.seal != self.seal;
        let is_older = self.has_proven && !self.can_prove;
        let is_new_life = is_other_instance || is_older || (new_seal && self.token.is_some());
        if is_new_life {
            self.token = None;
            self.has_proven = false;
        }
        self.seal = answer.seal.or(self.seal);
        is_new_life
    }

    /// Whether a claim is worth a probe: one is enough, and a client that repeats it makes one an interval.
    fn start_check(&mut self, now: Instant, claim: Claim, interval: Duration) -> bool {
        let past = self.past.get_or_insert_default();
        let [goodbye, back] = &mut past.checked;
        let last = match claim {
            Claim::Goodbye => goodbye,
            Claim::Return => back,
        };
        let early = last.is_some_and(|last| now.saturating_duration_since(last) < interval);
        if early || past.check.is_some() {
            return false;
        }
        *last = Some(now);
        past.check = Some(Check { claim, probe: None });
        true
    }

    /// Rules on what a request claims: a goodbye, or by being blank, that the peer is back.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        goodbye: Option<Duration>,
        is_proof: bool,
        standing: Standing,
        terms: Terms,
    ) -> Option<Ruling> {
        let Standing { is_known, is_listed, is_draining, is_failing } = standing;
        let claim = match goodbye {
            Some(drain) if is_known && is_proof && !is_draining => {
                return Some(self.pause(now, drain.min(MAX_DRAIN) + terms.refresh_within));
            }
            // Its probes already show whether it has stopped: forged goodbyes of many dead peers must not
            // occupy the workers.
            Some(_) if is_known && !is_draining && !is_failing => Claim::Goodbye,
            // A new pod has another address, which only discovery can provide.
            None if is_draining && (is_known || !is_listed) => Claim::Return,
            _ => return None,
        };
        self.start_check(now, claim, terms.interval).then_some(Ruling::Check)
    }

    fn pause(&mut self, now: Instant, holds: Duration) -> Ruling {
        let past = self.past.get_or_insert_default();
        past.goodbye = Some(Goodbye { at: now, is_over: false });
        Ruling::Pause(holds)
    }

    /// Records that the probe which decides on a claim was submitted.
    pub(super) fn begin_check(&mut self, id: ProbeId) {
        let past = self.past.as_mut();
        if let Some(check) = past.and_then(|past| past.check.as_mut()) {
            check.probe = Some(id);
        }
    }

    /// Whether a probe decides on a claim just now.
    pub(super) fn is_checking(&self) -> bool {
        self.past.as_ref().is_some_and(|past| past.check.is_some())
    }

    /// Takes the claim that this report decides, if its check is in flight.
    pub(super) fn end_check(&mut self, report: &Report) -> Option<Claim> {
        let past = self.past.as_mut()?;
        past.check.take_if(|check| check.probe == Some(report.id)).map(|check| check.claim)
    }

    /// Rules on an answer to a probe that began then: it comes from the peer's address, so that it accepts
    /// a goodbye or refutes one.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        began: Instant,
        answer: &Answer,
        is_draining: bool,
        terms: Terms,
    ) -> Option<Ruling> {
        let last = self.past.as_mut().and_then(|past| past.goodbye.as_mut());
        if answer.draining {
            // A peer that keeps answering so is hidden once.
            let is_over = last.is_none_or(|goodbye| goodbye.is_over);
            return is_over.then(|| self.pause(now, terms.drain + terms.refresh_within));
        }
        last.filter(|goodbye| goodbye.at <= began)?.is_over = true;
        is_draining.then_some(Ruling::Resume)
    }

    /// Rules on a check that was not answered: an agent without tokens cannot prove its goodbye, and perhaps
    /// has left.
    pub(super) fn no_answer(
        &mut self,
        now: Instant,
        claim: Claim,
        outcome: &Outcome,
        is_draining: bool,
        terms: Terms,
    ) -> Option<Ruling> {
        let past = self.past.get_or_insert_default();
        let is_local = matches!(outcome, Outcome::Local(_));
        if claim != Claim::Goodbye || is_local || self.can_prove || past.excused || is_draining {
            return None;
        }
        past.excused = true;
        past.goodbye = Some(Goodbye { at: now, is_over: true });
        Some(Ruling::Excuse(terms.interval * UNPROVEN_INTERVALS))
    }
}
