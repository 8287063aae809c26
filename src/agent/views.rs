//! What the server may see of the agent, and what it reports to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::collect::Collector;
use super::event_loop::{Event, Shared};
use super::requests::Requests;
use crate::gate;
use crate::heartbeat::Heartbeat;
use crate::matrix;
use crate::metrics::{self, AgentMetrics, GateCounts};
use crate::name::{Instance, NodeName};
use crate::server::{self, Chunks, Document, NotShown, Shown, Views};
use crate::state::Snapshot;
use crate::wire::KeepAlive;

/// The loop answers in microseconds; a reader that waits longer than this is told so.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The agent as the server sees it.
pub(super) struct AgentViews {
    pub(super) node: NodeName,
    pub(super) instance: Instance,
    pub(super) events: SyncSender<Event>,
    pub(super) requests: Requests,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<AgentMetrics>,
    pub(super) gate: Arc<gate::Counters>,
    pub(super) collector: Arc<Collector>,
    pub(super) heartbeats: Vec<Heartbeat>,
}

impl AgentViews {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let (reader, snapshot) = sync_channel(1);
        self.events.send(Event::Read(reader)).ok()?;
        snapshot.recv_timeout(READ_TIMEOUT).ok()
    }
}

impl Views for AgentViews {
    fn node(&self) -> &NodeName {
        &self.node
    }

    fn instance(&self) -> &Instance {
        &self.instance
    }

    fn heard(&self, said: Option<KeepAlive>) {
        self.requests.leave(said);
    }

    fn draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    fn healthy(&self) -> Result<(), String> {
        let now = Instant::now();
        let stuck = self
            .heartbeats
            .iter()
            .find_map(|heartbeat| Some((heartbeat.name(), heartbeat.overdue(now)?)));
        match stuck {
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

    fn metrics(&self) -> Option<Chunks> {
        let snapshot = self.snapshot()?;
        let agent = self.metrics.gather(&gate_counts(&self.gate));
        Some(Box::new(metrics::render(self.node.clone(), snapshot, agent)))
    }

    fn peers(&self) -> Shown {
        let snapshot = self.snapshot().ok_or(NotShown::Silent)?;
        Ok(Document::counted(|| server::peers_json(&self.node, &self.instance, &snapshot)))
    }

    fn peer(&self, node: &NodeName) -> Shown {
        let snapshot = self.snapshot().ok_or(NotShown::Silent)?;
        let peer = server::peer_json(&self.node, &self.instance, &snapshot, node);
        peer.map(Document::whole).ok_or(NotShown::Unknown)
    }

    fn row(&self) -> Shown {
        let snapshot = self.snapshot().ok_or(NotShown::Silent)?;
        Ok(Document::counted(|| matrix::row_json(&self.node, &self.instance, &snapshot)))
    }

    fn cluster(&self) -> Shown {
        let matrix = self.collector.matrix(|| self.snapshot()).ok_or(NotShown::Silent)?;
        Ok(Document::counted(|| matrix::matrix_json(&matrix)))
    }

    fn pair(&self, source: &NodeName, target: &NodeName) -> Shown {
        let snapshot = self.snapshot().ok_or(NotShown::Silent)?;
        let own = (*source == self.node)
            .then(|| server::peer_json(&self.node, &self.instance, &snapshot, target));
        let pair = self.collector.pair(source, target, &snapshot, own);
        pair.map(Document::whole).ok_or(NotShown::Unknown)
    }
}

fn gate_counts(counters: &gate::Counters) -> GateCounts {
    let rejected = gate::Rejection::ALL.iter();
    GateCounts {
        connections: counters.connections(),
        rejected: rejected.map(|reason| (reason.as_str(), counters.rejected(*reason))).collect(),
        requests: counters.requests().collect(),
    }
}
