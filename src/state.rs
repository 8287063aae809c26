//! The state of every peer. Pure: it folds outcomes and requests in, and hands out snapshots.
//!
//! The agent's loop owns it. Readers get a [`Snapshot`], which shares the records and costs one
//! pointer a peer. Every method takes `now`; nothing here reads a clock.

mod claims;
mod experiments;
mod flaky;
mod gap;
mod large;
mod path;
mod record;
mod rest;
mod rhythm;
mod samples;
mod verdict;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::experiment::Detail;
use crate::name::{Instance, NodeName};
use crate::peer::{Peer, PeerDiff, PeerSet, PodCounts};
pub use crate::probe::Direction;
use crate::probe::{Large, Outcome, ProbeId, ProbeKind, Report, Syns};
use crate::token::{PairToken, TokenKey};
use crate::wire::KeepAlive;
use claims::Terms;
pub use experiments::Experiments;
use large::BlankSuccess;
pub use large::{LargeDirection, LargeProbes};
pub use record::PeerRecord;
use record::SynEvidence;
pub use rest::Surveyed;
pub use samples::{Histogram, RECENT, Sample};
pub use verdict::{Incoming, Verdict};

/// One moment on both clocks: deadlines use the monotonic one, people read the other.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The monotonic clock.
    pub instant: Instant,
    /// The wall clock.
    pub wall: SystemTime,
}

impl Moment {
    /// Reads both clocks.
    #[must_use]
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

/// The settings that the state depends on.
#[derive(Debug, Clone)]
pub struct StateSettings {
    /// Consecutive slots without a success after which a peer is down.
    pub failure_threshold: u32,
    /// Longest time between two slots of one peer.
    pub interval: Duration,
    /// Spacing of one peer's large probes; zero for none.
    pub large_interval: Duration,
    /// The port at which the hosts behind the peers are asked for a sign of life; `None` for none.
    pub host_port: Option<u16>,
    /// The agent's own node: together with the target it determines a pair's offset.
    pub source: NodeName,
    /// The agent's own drain, assumed for a peer whose answer shows only that it drains.
    pub drain: Duration,
    /// Histogram bounds in seconds, ascending.
    pub bounds: Arc<[f64]>,
    /// The key of this agent's tokens.
    pub key: TokenKey,
}

/// What the agent must do or log after an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Give the peer slots, the first soon; a probe in flight to its old address does not count.
    Schedule(NodeName),
    /// Give a paused peer its slots back, the first soon.
    Resume(NodeName),
    /// Remove the peer's slots, but keep the peer.
    Pause(NodeName),
    /// Remove the peer.
    Forget(NodeName),
    /// Send the peer one more blank request at once: its answer decides on a claim.
    Check(NodeName),
    /// Send the peer a large probe.
    SendLarge(NodeName, Large),
    /// The peer's last probe failed, the one before did not.
    FirstFailure(NodeName),
    /// The peer's verdict changed.
    Verdict {
        /// The peer.
        node: NodeName,
        /// The verdict before.
        from: Verdict,
        /// The verdict now.
        to: Verdict,
    },
    /// What comes in from a peer that is down or one-way has changed.
    Incoming {
        /// The peer.
        node: NodeName,
        /// Its verdict.
        verdict: Verdict,
        /// What comes in.
        incoming: Incoming,
    },
    /// An experiment adds something else to the verdict.
    Detail {
        /// The peer.
        node: NodeName,
        /// Its verdict.
        verdict: Verdict,
        /// What it adds.
        detail: Detail,
    },
    /// A request came from a node that is no peer.
    UnknownSender(NodeName, Option<Instance>),
    /// A request came from a peer that rests for a survey.
    Heard(NodeName),
    /// A request came from another instance of a peer than the known one.
    NewInstance(NodeName, Instance),
}

/// Everything that readers may see, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The time of the snapshot.
    pub taken: Moment,
    /// The histogram bounds in seconds.
    pub bounds: Arc<[f64]>,
    /// Longest time between two slots of one peer.
    pub interval: Duration,
    /// One record a peer, ordered by name.
    pub peers: Vec<Arc<PeerRecord>>,
    /// The pods of the last list.
    pub pods: PodCounts,
    /// Keep-alive requests of nodes that are no peers.
    pub incoming_unknown: u64,
}

/// The state of all peers.
pub struct MeshState {
    settings: StateSettings,
    set: PeerSet,
    records: BTreeMap<NodeName, Arc<PeerRecord>>,
    incoming_unknown: u64,
    /// The peer of the last experiment: those after it have the next ones.
    experimented: Option<NodeName>,
    /// The next list of peers comes within this time: a goodbye holds for it beyond its drain.
    refresh_within: Duration,
    /// Start of the current uninterrupted listening period; `None` without an interruption so far.
    listening_since: Option<Instant>,
}

impl MeshState {
    /// A state without peers.
    #[must_use]
    pub fn new(settings: StateSettings) -> Self {
        Self {
            settings,
            set: PeerSet::default(),
            records: BTreeMap::new(),
            incoming_unknown: 0,
            experimented: None,
            refresh_within: Duration::ZERO,
            listening_since: None,
        }
    }

    /// Takes a new list of peers; the next one comes within `refresh_within`.
    pub fn peers(&mut self, set: PeerSet, refresh_within: Duration) -> Vec<Change> {
        self.refresh_within = refresh_within;
        let PeerDiff { joined, changed, left } = self.set.diff(&set);
        self.set = set;
        let mut changes = Vec::new();
        for node in left {
            self.records.remove(&node);
            changes.push(Change::Forget(node));
        }
        for peer in joined {
            changes.push(Change::Schedule(peer.node.clone()));
            let record = PeerRecord::new(peer, self.settings.bounds.len());
            self.records.insert(record.peer.node.clone(), Arc::new(record));
        }
        for peer in changed {
            changes.extend(self.change_peer(peer));
        }
        changes
    }

    fn change_peer(&mut self, peer: Peer) -> Vec<Change> {
        let Some(record) = self.records.get_mut(&peer.node) else { return Vec::new() };
        let record = Arc::make_mut(record);
        if record.peer.address == peer.address && record.peer.instance == peer.instance {
            if record.peer.host != peer.host {
                record.experiments.host.replace();
            }
            record.peer = peer;
            return Vec::new();
        }
        let mut changes = vec![Change::Schedule(peer.node.clone())];
        record.relocate(peer);
        changes.extend(record.update_verdict(self.settings.failure_threshold));
        changes
    }

    /// Records that a blank probe of a peer was submitted; `None` if the peer is unknown.
    pub fn begin(&mut self, node: &NodeName, id: ProbeId) -> Option<&PeerRecord> {
        let record = Arc::make_mut(self.records.get_mut(node)?);
        record.in_flight = Some(id);
        Some(record)
    }

    /// Records that a large probe of a peer was submitted; `None` if the peer is unknown, or rests.
    pub fn begin_large(&mut self, node: &NodeName, id: ProbeId) -> Option<&PeerRecord> {
        let record = self.records.get_mut(node).filter(|record| !record.surveyed())?;
        let record = Arc::make_mut(record);
        record.large.in_flight = Some(id);
        Some(record)
    }

    /// Records that the check of a peer was submitted; `None` if the peer is unknown.
    pub fn begin_check(&mut self, node: &NodeName, id: ProbeId) -> Option<&PeerRecord> {
        let record = Arc::make_mut(self.records.get_mut(node)?);
        record.claims.begin_check(id);
        Some(record)
    }

    /// The tokens to show to a peer; `None` if it is unknown.
    #[must_use]
    pub fn token(&self, node: &NodeName) -> Option<PairToken> {
        Some(self.records.get(node)?.token(&self.settings.key))
    }

    fn terms(&self) -> Terms {
        let StateSettings { interval, drain, .. } = self.settings;
        Terms { interval, drain, refresh_within: self.refresh_within }
    }

    /// Folds in the report of a check, unless the peer has left or moved meanwhile.
    pub fn report_check(&mut self, now: Moment, report: &Report) -> Vec<Change> {
        let terms = self.terms();
        let Some(record) = self.records.get_mut(&report.node) else { return Vec::new() };
        let record = Arc::make_mut(record);
        let change = record.end_check(now.instant, report, terms);
        let verdict = record.update_verdict(self.settings.failure_threshold);
        change.into_iter().chain(verdict).collect()
    }

    /// Folds in the report of a large probe, unless the peer has left or moved meanwhile.
    pub fn report_large(&mut self, now: Moment, report: &Report) -> Vec<Change> {
        let record = self.records.get_mut(&report.node);
        let Some(record) = record.filter(|record| record.large.in_flight == Some(report.id)) else {
            return Vec::new();
        };
        let ProbeKind::Large(large) = report.kind else { return Vec::new() };
        let record = Arc::make_mut(record);
        let strain = record.strain_of(report);
        record.large.end(now, large, &report.outcome, strain, self.settings.large_interval);
        record.learn_path_mtu(large, report);
        record.update_verdict(self.settings.failure_threshold).into_iter().collect()
    }

    /// Folds in the report of a blank probe; `None` if that probe is not in flight, because the peer
    /// has left or moved meanwhile.
    pub fn report(&mut self, now: Moment, report: &Report) -> Option<Vec<Change>> {
        let terms = self.terms();
        let settings = &self.settings;
        let record = self.records.get_mut(&report.node)?;
        record.in_flight.filter(|id| *id == report.id)?;
        let record = Arc::make_mut(record);
        record.in_flight = None;
        let mut changes = Vec::new();
        let kernel = report.kernel.unwrap_or_default();
        match &report.outcome {
            Outcome::Local(_) => return Some(changes),
            Outcome::Success { timings, answer } => {
                record.note_probed();
                record.succeed(now, *timings, kernel, &settings.bounds);
                changes.extend(record.learn(now.instant, report.started, answer, terms));
                if !answer.draining {
                    let blank = BlankSuccess {
                        began: report.started,
                        supported: answer.can_large,
                        lossy: record.is_lossy() || record.is_flaky() || record.is_slow_for_large(),
                        shrunk: record.path_mtu < record.largest_path_mtu,
                        packet: record.packet_to_ask(),
                    };
                    let interval = settings.large_interval;
                    let offset = settings.source.share(&report.node, interval);
                    if let Some(large) =
                        record.large.due_after(now.instant, blank, interval, offset)
                    {
                        changes.push(Change::SendLarge(report.node.clone(), large));
                    }
                }
            }
            // The peer announced that it stops.
            Outcome::Failure(_) if record.draining_until.is_some() => return Some(changes),
            Outcome::Failure(reason) => {
                record.note_probed();
                if record.consecutive_failures == 0 {
                    changes.push(Change::FirstFailure(report.node.clone()));
                }
                let took = report.ended.saturating_duration_since(report.started);
                record.fail(now, *reason, took, kernel);
                record.miss_slots(*reason, report.started, took, settings.interval);
            }
        }
        changes.extend(record.update_verdict(settings.failure_threshold));
        Some(changes)
    }

    /// As [`Self::receive_request_from`], from an unknown address.
    pub fn receive_request(&mut self, now: Moment, request: Option<&KeepAlive>) -> Vec<Change> {
        self.receive_request_from(now, request, None)
    }

    /// Folds in an incoming keep-alive request, `None` for one without a valid source, and the address from
    /// which it came.
    pub fn receive_request_from(
        &mut self,
        now: Moment,
        request: Option<&KeepAlive>,
        client: Option<IpAddr>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(request) = request else {
            self.incoming_unknown += 1;
            return changes;
        };
        let terms = self.terms();
        let (node, instance) = (&request.node, request.instance.as_ref());
        let Some(record) = self.records.get_mut(node) else {
            self.incoming_unknown += 1;
            changes.push(Change::UnknownSender(node.clone(), instance.cloned()));
            return changes;
        };
        let record = Arc::make_mut(record);
        if record.surveyed() {
            changes.push(Change::Heard(node.clone()));
        }
        let this_agent = (&self.settings.source, &self.settings.key);
        changes.extend(record.receive_request(now, (request, client), this_agent, terms));
        if let (Some(sender), Some(known)) = (instance, &record.peer.instance)
            && sender != known
            && record.responder.as_ref() != Some(sender)
        {
            changes.push(Change::NewInstance(node.clone(), sender.clone()));
        }
        changes.extend(record.update_verdict(self.settings.failure_threshold));
        changes
    }

    /// Counts segments that had to be retransmitted for a request. Only if the request is proven: another host
    /// can name any sender, and acknowledge as late as it likes.
    pub fn count_incoming_retransmits(
        &mut self,
        request: &KeepAlive,
        segments: u32,
    ) -> Option<Change> {
        let own = self.settings.key.own(&request.node, request.instance.as_ref());
        request.token.filter(|token| token.echo == Some(own))?;
        let record = Arc::make_mut(self.records.get_mut(&request.node)?);
        record.count_incoming_retransmits(segments);
        record.update_verdict(self.settings.failure_threshold)
    }

    /// Ends expired goodbyes, whose peers are probed and counted again, and finds peers that have
    /// been silent for too long.
    pub fn tick(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for (node, shared) in &mut self.records {
            let expired = shared.draining_until.is_some_and(|until| until <= now);
            let silent = shared.is_silent(now, self.listening_since, self.settings.interval);
            if !expired && silent == shared.silent {
                continue;
            }
            let record = Arc::make_mut(shared);
            record.silent = silent;
            if expired {
                record.expire_goodbye(now);
                changes.push(Change::Resume(node.clone()));
            }
            changes.extend(record.update_verdict(self.settings.failure_threshold));
        }
        changes
    }

    /// Whether it matters what comes in from any peer.
    #[must_use]
    pub fn awaits_incoming(&self) -> bool {
        self.records.values().any(|record| record.awaits_incoming())
    }

    /// Folds in the last scan for half-open connections: when it was made, and the SYNs of each address.
    pub fn update_incoming(
        &mut self,
        now: Instant,
        scanned: Option<Instant>,
        syns: &BTreeMap<IpAddr, Syns>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        // The network rewrites the addresses of all its pods, or of none.
        let rewrites = self.records.values().any(|record| record.is_rewritten == Some(true));
        for (node, shared) in &mut self.records {
            let syns = shared.addresses().filter_map(|address| syns.get(&address)).copied();
            let syns = syns.reduce(Syns::and);
            let is_rewritten = shared.is_rewritten.unwrap_or(rewrites);
            let seen = SynEvidence { scanned, syns, is_rewritten };
            let own_interval = self.settings.interval;
            let incoming = shared.judge_incoming(now, self.listening_since, own_interval, seen);
            if incoming == shared.incoming_kind {
                continue;
            }
            Arc::make_mut(shared).incoming_kind = incoming;
            let verdict = shared.verdict;
            changes.extend(incoming.map(|incoming| Change::Incoming {
                node: node.clone(),
                verdict,
                incoming,
            }));
        }
        changes
    }

    /// The record of a peer.
    #[must_use]
    pub fn get(&self, node: &NodeName) -> Option<&PeerRecord> {
        self.records.get(node).map(AsRef::as_ref)
    }

    /// The records of all peers, ordered by name.
    pub fn records(&self) -> impl Iterator<Item = &PeerRecord> {
        self.records.values().map(AsRef::as_ref)
    }

    /// When the first goodbye expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.records.values().filter_map(|record| record.draining_until).min()
    }

    /// Starts a new listening period: until now the agent could not receive requests, because it did
    /// not run or lacked descriptors, so that the silence of a peer proves nothing.
    pub fn restart_listening(&mut self, now: Instant) {
        self.listening_since = Some(now);
    }

    /// What readers may see.
    #[must_use]
    pub fn snapshot(&self, taken: Moment) -> Snapshot {
        Snapshot {
            taken,
            bounds: Arc::clone(&self.settings.bounds),
            interval: self.settings.interval,
            peers: self.records.values().cloned().collect(),
            pods: self.set.pods,
            incoming_unknown: self.incoming_unknown,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
