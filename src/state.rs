//! What is known of every peer. Pure: it folds outcomes and requests in, and hands snapshots out.
//!
//! The agent's thread owns it; readers see a [`Snapshot`], which shares the records and costs one
//! pointer a peer. It takes `now`, and reads no clock.

mod large;
mod record;
mod verdict;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::name::{Instance, NodeName};
use crate::peer::{Peer, PeerDiff, PeerSet, PodCounts};
use crate::probe::{KernelView, Outcome, ProbeId, Report};
use crate::wire::KeepAlive;
use large::BlankSuccess;
pub use large::LargeProbes;
pub use record::{Histogram, PeerRecord, RECENT, Sample};
pub use verdict::{Impairment, Verdict};

/// Longest drain that a goodbye can claim: no agent's grace period is longer, and a forged goodbye
/// must not hide an outage.
const MAX_DRAIN: Duration = Duration::from_secs(300);

/// One moment on both clocks: deadlines count on the first, people read the second.
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

/// What the state needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct StateSettings {
    /// Slots in a row without a success before a peer is down.
    pub failure_threshold: u32,
    /// Spacing of one peer's slots.
    pub interval: Duration,
    /// Spacing of one peer's large probes; zero for none.
    pub large_interval: Duration,
    /// Our own node: its pairs have their own moments.
    pub source: NodeName,
    /// Our own drain: what is assumed of a peer whose answer says only that it drains.
    pub drain: Duration,
    /// Histogram bounds in seconds, rising.
    pub bounds: Arc<[f64]>,
}

/// Something that the agent must act on or tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Give the peer slots, the first soon; what is in flight to its old place does not count.
    Schedule(NodeName),
    /// Give a paused peer its slots back, the first soon.
    Resume(NodeName),
    /// Take its slots away, keep it.
    Pause(NodeName),
    /// Forget it.
    Forget(NodeName),
    /// Send it a large probe.
    SendLarge(NodeName),
    /// Its last probe failed, the one before did not.
    FirstFailure(NodeName),
    /// Its verdict is another.
    Verdict {
        /// The peer.
        node: NodeName,
        /// Before.
        from: Verdict,
        /// Now.
        to: Verdict,
    },
    /// It is down, and its own SYNs come here: the way to it is broken, the one from it is not.
    IncomingSynsOnly(NodeName),
    /// A request named a node that is no peer.
    UnknownSender(NodeName, Option<Instance>),
    /// A request came from another life of a peer than the one known.
    NewInstance(NodeName, Instance),
}

/// Everything readers may see, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was taken.
    pub taken: Moment,
    /// The histogram's bounds in seconds.
    pub bounds: Arc<[f64]>,
    /// One record a peer, in the order of their names.
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
    /// How long after its drain a goodbye is believed: until the next list of peers.
    refresh_within: Duration,
    /// Since when we hear without a gap that was told.
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
        let node = peer.node.clone();
        if record.peer.address == peer.address && record.peer.instance == peer.instance {
            record.peer = peer;
            return Vec::new();
        }
        record.relocate(peer);
        let mut changes = vec![Change::Schedule(node)];
        changes.extend(record.update_verdict(self.settings.failure_threshold));
        changes
    }

    /// Notes that a probe of a peer was handed out; `None` when the peer is unknown.
    pub fn begin(&mut self, node: &NodeName, id: ProbeId, now: Instant) -> Option<&PeerRecord> {
        let record = Arc::make_mut(self.records.get_mut(node)?);
        record.in_flight = Some((id, now));
        Some(record)
    }

    /// Notes that a large probe of a peer was handed out; `None` when the peer is unknown.
    pub fn begin_large(&mut self, node: &NodeName, id: ProbeId) -> Option<&PeerRecord> {
        let record = Arc::make_mut(self.records.get_mut(node)?);
        record.large.begin(id);
        Some(record)
    }

    /// Folds the report of a large probe in; one of a peer that left or moved is forgotten.
    pub fn report_large(&mut self, now: Moment, report: &Report) -> Vec<Change> {
        let Some(record) = self.records.get_mut(&report.node) else { return Vec::new() };
        if !record.large.is_in_flight(report.id) {
            return Vec::new();
        }
        let record = Arc::make_mut(record);
        let interval = self.settings.large_interval;
        record.large.end(now, &report.outcome, interval);
        record.update_verdict(self.settings.failure_threshold).into_iter().collect()
    }

    /// Folds a report in; `None` when it is of a probe that is not in flight, since the peer left or
    /// moved meanwhile.
    pub fn report(&mut self, now: Moment, report: &Report) -> Option<Vec<Change>> {
        let record = self.records.get_mut(&report.node)?;
        record.in_flight.filter(|(id, _)| *id == report.id)?;
        let until = now.instant + self.settings.drain + self.refresh_within;
        let record = Arc::make_mut(record);
        record.in_flight = None;
        let mut changes = Vec::new();
        let kernel = report.kernel.unwrap_or_default();
        match &report.outcome {
            Outcome::Local(_) => return Some(changes),
            Outcome::Success { timings, answer } => {
                record.succeed(now, *timings, kernel, &self.settings.bounds);
                record.answered_by = answer.instance.clone();
                if answer.draining {
                    let (life, drain) = (answer.instance.as_ref(), self.settings.drain);
                    changes.extend(record.goodbye(now.instant, life, drain, until));
                } else {
                    record.refute_goodbye();
                    let interval = self.settings.large_interval;
                    let share = || self.settings.source.share(&report.node, interval);
                    let blank = BlankSuccess {
                        began: report.started,
                        supported: answer.can_large,
                        lossy: record.is_lossy(),
                    };
                    if record.large.is_due_after(now.instant, blank, interval, share) {
                        changes.push(Change::SendLarge(report.node.clone()));
                    }
                }
            }
            // It said that it goes, and it went.
            Outcome::Failure(_) if record.draining_until.is_some() => return Some(changes),
            Outcome::Failure(reason) => {
                let first = record.consecutive_failures == 0;
                record.fail(now, *reason, kernel);
                record.count_missed_slots(
                    *reason,
                    report.started,
                    report.ended,
                    self.settings.interval,
                );
                if first {
                    changes.push(Change::FirstFailure(report.node.clone()));
                }
            }
        }
        changes.extend(record.update_verdict(self.settings.failure_threshold));
        Some(changes)
    }

    /// Folds an incoming keep-alive request in; `None` for one without a valid source.
    pub fn receive_request(&mut self, now: Moment, request: Option<&KeepAlive>) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(request) = request else {
            self.incoming_unknown += 1;
            return changes;
        };
        let Some(record) = self.records.get_mut(&request.node) else {
            self.incoming_unknown += 1;
            changes.push(Change::UnknownSender(request.node.clone(), request.instance.clone()));
            return changes;
        };
        let record = Arc::make_mut(record);
        record.receive_request(now, request);
        if let Some(drain) = request.goodbye {
            let drain = drain.min(MAX_DRAIN);
            let until = now.instant + drain + self.refresh_within;
            changes.extend(record.goodbye(now.instant, request.instance.as_ref(), drain, until));
        } else if record.ends_goodbye(now.instant, request.instance.as_ref()) {
            record.draining_until = None;
            changes.push(Change::Resume(request.node.clone()));
        }
        if let (Some(told), Some(known)) = (&request.instance, &record.peer.instance)
            && told != known
            && record.answered_by.as_ref() != Some(told)
        {
            changes.push(Change::NewInstance(request.node.clone(), told.clone()));
        }
        changes.extend(record.update_verdict(self.settings.failure_threshold));
        changes
    }

    /// Goodbyes whose time is over: those peers are probed and counted again. And peers that have
    /// been silent for too long.
    pub fn tick(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for (node, shared) in &mut self.records {
            let over = shared.draining_until.is_some_and(|until| until <= now);
            let silent = shared.is_silent(now, self.listening_since);
            if !over && silent == shared.silent {
                continue;
            }
            let record = Arc::make_mut(shared);
            record.silent = silent;
            if over {
                record.expire_goodbye(now);
                changes.push(Change::Resume(node.clone()));
            }
            changes.extend(record.update_verdict(self.settings.failure_threshold));
        }
        changes
    }

    /// Whether somebody is down who could be half-heard.
    #[must_use]
    pub fn awaits_incoming_syns(&self) -> bool {
        self.records.values().any(|record| record.incoming_syns_only.is_some())
    }

    /// Folds in when each address last sent a SYN that led to nothing.
    pub fn update_incoming_syns(
        &mut self,
        now: Instant,
        syns: &BTreeMap<IpAddr, Instant>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (node, shared) in &mut self.records {
            let Some(before) = shared.incoming_syns_only else { continue };
            let peer = &shared.peer;
            let addresses = peer.other_addresses.iter().copied().chain([peer.address.ip()]);
            let came = addresses.filter_map(|address| syns.get(&address)).max().copied();
            let heard = came.is_some_and(|came| shared.proves_incoming_syns_only(now, came));
            if heard != before {
                Arc::make_mut(shared).incoming_syns_only = Some(heard);
            }
            if heard && !before {
                changes.push(Change::IncomingSynsOnly(node.clone()));
            }
        }
        changes
    }

    /// The record of a peer.
    #[must_use]
    pub fn get(&self, node: &NodeName) -> Option<&PeerRecord> {
        self.records.get(node).map(AsRef::as_ref)
    }

    /// When the first goodbye runs out.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.records.values().filter_map(|record| record.draining_until).min()
    }

    /// We could hear nobody until now, asleep or without a descriptor: whoever was not heard meanwhile
    /// may have called.
    pub fn restart_listening(&mut self, now: Instant) {
        self.listening_since = Some(now);
    }

    /// What readers may see.
    #[must_use]
    pub fn snapshot(&self, taken: Moment) -> Snapshot {
        Snapshot {
            taken,
            bounds: Arc::clone(&self.settings.bounds),
            peers: self.records.values().cloned().collect(),
            pods: self.set.pods,
            incoming_unknown: self.incoming_unknown,
        }
    }
}

/// Whether the kernel saw the path shrink is judged against the largest it ever told.
fn largest(known: Option<u32>, kernel: KernelView) -> Option<u32> {
    known.max(kernel.path_mtu)
}

#[cfg(test)]
mod tests;
