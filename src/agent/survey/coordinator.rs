//! Coordinates the survey of a mesh: claims all agents, and has pair after pair surveyed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::grants::{Contact, LEASE, MAX_LEASE, Refusal};
use super::trial::OK;
use super::{Inner, Survey};
use crate::document::read_survey;
use crate::name::NodeName;
use crate::prober::{self, Fetch};
use crate::state::{PeerRecord, Verdict};
use crate::survey::{Command, PairResult, Plan, State, Status, Targets, Tournament};
use crate::wire;

/// Time for all first claims: a client waits for 10 s.
const CLAIMING: Duration = Duration::from_secs(7);
/// The status of a refusal that ends by itself.
const NOT_YET: u16 = 503;
/// Time between two claims of an agent.
const RENEWAL: Duration = Duration::from_secs(60);
/// Time between two looks at the pairs of a round.
const POLL: Duration = Duration::from_secs(2);
/// Time limit of a look at one pair, and the longest document.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_DOCUMENT: usize = 256 * 1024;
/// Looks in a row without an answer, after which a surveyor is given up.
const MAX_UNANSWERED: u32 = 30;
/// How long a round may go on after the budget: a trial ends first.
const GRACE: Duration = Duration::from_secs(60);

/// A pair under survey.
struct Running {
    surveyor: NodeName,
    peer: NodeName,
    unanswered: u32,
}

impl Survey {
    /// Begins a survey that this agent coordinates: claims all peers that are up.
    pub(super) fn start(self: &Arc<Self>, targets: Targets, plan: Plan) -> Result<(), Refusal> {
        if plan.budget() < plan.least() {
            let least = plan.least().as_secs_f64();
            let reason = format!("budget is too short for one trial of the first gap, {least} s");
            return Err((409, reason));
        }
        self.change(|inner| inner.grants.start(Instant::now()))?;
        let begun = self.claim_all(&targets).and_then(|claimed| {
            let tournament = Tournament::new(&self.node, &targets, &claimed);
            if tournament.pairs() == 0 {
                self.release(&claimed);
                return Err((409, "none of the nodes is a peer that is up".to_owned()));
            }
            log::info!(
                "a survey begins, pairs: {}, for {} s at most",
                tournament.pairs(),
                plan.budget().as_secs()
            );
            self.update(|inner| {
                let mut status = Status::begun(&self.node, Some(plan.clone()));
                status.pairs = tournament.pairs();
                let rounds = u32::try_from(tournament.rounds()).unwrap_or(u32::MAX);
                let expected = plan.pair_time().saturating_mul(rounds).min(plan.budget());
                let expected = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
                status.end = status.started.map(|started| started.saturating_add(expected));
                inner.status = status;
            });
            let survey = Arc::clone(self);
            self.spawn(move || survey.coordinate(&tournament, &plan, &claimed))
        });
        if let Err((_, reason)) = &begun {
            self.update(|inner| {
                inner.grants.finish_own();
                // Results stay until the next survey.
                if inner.status.results.is_empty() {
                    inner.status = Status::begun(&self.node, None);
                    inner.status.end(State::Refused, Some(reason.clone()));
                }
            });
        }
        begun
    }

    /// Claims all peers that are up; those that do not answer are left out.
    fn claim_all(&self, targets: &Targets) -> Result<Vec<NodeName>, Refusal> {
        let deadline = Instant::now() + CLAIMING;
        let snapshot = (self.snapshot)().ok_or((503, "the agent does not respond".to_owned()))?;
        if let Targets::Peers(named) = targets
            && let Some(unknown) = named
                .iter()
                .find(|name| !snapshot.peers.iter().any(|record| record.peer.node == **name))
        {
            return Err((409, format!("{unknown} is no peer of {}", self.node)));
        }
        // An agent that has just started has to know its peers first: none is left out for that.
        let is_new = |record: &&Arc<PeerRecord>| {
            record.verdict == Verdict::Unknown
                || (record.verdict == Verdict::Up && self.contact(record).token.echo.is_none())
        };
        if let Some(new) = snapshot.peers.iter().find(is_new) {
            let reason = format!("the token of {} is not known yet: try again soon", new.peer.node);
            return Err((NOT_YET, reason));
        }
        let mut claimed = Vec::new();
        for record in snapshot.peers.iter().filter(|record| is_up(record)) {
            let node = &record.peer.node;
            if Instant::now() >= deadline {
                log::warn!("survey without {node:?}: no time was left to claim it");
                continue;
            }
            let contact = self.contact(record);
            if contact.token.echo.is_none() {
                log::warn!("survey without {node:?}: no request of it has come in");
                continue;
            }
            match self.send(contact, &Command::Claim(LEASE)) {
                Ok((OK, _)) => claimed.push(node.clone()),
                Ok((status, reason)) => {
                    self.release(&claimed);
                    let old = if status == 405 { ": a release without surveys" } else { "" };
                    return Err((409, format!("{node} refuses ({status}{old}): {reason}")));
                }
                Err(error) => log::warn!("survey without {node:?}: {error:?}"),
            }
        }
        Ok(claimed)
    }

    /// Ends the claims.
    fn release(&self, claimed: &[NodeName]) {
        for contact in self.contacts(claimed) {
            let _ = self.send(contact, &Command::End(None));
        }
    }

    fn contact(&self, record: &PeerRecord) -> Contact {
        Contact { address: record.peer.address, token: record.token(&self.key) }
    }

    /// How to reach these peers now.
    fn contacts(&self, nodes: &[NodeName]) -> Vec<Contact> {
        let Some(snapshot) = (self.snapshot)() else { return Vec::new() };
        let wanted = snapshot.peers.iter().filter(|record| nodes.contains(&record.peer.node));
        wanted.map(|record| self.contact(record)).collect()
    }

    /// Runs the rounds, on its own thread.
    fn coordinate(self: Arc<Self>, tournament: &Tournament, plan: &Plan, claimed: &[NodeName]) {
        let began = Instant::now();
        let end = began + plan.budget();
        let mut renewed = began;
        for number in 0..tournament.rounds() {
            let mut running = self.begin_round(tournament.round(number), plan, end);
            while !running.is_empty() {
                let stopped = self.wait(Instant::now() + POLL, stopped);
                if stopped || Instant::now() > end + GRACE {
                    break;
                }
                if renewed.elapsed() >= RENEWAL {
                    renewed = Instant::now();
                    self.renew(claimed);
                }
                running.retain_mut(|pair| self.is_running(pair));
            }
            if self.lock().grants.own_is_stopped() || Instant::now() >= end {
                break;
            }
        }
        self.release(claimed);
        self.update(|inner| {
            let stopped = inner.grants.own_is_stopped();
            inner.grants.finish_own();
            inner.status.end(if stopped { State::Stopped } else { State::Done }, None);
        });
        log::info!("survey ended after {} s", began.elapsed().as_secs());
    }

    /// Has the pairs of a round surveyed. Of its own pairs, this agent is the surveyor.
    fn begin_round(
        self: &Arc<Self>,
        pairs: Vec<(NodeName, NodeName)>,
        plan: &Plan,
        end: Instant,
    ) -> Vec<Running> {
        let mut running = Vec::new();
        for (first, second) in pairs {
            let is_own = second == self.node;
            let (surveyor, peer) = if is_own { (second, first) } else { (first, second) };
            let plan = plan.within(end.saturating_duration_since(Instant::now()));
            let begun = if surveyor == self.node {
                self.begin_pair(None, peer.clone(), plan)
            } else {
                self.order(&surveyor, &peer, plan)
            };
            match begun {
                Ok(()) => running.push(Running { surveyor, peer, unanswered: 0 }),
                Err((_, reason)) => {
                    log::warn!("survey without the pair {surveyor:?}, {peer:?}: {reason}");
                    self.note(&surveyor, &peer, PairResult::NOT_SURVEYED);
                }
            }
        }
        running
    }

    fn order(&self, surveyor: &NodeName, peer: &NodeName, plan: Plan) -> Result<(), Refusal> {
        let unreachable = |reason: String| (503, reason);
        let contact = self.contacts(std::slice::from_ref(surveyor)).pop();
        let contact = contact.ok_or_else(|| unreachable("no peer any more".to_owned()))?;
        match self.send(contact, &Command::Pair(peer.clone(), plan)) {
            Ok((OK, _)) => Ok(()),
            Ok(refusal) => Err(refusal),
            Err(error) => Err(unreachable(format!("{error:?}"))),
        }
    }

    /// Renews the claims, except where that would break a silence.
    pub(super) fn renew(&self, claimed: &[NodeName]) {
        let Some(snapshot) = (self.snapshot)() else { return };
        for record in snapshot.peers.iter().filter(|record| claimed.contains(&record.peer.node)) {
            if !is_up(record) {
                continue;
            }
            // As a read: refused while it rests, and no silence begins before the answer.
            if let Some(_read) = self.reads.begin(&record.peer.node) {
                let _ = self.send(self.contact(record), &Command::Claim(LEASE));
            }
        }
    }

    /// Claims the peer of an own pair for the whole of a trial.
    pub(super) fn renew_for_trial(&self, contact: Contact) {
        if self.lock().grants.has_own() {
            let _ = self.send(contact, &Command::Claim(MAX_LEASE));
        }
    }

    /// Looks whether a pair is still surveyed, and takes its progress or its result.
    fn is_running(&self, pair: &mut Running) -> bool {
        let status = if pair.surveyor == self.node {
            Some(self.lock().status.clone())
        } else {
            self.fetch(&pair.surveyor)
        };
        let Some(status) = status else {
            pair.unanswered += 1;
            if pair.unanswered >= MAX_UNANSWERED {
                self.note(&pair.surveyor, &pair.peer, PairResult::NOT_SURVEYED);
            }
            return pair.unanswered < MAX_UNANSWERED;
        };
        pair.unanswered = 0;
        let (surveyor, peer) = (&pair.surveyor, &pair.peer);
        if let Some(now) =
            status.now.into_iter().find(|now| now.source == *surveyor && now.target == *peer)
        {
            if *surveyor != self.node {
                let mut inner = self.lock();
                inner.status.now.retain(|known| known.source != *surveyor);
                inner.status.now.push(now);
            }
            return true;
        }
        let known =
            status.results.iter().find(|one| one.source == *surveyor && one.target == *peer);
        let result = known.map_or(PairResult::NOT_SURVEYED, |known| known.result);
        self.note(surveyor, peer, result);
        false
    }

    /// What a surveyor says of its survey.
    fn fetch(&self, surveyor: &NodeName) -> Option<Status> {
        let contact = self.contacts(std::slice::from_ref(surveyor)).pop()?;
        let fetch = Fetch {
            node: Some(surveyor.clone()),
            address: contact.address,
            path: wire::SURVEY_PATH.to_owned(),
            timeout: FETCH_TIMEOUT,
            max_bytes: MAX_DOCUMENT,
        };
        let document = prober::fetch(fetch).ok()?;
        let (node, status) = read_survey(&document).ok()?;
        (node == *surveyor).then_some(status)
    }

    fn note(&self, surveyor: &NodeName, peer: &NodeName, result: PairResult) {
        self.lock().status.add(surveyor, peer, result);
    }
}

fn stopped(inner: &mut Inner) -> bool {
    inner.grants.own_is_stopped()
}

fn is_up(record: &PeerRecord) -> bool {
    !matches!(record.verdict, Verdict::Down(_) | Verdict::Unknown | Verdict::Draining)
}
