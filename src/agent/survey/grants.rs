//! What this agent grants to surveys: to whom it is claimed, and with which peer it rests. Pure.
//!
//! One survey holds the agent at a time, and it rests with one peer at a time, each rest for a bounded time. What
//! is granted here ends by itself, whatever becomes of the other end.

mod rest;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::name::NodeName;
use crate::survey::{MAX_GAP, MAX_TRIAL, PairResult, TrialReport};
use crate::token::{PairToken, Token};
pub(super) use rest::{Rest, Stage};

/// Why a command is refused: the status, and a line of text.
pub(in crate::agent) type Refusal = (u16, String);

/// How long a claim holds: three renewals.
pub(super) const LEASE: Duration = Duration::from_secs(180);
/// The longest claim: a coordinator renews none to a peer with which it rests.
pub(super) const MAX_LEASE: Duration = Duration::from_secs(600);
/// How long a rest goes on after the latest first attempt: for the warm ones and the report.
pub(super) const MARGIN: Duration = Duration::from_secs(30);
/// Until silence begins: what is in flight ends within a timeout.
pub(super) const SETTLING: Duration = Duration::from_secs(30);
/// The longest rest: the longest gap, and the time before and after it.
const MAX_REST: Duration = Duration::from_secs(680);
const _: () = assert!(
    MAX_REST.as_secs()
        == SETTLING.as_secs() + MAX_GAP.as_secs() + MAX_TRIAL.as_secs() + MARGIN.as_secs()
);
/// Results that wait for the loop.
const MAX_RESULTS: usize = 16;

/// Why no survey begins while a pair of the last one is left.
const ENDING: &str = "the last survey is just ending: try again in a minute";

const FORBIDDEN: u16 = 403;
const CONFLICT: u16 = 409;

/// How to reach a peer, and the tokens to show to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) address: SocketAddr,
    pub(super) token: PairToken,
}

#[derive(Debug)]
struct Claim {
    holder: NodeName,
    until: Instant,
    /// The holder's own token: another process of it has another.
    token: Option<Token>,
}

/// A run of a thread, which ends soon once it is stopped.
#[derive(Debug)]
struct Run {
    peer: Option<NodeName>,
    stopped: bool,
}

/// The grants of one agent.
#[derive(Debug)]
pub(super) struct Grants {
    enabled: bool,
    /// The agent stops.
    stopping: bool,
    /// The survey that this agent coordinates.
    own: Option<Run>,
    /// The pair that this agent surveys.
    pair: Option<Run>,
    claim: Option<Claim>,
    rest: Option<Rest>,
    /// The thread of the peer's part of a trial runs.
    attends: bool,
    /// With whom the last rest was, and why it ended.
    over: Option<(NodeName, &'static str)>,
    next: u64,
    /// Results that the loop has not taken yet.
    results: Vec<(NodeName, PairResult)>,
}

fn conflict(reason: impl Into<String>) -> Refusal {
    (CONFLICT, reason.into())
}

impl Grants {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            stopping: false,
            own: None,
            pair: None,
            claim: None,
            rest: None,
            attends: false,
            over: None,
            next: 0,
            results: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        if !self.enabled {
            return Err((FORBIDDEN, "surveys are switched off: WYLIS_SURVEY=off".to_owned()));
        }
        if self.stopping { Err(conflict("this agent stops")) } else { Ok(()) }
    }

    /// The node whose survey holds this agent.
    pub(super) fn holder(&self, now: Instant) -> Option<&NodeName> {
        let rests = self.rest.as_ref().is_some_and(Rest::is_in_effect);
        self.claim.as_ref().filter(|claim| now < claim.until || rests).map(|claim| &claim.holder)
    }

    /// A thread of the last survey may be in a connection still, and would go on for the next one.
    fn check_ended(&self) -> Result<(), Refusal> {
        if self.pair.is_none() { Ok(()) } else { Err(conflict(ENDING)) }
    }

    /// Begins a survey of this agent.
    pub(super) fn start(&mut self, now: Instant) -> Result<(), Refusal> {
        self.check()?;
        if self.own.is_some() {
            return Err(conflict("a survey of this agent goes on"));
        }
        if let Some(holder) = self.holder(now) {
            return Err(conflict(format!("a survey of {holder} goes on")));
        }
        self.check_ended()?;
        self.claim = None;
        self.own = Some(Run { peer: None, stopped: false });
        Ok(())
    }

    /// Stops the survey of this agent; its threads end it.
    pub(super) fn stop_own(&mut self, now: Instant) -> Result<(), Refusal> {
        let holder = self.holder(now).cloned();
        match (&mut self.own, holder) {
            (Some(own), _) => own.stopped = true,
            (None, Some(holder)) => {
                return Err(conflict(format!("the survey is that of {holder}: stop it there")));
            }
            (None, None) => return Err(conflict("no survey goes on")),
        }
        self.stop_pair();
        Ok(())
    }

    /// The survey of this agent has ended.
    pub(super) fn finish_own(&mut self) {
        self.own = None;
    }

    /// Whether the survey of this agent was stopped.
    pub(super) fn own_is_stopped(&self) -> bool {
        self.stopping || self.own.as_ref().is_none_or(|own| own.stopped)
    }

    /// Whether this agent coordinates a survey.
    pub(super) fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// The agent stops: everything ends.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.stop_pair();
    }

    /// A coordinator claims this agent. Returns whether it is a new survey.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        from: &NodeName,
        span: Duration,
    ) -> Result<bool, Refusal> {
        self.check()?;
        if self.own.is_some() {
            return Err(conflict("it has a survey of its own"));
        }
        let known = self.holder(now);
        if let Some(holder) = known.filter(|holder| *holder != from) {
            return Err(conflict(format!("a survey of {holder} goes on")));
        }
        let is_new = known.is_none();
        if is_new {
            self.check_ended()?;
        }
        let token = self.claim.take().filter(|_| !is_new).and_then(|claim| claim.token);
        let until = now + span.min(MAX_LEASE);
        self.claim = Some(Claim { holder: from.clone(), until, token });
        Ok(is_new)
    }

    /// The coordinator ends its survey.
    pub(super) fn release(&mut self, now: Instant, from: &NodeName) -> bool {
        let held = self.holder(now) == Some(from);
        if held {
            self.claim = None;
            self.stop_pair();
        }
        held
    }

    /// What the loop knows of the holder: `None` if it is gone, else its token, once known. Ends its survey here if
    /// it is gone, or another process by now.
    pub(super) fn look(&mut self, holder: Option<Option<Token>>) {
        let Some(claim) = &mut self.claim else { return };
        let is_other = |token: Token| *claim.token.get_or_insert(token) != token;
        if holder.is_none_or(|token| token.is_some_and(is_other)) {
            self.claim = None;
            self.stop_pair();
        }
    }

    fn stop_pair(&mut self) {
        if let Some(pair) = &mut self.pair {
            pair.stopped = true;
        }
        self.end_rest(None, "the survey has ended");
    }

    /// Begins to survey the pair with this peer, for a coordinator or for this agent itself (`None`).
    pub(super) fn begin_pair(
        &mut self,
        now: Instant,
        from: Option<&NodeName>,
        peer: &NodeName,
    ) -> Result<(), Refusal> {
        self.check()?;
        if from.is_some() && self.holder(now) != from {
            return Err(conflict("it holds no survey here"));
        }
        if let Some(other) = self.pair.as_ref().and_then(|pair| pair.peer.as_ref()) {
            return Err(conflict(format!("it surveys its pair with {other}")));
        }
        self.pair = Some(Run { peer: Some(peer.clone()), stopped: false });
        Ok(())
    }

    /// The pair was surveyed.
    pub(super) fn finish_pair(&mut self, peer: &NodeName, result: PairResult) {
        self.pair = None;
        self.add_result(peer, result);
    }

    /// Whether the pair is not to be surveyed further.
    pub(super) fn pair_is_stopped(&self, now: Instant) -> bool {
        let held = self.own.is_some() || self.holder(now).is_some();
        self.stopping || !held || self.pair.as_ref().is_none_or(|pair| pair.stopped)
    }

    /// A rest with a peer is asked for: by this agent if `own`, else by the peer. Returns its number.
    pub(super) fn rest(
        &mut self,
        now: Instant,
        peer: &NodeName,
        span: Duration,
        own: bool,
    ) -> Result<u64, Refusal> {
        self.check()?;
        if self.own.is_none() && self.holder(now).is_none() {
            return Err(conflict("no survey holds this agent"));
        }
        let span = span.min(MAX_REST);
        if let Some(rest) = &mut self.rest {
            if rest.peer != *peer || rest.own != own {
                return Err(conflict(format!("busy: it rests with {}", rest.peer)));
            }
            if let Stage::Over(_) = rest.stage {
                return Err(conflict("busy: the last rest has just ended"));
            }
            rest.until = (now + span).min(rest.began + MAX_REST);
            return Ok(rest.number);
        }
        self.next += 1;
        self.rest = Some(Rest {
            peer: peer.clone(),
            number: self.next,
            own,
            stage: Stage::Asked,
            began: now,
            until: now + span,
            contact: None,
            speaks: false,
            complete: false,
            report: None,
        });
        Ok(self.next)
    }

    /// Silence begins: this agent speaks first after `gap`, or the other end does.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        peer: &NodeName,
        gap: Duration,
        speaks: bool,
    ) -> Result<u64, Refusal> {
        let over = self.over.as_ref().filter(|(other, _)| other == peer);
        let why = over.map_or("it does not rest", |(_, why)| why);
        let rest = self.rest.as_mut().filter(|rest| rest.peer == *peer);
        let rest = rest.ok_or_else(|| conflict(why))?;
        match rest.stage {
            Stage::Quiet => {}
            Stage::Over(why) => return Err(conflict(why)),
            Stage::Silent(_) => return Err(conflict("the silence has begun")),
            Stage::Asked | Stage::Settling => return Err(conflict("busy")),
        }
        if !rest.own && std::mem::replace(&mut self.attends, true) {
            return Err(conflict("busy"));
        }
        rest.stage = Stage::Silent(now);
        rest.speaks = speaks;
        rest.until = (now + gap + MAX_TRIAL + MARGIN).min(rest.began + MAX_REST);
        Ok(rest.number)
    }

    /// The thread of the peer's part of a trial has ended.
    pub(super) fn finish_attending(&mut self) {
        self.attends = false;
    }

    /// A request came in from a peer: it probes again, or stops.
    pub(super) fn hear(&mut self, at: Instant, peer: &NodeName) {
        if let Some(rest) = self.rest.as_mut().filter(|rest| rest.peer == *peer)
            && !rest.complete
            && matches!(rest.stage, Stage::Silent(since) if since < at)
        {
            rest.end("disturbed");
        }
    }

    /// This agent has spoken first, and found this.
    pub(super) fn spoke(&mut self, number: u64, report: TrialReport) {
        if let Some(rest) = self.rest.as_mut().filter(|rest| rest.number == number) {
            rest.complete = true;
            rest.report = Some(report);
        }
    }

    /// This agent's trial is over.
    pub(super) fn complete(&mut self, number: u64) {
        if let Some(rest) = self.rest.as_mut().filter(|rest| rest.number == number) {
            rest.complete = true;
        }
    }

    /// The surveyor asks what was found, which ends the rest; or the peer that spoke first says that it is done.
    pub(super) fn report(&mut self, peer: &NodeName) -> Result<String, Refusal> {
        let rest = self.rest.as_mut().filter(|rest| rest.peer == *peer);
        let Some(rest) = rest.filter(|rest| matches!(rest.stage, Stage::Silent(_))) else {
            return Err(conflict("disturbed"));
        };
        if rest.own {
            rest.complete = true;
            return Ok(String::new());
        }
        let text = match (rest.speaks, &rest.report) {
            (true, None) => return Err(conflict("busy")),
            (true, Some(report)) => report.render(),
            (false, _) => String::new(),
        };
        rest.end("reported");
        Ok(text)
    }

    /// Ends the rest, with this peer only if given.
    pub(super) fn end_rest(&mut self, peer: Option<&NodeName>, why: &'static str) {
        if let Some(rest) = &mut self.rest
            && peer.is_none_or(|peer| rest.peer == *peer)
        {
            rest.end(why);
        }
    }

    /// The surveyor tells the result of the pair.
    pub(super) fn end_pair(&mut self, now: Instant, from: &NodeName, result: PairResult) -> bool {
        let held = self.own.is_some() || self.holder(now).is_some();
        if held {
            self.end_rest(Some(from), "the pair was surveyed");
            self.add_result(from, result.reversed());
        }
        held
    }

    fn add_result(&mut self, peer: &NodeName, result: PairResult) {
        // The loop takes them at once.
        if self.results.len() < MAX_RESULTS {
            self.results.push((peer.clone(), result));
        }
    }

    /// The rest with this number, if it is in effect.
    pub(super) fn resting(&self, number: u64) -> Option<&Rest> {
        self.rest.as_ref().filter(|rest| rest.number == number && rest.is_in_effect())
    }

    /// The rest with this number, unless it is over.
    pub(super) fn pending(&self, number: u64) -> Option<&Rest> {
        let over = |rest: &Rest| matches!(rest.stage, Stage::Over(_));
        self.rest.as_ref().filter(|rest| rest.number == number && !over(rest))
    }

    /// Whether the loop has resumed the peer of the last rest.
    pub(super) fn is_free(&self) -> bool {
        self.rest.is_none()
    }

    /// The rest, for the loop. One whose time is over ends.
    pub(super) fn current(&mut self, now: Instant) -> Option<&mut Rest> {
        let rest = self.rest.as_mut()?;
        if now >= rest.until {
            rest.end("overdue");
        }
        Some(rest)
    }

    /// The loop sets the next stage, unless the rest has ended meanwhile, or silence begun.
    pub(super) fn advance(&mut self, next: Stage) {
        if let Some(rest) = &mut self.rest {
            match (rest.stage, next) {
                (Stage::Over(_), _) | (Stage::Silent(_), Stage::Settling | Stage::Quiet) => {}
                _ => rest.stage = next,
            }
        }
    }

    /// How to reach the peer of the rest.
    pub(super) fn set_contact(&mut self, contact: Contact) {
        if let Some(rest) = &mut self.rest {
            rest.contact = Some(contact);
        }
    }

    /// The loop has resumed the peer.
    pub(super) fn forget_rest(&mut self) {
        if let Some(Rest { peer, stage: Stage::Over(why), .. }) = self.rest.take() {
            self.over = Some((peer, why));
        }
    }

    /// Why the last rest with this peer ended.
    pub(super) fn why_over(&self, peer: &NodeName) -> &'static str {
        match (&self.rest, &self.over) {
            (Some(Rest { stage: Stage::Over(why), .. }), _) => why,
            (_, Some((other, why))) if other == peer => why,
            _ => "disturbed",
        }
    }

    /// The results that are new.
    pub(super) fn take_results(&mut self) -> Vec<(NodeName, PairResult)> {
        std::mem::take(&mut self.results)
    }
}

#[cfg(test)]
mod tests;
