//! The experiments of one peer: when to make one, and what they found. Pure.
//!
//! At most one experiment of a peer is in flight. The first that is due goes first, in the order below.

mod flows;
mod host;
mod mtu;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::{Change, MeshState, Moment, Sample, StateSettings, Verdict};
use crate::experiment::{Experiment, ExperimentReport, Found};
use crate::name::NodeName;
use flows::Flows;
use host::Host;
use mtu::Mtu;

/// Experiments that are begun at once: as many as may wait.
const MAX_DUE: usize = 32;
/// Time between two looks at the host behind a healthy peer.
const HOST_BASELINE: Duration = Duration::from_secs(300);

impl MeshState {
    /// The experiments that are due now, at most [`MAX_DUE`], in turns: questions to hosts, then slow ones. Each must
    /// be begun or refused with [`Self::begin_experiment`].
    #[must_use]
    pub fn due_experiments(&self, now: Moment) -> Vec<(NodeName, Experiment)> {
        let StateSettings { host_port, source, .. } = &self.settings;
        let last = self.experimented.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.records.range::<NodeName, _>((last, Bound::Unbounded));
        let all = later.chain(&self.records).take(self.records.len());
        let due = all.filter(|(_, record)| !record.surveyed());
        let due = due.filter_map(|(node, record)| {
            let host = record.peer.host.zip(*host_port).map(SocketAddr::from);
            let host = (host, source.share(node, HOST_BASELINE));
            let situation = record.situation();
            let experiment = record.experiments.due(now, situation, host, &record.recent)?;
            Some((node, experiment))
        });
        let (slow, hosts): (Vec<_>, Vec<_>) = due.partition(|(_, due)| due.is_slow());
        let first = hosts.into_iter().chain(slow).take(MAX_DUE);
        first.map(|(node, experiment)| (node.clone(), experiment)).collect()
    }

    /// Records that an experiment was accepted, or could not be begun.
    pub fn begin_experiment(
        &mut self,
        now: Moment,
        node: &NodeName,
        experiment: &Experiment,
        accepted: bool,
    ) {
        if let Some(record) = self.records.get_mut(node) {
            Arc::make_mut(record).experiments.begin(now, experiment, accepted);
            if accepted {
                self.experimented = Some(node.clone());
            }
        }
    }

    /// Folds in the report of an experiment.
    pub fn report_experiment(&mut self, now: Moment, report: &ExperimentReport) -> Vec<Change> {
        let Some(record) = self.records.get_mut(&report.node) else { return Vec::new() };
        let record = Arc::make_mut(record);
        let before = record.detail();
        let situation = record.situation();
        record.experiments.end(now, report, situation);
        let verdict = record.update_verdict(self.settings.failure_threshold);
        let detail = record.detail().filter(|detail| Some(*detail) != before);
        let (node, now) = (&report.node, record.verdict);
        let detail =
            detail.map(|detail| Change::Detail { node: node.clone(), verdict: now, detail });
        verdict.into_iter().chain(detail).collect()
    }
}

/// What is known of the peer without experiments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub(super) address: SocketAddr,
    pub(super) verdict: Verdict,
    /// Bytes.
    pub(super) path_mtu: Option<u32>,
    /// Bytes: the largest so far.
    pub(super) largest_path_mtu: Option<u32>,
}

/// What experiments found of one peer.
#[derive(Debug, Clone, Default)]
pub struct Experiments {
    /// The largest packet of each direction.
    pub mtu: Mtu,
    /// The host behind the pod.
    pub host: Host,
    /// Flows that never get through.
    pub flows: Flows,
    /// The address of the one in flight.
    in_flight: Option<SocketAddr>,
}

impl Experiments {
    /// The experiment that is due, if any. `host` is what may be asked of its host, and its offset; `recent` are its
    /// last probes.
    pub(super) fn due(
        &self,
        now: Moment,
        peer: Situation,
        host: (Option<SocketAddr>, Duration),
        recent: &VecDeque<Sample>,
    ) -> Option<Experiment> {
        if self.in_flight.is_some() {
            return None;
        }
        // The host's takes no time, and is due at once when probes begin to fail.
        let due = self.host.due(now, peer, host).or_else(|| self.mtu.due(now, peer));
        due.or_else(|| self.flows.due(now, peer, recent))
    }

    /// Whether one is in flight.
    pub(super) fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Records that one was begun, or could not be: then it is due again a while later.
    pub(super) fn begin(&mut self, now: Moment, experiment: &Experiment, accepted: bool) {
        self.in_flight = accepted.then(|| experiment.address());
        match experiment {
            Experiment::Mtu { direction, .. } => self.mtu.begin(now, *direction),
            // One that is refused is due again at once.
            Experiment::Host { .. } | Experiment::Flows { .. } if !accepted => {}
            Experiment::Host { address } => self.host.begin(now, *address),
            Experiment::Flows { .. } => self.flows.begin(now),
        }
    }

    /// Folds in what was found, unless the peer has moved meanwhile.
    pub(super) fn end(&mut self, now: Moment, report: &ExperimentReport, peer: Situation) {
        if self.in_flight.take_if(|address| *address == report.address).is_none() {
            return;
        }
        match report.found {
            Found::Mtu(direction, largest) => self.mtu.end(now, direction, largest, peer),
            Found::Host(answered) => self.host.end(now, answered),
            Found::Flows(dead) => self.flows.end(now, dead),
        }
    }

    /// The verdict has changed.
    pub(super) fn follow(&mut self, verdict: Verdict) {
        self.mtu.follow(verdict);
        self.flows.follow(verdict);
    }

    /// What stays known when the pod has another address or instance: the host, if it is the same one.
    pub(super) fn relocated(&self, same_host: bool) -> Self {
        let mut host = self.host.clone();
        if !same_host {
            host.replace();
        }
        host.turn(false);
        Self { host, ..Self::default() }
    }
}
