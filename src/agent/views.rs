//! The agent as the server sees it: what the server reads, and what it reports.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use prometheus::proto::MetricFamily;

use super::collect;
use super::event_loop::{Event, Shared};
use super::requests::RequestQueue;
use super::silent::SilentPeers;
use super::survey::Sender;
use crate::gate;
use crate::heartbeat::Heartbeat;
use crate::history::{Day, Recollection};
use crate::logger::Losses;
use crate::matrix::{Matrix, RowError};
use crate::metrics::GateCounts;
use crate::name::{Instance, NodeName};
use crate::server::{Ask, Renderer, Views};
use crate::state::Snapshot;
use crate::token::{Token, TokenKey};
use crate::wire::KeepAlive;

/// The loop answers in microseconds; a reader gives up after this long.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The agent as the server sees it.
pub(super) struct AgentViews {
    pub(super) node: NodeName,
    pub(super) instance: Instance,
    pub(super) events: SyncSender<Event>,
    pub(super) requests: RequestQueue,
    pub(super) key: TokenKey,
    pub(super) shared: Arc<Shared>,
    /// Log lines that were not written.
    pub(super) lost: Arc<Losses>,
    pub(super) heartbeats: Vec<Heartbeat>,
    pub(super) silent: SilentPeers,
}

impl Views for AgentViews {
    fn node(&self) -> &NodeName {
        &self.node
    }

    fn instance(&self) -> &Instance {
        &self.instance
    }

    fn request_received(&self, request: Option<KeepAlive>, client: Option<IpAddr>) {
        self.requests.push(request, client);
    }

    fn seal(&self, request: &KeepAlive) -> Option<Token> {
        self.key.seal(&self.node, (&request.node, request.instance.as_ref()), request.token?)
    }

    fn draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    fn healthy(&self) -> Result<(), String> {
        let now = Instant::now();
        let overdue = |heartbeat: &Heartbeat| Some((heartbeat.name(), heartbeat.overdue(now)?));
        match self.heartbeats.iter().find_map(overdue) {
            None => Ok(()),
            Some((name, late)) => Err(format!("{name} stuck for {} s", late.as_secs())),
        }
    }

    fn ready(&self) -> Result<(), String> {
        if self.draining() {
            Err("draining".to_owned())
        } else if self.shared.listed.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err("no peer list yet".to_owned())
        }
    }

    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        snapshot(&self.events)
    }

    fn renderer(&self) -> &Renderer {
        &self.shared.renderer
    }

    fn agent_metrics(&self) -> Vec<MetricFamily> {
        for (reason, lines) in self.lost.counts() {
            self.shared.metrics.raise_log_lines_dropped(reason.as_str(), lines);
        }
        self.shared.metrics.gather(&gate_counts(&self.shared.gate))
    }

    fn matrix(&self) -> Option<Arc<Matrix>> {
        self.shared.collector.matrix(&self.shared.survey.reads, &|| self.snapshot())
    }

    fn recollection(&self) -> Option<Arc<Recollection>> {
        recollection(&self.events)
    }

    fn past_matrix(&self, recollection: &Recollection, seconds: u64) -> Option<Arc<Matrix>> {
        let (collector, reads) = (&self.shared.collector, &self.shared.survey.reads);
        collector.past_matrix(reads, &|| self.snapshot(), recollection, seconds)
    }

    fn day(&self) -> Option<Arc<Day>> {
        let remembered = || Some((self.snapshot()?, self.recollection()?));
        self.shared.collector.day(&self.shared.survey.reads, &remembered)
    }

    fn survey(&self) -> Vec<u8> {
        self.shared.survey.json()
    }

    fn command(
        &self,
        command: &str,
        sender: Option<KeepAlive>,
        client: Option<IpAddr>,
    ) -> (u16, Vec<u8>) {
        self.shared.survey.command(command, &Sender { named: sender, client })
    }

    /// What a peer sends, unless it rests for a survey or did not answer lately.
    fn fetch(&self, snapshot: &Snapshot, peer: &NodeName, ask: Ask) -> Result<Vec<u8>, RowError> {
        if let Some(error) = self.silent.error(peer, Instant::now()) {
            return Err(error);
        }
        let _read = self.shared.survey.reads.begin(peer).ok_or(RowError::Surveyed)?;
        let fetched = collect::fetch(snapshot, peer, ask);
        if let Err(error) = fetched {
            self.silent.note(peer, error, Instant::now());
        }
        fetched
    }
}

/// A snapshot from the loop; `None` if it does not respond.
pub(super) fn snapshot(events: &SyncSender<Event>) -> Option<Arc<Snapshot>> {
    ask(events, Event::Read)
}

/// What the loop remembers; `None` if it does not respond.
pub(super) fn recollection(events: &SyncSender<Event>) -> Option<Arc<Recollection>> {
    ask(events, Event::Recall)
}

/// Has the loop answer an event; `None` if it does not respond.
fn ask<T>(events: &SyncSender<Event>, event: fn(SyncSender<Arc<T>>) -> Event) -> Option<Arc<T>> {
    let (reader, answer) = sync_channel(1);
    events.send(event(reader)).ok()?;
    answer.recv_timeout(READ_TIMEOUT).ok()
}

fn gate_counts(counters: &gate::Counters) -> GateCounts {
    let rejected = gate::Rejection::ALL.iter();
    GateCounts {
        connections: counters.connections(),
        rejected: rejected.map(|reason| (reason.as_str(), counters.rejected(*reason))).collect(),
        requests: counters.requests().collect(),
    }
}
