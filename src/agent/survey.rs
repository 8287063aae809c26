//! The survey at run time: commands of people and peers, what they start, and what the loop has to do for it.
//!
//! A command is decided under one lock, which is held for no I/O. A thread `survey` runs for a survey that this
//! agent coordinates, for a pair that it surveys, and for a trial in which it is the peer; each ends soon after its
//! grant does, or when the agent stops.

mod coordinator;
mod follow;
mod grants;
mod runner;
mod trial;

use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::reads::Reads;
use crate::document::survey_json;
use crate::matrix::unix_millis;
use crate::name::{Instance, NodeName};
use crate::probe::Direction;
use crate::prober::{self, FetchError, WORKER_STACK};
use crate::state::Snapshot;
use crate::survey::{
    Command, MAX_RESULTS, PairNow, PairReport, PairResult, Plan, State, Status, Trial,
};
use crate::token::{Token, TokenKey};
use crate::wire::{self, KeepAlive};
use grants::{Contact, Grants, Refusal};

/// Time limit of a command: two lost SYNs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest answer to a command: a line, or a report.
const MAX_ANSWER: usize = 4096;

/// A snapshot of all peers; `None` when the loop does not respond.
type TakeSnapshot = Box<dyn Fn() -> Option<Arc<Snapshot>> + Send + Sync>;

/// The survey of this agent.
pub(super) struct Survey {
    node: NodeName,
    instance: Instance,
    key: TokenKey,
    /// The one address that the agent listens on; `None` for all.
    address: Option<IpAddr>,
    snapshot: TakeSnapshot,
    /// Has the loop call [`follow`](super::event_loop::EventLoop).
    wake: Box<dyn Fn() + Send + Sync>,
    pub(super) reads: Reads,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    grants: Grants,
    status: Status,
}

/// Who sends a command.
pub(super) struct Sender {
    /// What its headers say.
    pub(super) named: Option<KeepAlive>,
    /// Its address, if it may be a person.
    pub(super) client: Option<IpAddr>,
}

fn forbidden(reason: &str) -> Refusal {
    (403, reason.to_owned())
}

impl Survey {
    pub(super) fn new(
        (node, instance): (NodeName, Instance),
        key: TokenKey,
        (enabled, listen): (bool, Option<IpAddr>),
        snapshot: TakeSnapshot,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let inner = Inner { grants: Grants::new(enabled), status: Status::IDLE };
        Self {
            node,
            instance,
            key,
            address: listen.filter(|address| !address.is_unspecified()),
            snapshot,
            wake,
            reads: Reads::default(),
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    /// The document: how far the survey is.
    pub(super) fn json(&self) -> Vec<u8> {
        let now = Instant::now();
        let mut inner = self.lock();
        let gone = !inner.grants.has_own() && inner.grants.holder(now).is_none();
        if gone && inner.status.state == State::Running {
            inner.status.end(State::Stopped, Some("its coordinator is gone".to_owned()));
        }
        let status = inner.status.clone();
        drop(inner);
        survey_json(&self.node, unix_millis(SystemTime::now()), &status)
    }

    /// Decides on a command: the status, and a line or a document.
    pub(super) fn command(self: &Arc<Self>, text: &str, sender: &Sender) -> (u16, Vec<u8>) {
        let Some(command) = Command::read(text) else {
            return (400, b"malformed command\n".to_vec());
        };
        let done = match command {
            Command::Start(..) | Command::Stop => self.from_person(command, sender),
            command => self.from_peer(command, sender),
        };
        match done {
            Ok(content) => (200, content),
            Err((status, reason)) => (status, format!("{reason}\n").into_bytes()),
        }
    }

    /// A command of a person on this host.
    fn from_person(
        self: &Arc<Self>,
        command: Command,
        sender: &Sender,
    ) -> Result<Vec<u8>, Refusal> {
        if !sender.client.is_some_and(|client| self.is_own_host(client)) {
            return Err(forbidden(
                "only from the agent's own host: a loopback address or the one it listens on, by an address or as \
                 localhost",
            ));
        }
        match command {
            Command::Start(targets, plan) => self.start(targets, plan)?,
            _ => self.change(|inner| inner.grants.stop_own(Instant::now()))?,
        }
        Ok(self.json())
    }

    /// Whether a client is on this host: no other can finish a handshake from the agent's own address, since the answer
    /// to it stays here.
    fn is_own_host(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_loopback() || self.address.is_some_and(|own| own.to_canonical() == client)
    }

    /// A command of a peer, which proves itself by this agent's token.
    fn from_peer(self: &Arc<Self>, command: Command, sender: &Sender) -> Result<Vec<u8>, Refusal> {
        let named = sender.named.as_ref().ok_or_else(|| forbidden("only from a peer"))?;
        let own = self.key.own(&named.node, named.instance.as_ref());
        if named.token.and_then(|token| token.echo) != Some(own) || named.node == self.node {
            return Err(forbidden("only with the token of the pair"));
        }
        self.check_peer(&named.node, own)?;
        let (from, now) = (&named.node, Instant::now());
        match command {
            Command::Claim(span) => self.change(|inner| {
                if inner.grants.claim(now, from, span)? {
                    log::info!("a survey of {from:?} begins");
                    inner.status = Status::begun(from, None);
                }
                Ok(())
            })?,
            Command::Pair(peer, plan) => self.begin_pair(Some(from), peer, plan)?,
            Command::Rest(span) => {
                self.change(|inner| inner.grants.rest(now, from, span, false).map(drop))?;
            }
            Command::Begin(trial) => self.begin(now, from, trial)?,
            Command::Report => {
                let report = self.change(|inner| inner.grants.report(from))?;
                return Ok(report.into_bytes());
            }
            Command::End(Some(result)) => self.change(|inner| {
                if inner.grants.end_pair(now, from, result) {
                    inner.status.add(from, &self.node, result);
                    inner.status.pairs = inner.status.results.len();
                }
                Ok(())
            })?,
            Command::End(None) => self.change(|inner| {
                if inner.grants.release(now, from) {
                    inner.status.end(State::Done, None);
                } else {
                    inner.grants.end_rest(Some(from), "the surveyor has ended it");
                }
                Ok(())
            })?,
            Command::Start(..) | Command::Stop => {}
        }
        Ok(Vec::new())
    }

    /// Whether the token is that of a peer today, not of one that has left the list, or of an earlier instance.
    fn check_peer(&self, node: &NodeName, own: Token) -> Result<(), Refusal> {
        let snapshot = (self.snapshot)().ok_or((503, "the agent does not respond".to_owned()))?;
        let record = snapshot.peers.iter().find(|record| record.peer.node == *node);
        let is_current = record.is_some_and(|record| record.token(&self.key).own == own);
        if is_current { Ok(()) } else { Err(forbidden("only from a peer")) }
    }

    /// The surveyor begins the silence. Who speaks first, and who helps when that fails, does so on a thread.
    fn begin(self: &Arc<Self>, now: Instant, from: &NodeName, trial: Trial) -> Result<(), Refusal> {
        let speaks = trial.direction == Direction::Incoming;
        let (number, contact) = self.change(|inner| {
            let number = inner.grants.begin(now, from, trial.gap, speaks)?;
            Ok((number, inner.grants.resting(number).and_then(|rest| rest.contact)))
        })?;
        let survey = Arc::clone(self);
        let started = self.spawn(move || {
            if let Some(contact) = contact {
                survey.attend(number, contact, now, trial.gap, speaks);
            }
            survey.update(|inner| inner.grants.finish_attending());
        });
        if started.is_err() {
            self.update(|inner| {
                inner.grants.finish_attending();
                inner.grants.end_rest(Some(from), "no thread was left");
            });
        }
        started
    }

    /// Begins to survey a pair, on a thread.
    fn begin_pair(
        self: &Arc<Self>,
        from: Option<&NodeName>,
        peer: NodeName,
        plan: Plan,
    ) -> Result<(), Refusal> {
        self.change(|inner| {
            inner.grants.begin_pair(Instant::now(), from, &peer)?;
            let now =
                PairNow { source: self.node.clone(), target: peer.clone(), trial: None, trials: 0 };
            inner.status.now.push(now);
            if from.is_some() {
                inner.status.plan = Some(plan.clone());
                inner.status.pairs += 1;
            }
            Ok(())
        })?;
        let (survey, node) = (Arc::clone(self), peer.clone());
        let started = self.spawn(move || survey.survey_pair(&node, &plan));
        if started.is_err() {
            self.finish_pair(&peer, PairResult::NOT_SURVEYED);
        }
        started
    }

    /// The pair was surveyed, to the end or not.
    fn finish_pair(&self, peer: &NodeName, result: PairResult) {
        self.update(|inner| {
            inner.grants.finish_pair(peer, result);
            inner.status.add(&self.node, peer, result);
        });
    }

    /// Sends a command to a peer.
    fn send(&self, contact: Contact, command: &Command) -> Result<(u16, String), FetchError> {
        let (token, text) = (contact.token.to_string(), command.render());
        let headers = [
            (wire::NODE, self.node.as_str()),
            (wire::INSTANCE, self.instance.as_str()),
            (wire::TOKEN, token.as_str()),
            (wire::SURVEY, text.as_str()),
        ];
        let path = wire::SURVEY_PATH;
        let answer = prober::post(contact.address, path, &headers, COMMAND_TIMEOUT, MAX_ANSWER)?;
        Ok((answer.0, String::from_utf8_lossy(&answer.1).trim().to_owned()))
    }

    /// The agent stops.
    pub(super) fn stop(&self) {
        self.update(|inner| inner.grants.stop());
    }

    /// Starts a thread.
    fn spawn(&self, run: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
        let thread = std::thread::Builder::new().name("survey".to_owned()).stack_size(WORKER_STACK);
        let started = thread.spawn(run);
        started.map(drop).map_err(|error| (503, format!("cannot start a thread: {error}")))
    }

    /// Changes the grants or the status, and tells the loop and the threads.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Inner) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        (self.wake)();
        result
    }

    /// As [`Self::change`], where nothing is refused.
    fn update(&self, change: impl FnOnce(&mut Inner)) {
        let _ = self.change(|inner| {
            change(inner);
            Ok(())
        });
    }

    /// Waits until the condition holds, or until then; whether it holds.
    fn wait(&self, until: Instant, mut holds: impl FnMut(&mut Inner) -> bool) -> bool {
        let mut inner = self.lock();
        loop {
            if holds(&mut inner) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(inner, left);
            (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    // A poisoned lock is usable: grants and status are valid after every statement.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    /// A survey that begins now.
    fn begun(coordinator: &NodeName, plan: Option<Plan>) -> Self {
        let now = unix_millis(SystemTime::now());
        Self {
            state: State::Running,
            coordinator: Some(coordinator.clone()),
            started: Some(now),
            plan,
            ..Self::IDLE
        }
    }

    /// It has ended.
    fn end(&mut self, state: State, reason: Option<String>) {
        self.state = state;
        self.reason = reason;
        self.end = Some(unix_millis(SystemTime::now()));
        self.now.clear();
    }

    /// A pair was surveyed.
    fn add(&mut self, source: &NodeName, target: &NodeName, result: PairResult) {
        self.now.retain(|now| now.source != *source || now.target != *target);
        self.results.retain(|known| known.source != *source || known.target != *target);
        if self.results.len() < MAX_RESULTS {
            let at = unix_millis(SystemTime::now());
            let (source, target) = (source.clone(), target.clone());
            self.results.push(PairReport { source, target, at, result });
        }
    }
}

#[cfg(test)]
mod tests;
