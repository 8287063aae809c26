//! The loop that owns schedule and state. It handles one event at a time and waits for one deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::collect::Collector;
use super::history::Recorder;
use super::log_changes::{log_incoming, log_verdict};
use super::requests::{self, Received};
use super::survey::Survey;
use crate::discovery::{EarlyCause, EarlyRefresh, Origin, Refresh};
use crate::experiment::ExperimentReport;
use crate::gate::{Counters, Rejection};
use crate::heartbeat::Heartbeat;
use crate::history::{History, Recollection};
use crate::metrics::{AgentMetrics, RefreshSample};
use crate::name::NodeName;
use crate::probe::{Large, LocalError, Outcome, Priority, Probe, ProbeId, ProbeKind, Report};
use crate::prober::{Experimenter, HalfOpen, Prober};
use crate::schedule::Schedule;
use crate::server::Renderer;
use crate::shutdown::StopToken;
use crate::state::{Change, MeshState, Moment, PeerRecord, Snapshot};

/// An event that wakes the loop.
pub(super) enum Event {
    /// A refresh of the peer list ended.
    Refreshed(Refresh),
    /// A probe ended.
    Probed(Report),
    /// An experiment ended.
    Experimented(ExperimentReport),
    /// Keep-alive requests are queued.
    RequestsReceived,
    /// What the survey has granted has changed.
    SurveyChanged,
    /// A reader waits for a snapshot.
    Read(SyncSender<Arc<Snapshot>>),
    /// A reader waits for what is remembered.
    Recall(SyncSender<Arc<Recollection>>),
    /// The stop token was set.
    Stop,
}

/// Interval of the check for expired goodbyes and silent peers; the loop never sleeps longer.
const TICK: Duration = Duration::from_secs(1);
/// A loop that runs later than this was suspended: a busy node delays it by less.
const SUSPENDED_AFTER: Duration = Duration::from_secs(2);
/// How late the loop may be before the health route reports it as stuck: long enough for a node that
/// swaps, short enough that the kubelet acts within minutes.
const SLACK: Duration = Duration::from_secs(30);
/// Extra time for goodbyes where the drain is short: one lost SYN.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Maximum of large probes in flight: on paths that lose them, they must not occupy every worker.
const MAX_LARGE_IN_FLIGHT: usize = 8;
/// Events handled before the next look at the schedule, so that a flood of requests delays no probe.
const BURST: usize = 64;

/// The loop and all that it uses.
pub(super) struct EventLoop {
    pub(super) state: MeshState,
    pub(super) history: History,
    pub(super) schedule: Schedule,
    pub(super) prober: Arc<Prober>,
    pub(super) experimenter: Experimenter,
    /// Saves what is remembered.
    pub(super) recorder: Recorder,
    /// Keep-alive requests that are not counted yet.
    pub(super) requests: Receiver<Received>,
    /// Connections refused for lack of descriptors, as of the last tick.
    pub(super) refused: u64,
    pub(super) early: EarlyRefresh,
    pub(super) shared: Arc<Shared>,
    pub(super) heartbeat: Heartbeat,
    /// Renewed while no probe is stuck.
    pub(super) workers_heartbeat: Heartbeat,
    /// A probe in flight for longer is stuck.
    pub(super) longest_probe: Duration,
    pub(super) drain: Duration,
    pub(super) next_id: ProbeId,
    /// Large probes submitted and not reported.
    pub(super) large_in_flight: usize,
    /// The last probe found no route to any peer.
    pub(super) no_route: bool,
    pub(super) next_tick: Instant,
    /// A loop that runs later than this was suspended.
    pub(super) awake_by: Instant,
    /// When the first goodbye of a peer expires.
    pub(super) next_expiry: Option<Instant>,
    /// Checked after every event, since the channel may have been full when it was set.
    pub(super) stop: StopToken,
    /// `Some` once the stop has begun.
    pub(super) draining: Option<Draining>,
}

/// The drain: no further probes, answers only.
pub(super) struct Draining {
    until: Instant,
    /// Own goodbyes in flight.
    goodbyes: usize,
}

/// What readers see without asking the loop.
pub(super) struct Shared {
    pub(super) metrics: AgentMetrics,
    pub(super) gate: Arc<Counters>,
    pub(super) collector: Collector,
    pub(super) renderer: Renderer,
    pub(super) survey: Arc<Survey>,
    /// There is a peer list, from discovery or the cache.
    pub(super) listed: AtomicBool,
    /// The stop has begun.
    pub(super) draining: AtomicBool,
}

impl EventLoop {
    /// Runs until the drain is over.
    pub(super) fn run(&mut self, events: &Receiver<Event>) {
        // A directory that cannot be written is logged now, not after the first cell.
        self.save_history(Moment::now());
        loop {
            let moment = Moment::now();
            let now = moment.instant;
            self.close_cells(moment);
            if now > self.awake_by {
                log::warn!("the agent was suspended: requests of peers may have been missed");
                self.state.restart_listening(now);
            }
            if self.stop.is_stopped() && self.draining.is_none() {
                self.begin_stop(now);
            }
            if self.draining.as_ref().is_some_and(|draining| draining.is_over(now)) {
                return;
            }
            self.count_requests();
            self.follow_survey(now);
            self.start_due(now);
            if self.next_tick <= now || self.next_expiry.is_some_and(|expiry| expiry <= now) {
                self.tick(now);
            }
            let deadline = self.deadline(now);
            self.heartbeat.expect_by(deadline + SLACK);
            self.awake_by = deadline + SUSPENDED_AFTER;
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.handle(event);
                    events.try_iter().take(BURST).for_each(|event| self.handle(event));
                }
                Err(RecvTimeoutError::Timeout) => {}
                // No sender is left, so no event can come.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        self.shared.collector.expire(now);
        self.shared.renderer.expire(now);
        // Cells of a large mesh are longer than what a crash may lose.
        if self.recorder.is_due(now) {
            self.save_history(Moment::now());
        }
        let refused = self.shared.gate.rejected(Rejection::NoDescriptors);
        if std::mem::replace(&mut self.refused, refused) != refused {
            self.state.restart_listening(now);
        }
        let mut changes = self.state.tick(now);
        let awaits_incoming = self.state.awaits_incoming();
        self.prober.watch_half_open(awaits_incoming);
        if awaits_incoming {
            let HalfOpen { scanned, syns } = self.prober.half_open();
            changes.extend(self.state.update_incoming(now, scanned, &syns));
        }
        self.apply(now, changes);
        self.experiment();
        self.next_expiry = self.state.next_expiry();
        let stuck = self.prober.oldest_running().map(|since| since + self.longest_probe);
        if stuck.is_none_or(|until| until > now) {
            self.workers_heartbeat.expect_by(now + TICK + SLACK);
        }
    }

    /// Begins the experiments that are due.
    fn experiment(&mut self) {
        if self.draining.is_some() {
            return;
        }
        let now = Moment::now();
        for (node, experiment) in self.state.due_experiments(now) {
            let accepted = self.experimenter.submit(node.clone(), experiment.clone());
            self.state.begin_experiment(now, &node, &experiment, accepted);
            if !accepted {
                // Nor would the others be.
                return;
            }
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        let next = match &self.draining {
            Some(draining) => Some(draining.next_check(now)),
            None => self.schedule.next_deadline(),
        };
        [next, self.next_expiry].into_iter().flatten().fold(self.next_tick, Instant::min)
    }

    /// Counts the queued requests, each as of its arrival.
    fn count_requests(&mut self) {
        for _ in 0..requests::CAPACITY {
            let Ok(received) = self.requests.try_recv() else { return };
            let (at, changes) = match received {
                Received::Request(at, keep_alive, client) => {
                    let request = keep_alive.as_ref();
                    (at.instant, self.state.receive_request_from(at, request, client))
                }
                Received::Retransmits(sender, segments) => {
                    let change = self.state.count_incoming_retransmits(&sender, segments);
                    (Instant::now(), change.into_iter().collect())
                }
            };
            self.apply(at, changes);
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Moment::now();
        self.close_cells(now);
        let changes = match event {
            Event::Refreshed(refresh) => self.refreshed(now, refresh),
            Event::Probed(report) => self.probed(now, &report),
            Event::Experimented(report) => self.state.report_experiment(now, &report),
            Event::Read(reader) => {
                self.count_requests();
                // Fails only when the reader has given up.
                let _ = reader.try_send(Arc::new(self.state.snapshot(now)));
                Vec::new()
            }
            Event::Recall(reader) => {
                let _ = reader.try_send(Arc::new(self.history.recollect(now)));
                Vec::new()
            }
            // The loop checks both after every event.
            Event::RequestsReceived | Event::SurveyChanged | Event::Stop => Vec::new(),
        };
        self.apply(now.instant, changes);
    }

    fn refreshed(&mut self, now: Moment, refresh: Refresh) -> Vec<Change> {
        if refresh.origin == Origin::Fresh {
            let result = match &refresh.result {
                Ok(_) => Ok(now.wall),
                Err(error) => Err(error.reason().as_str()),
            };
            self.shared.metrics.add_refresh(RefreshSample { took: refresh.took, result });
        }
        let Ok(set) = refresh.result else { return Vec::new() };
        self.shared.listed.store(true, Ordering::Release);
        self.shared.metrics.set_peers(set.len(), set.pods);
        let addresses: Vec<_> = set.iter().map(|peer| peer.address).collect();
        self.prober.set_peers(&addresses);
        self.state.peers(set, refresh.next_within)
    }

    fn probed(&mut self, now: Moment, report: &Report) -> Vec<Change> {
        if let ProbeKind::Goodbye { .. } = report.kind {
            if let Some(draining) = &mut self.draining {
                draining.goodbyes = draining.goodbyes.saturating_sub(1);
            }
            return Vec::new();
        }
        if let Outcome::Local(error) = report.outcome {
            self.shared.metrics.add_local_error(error);
            // What delays or prevents a probe on this host does the same to the requests of peers.
            if error.hides_requests() {
                self.state.restart_listening(now.instant);
            }
        }
        self.watch_routes(&report.outcome);
        if report.kind == ProbeKind::Check {
            return self.state.report_check(now, report);
        }
        if let ProbeKind::Large(_) = report.kind {
            self.large_in_flight = self.large_in_flight.saturating_sub(1);
            return self.state.report_large(now, report);
        }
        let delay = report.started.saturating_duration_since(report.due);
        self.shared.metrics.observe_schedule_delay(delay);
        let Some(changes) = self.state.report(now, report) else { return Vec::new() };
        self.schedule.finished(&report.node);
        self.remember_probe(report);
        changes
    }

    /// Logs when the routes go, and when they are back.
    fn watch_routes(&mut self, outcome: &Outcome) {
        let no_route = match outcome {
            Outcome::Local(LocalError::NoRoute) => true,
            Outcome::Local(_) => return,
            Outcome::Success { .. } | Outcome::Failure(_) => false,
        };
        match (std::mem::replace(&mut self.no_route, no_route), no_route) {
            (false, true) => log::error!(
                "no route to any peer: this pod's interface is down, or its routes are missing. No verdict \
                 changes meanwhile"
            ),
            (true, false) => log::info!("there are routes to peers again"),
            _ => {}
        }
    }

    pub(super) fn apply(&mut self, now: Instant, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Schedule(node) => self.schedule.join(now, &node),
                Change::Resume(node) => self.schedule.resume(now, &node),
                Change::Pause(node) => self.pause(now, node),
                Change::Forget(node) => self.schedule.leave(&node),
                Change::SendLarge(node, large) => self.probe_large(now, node, large),
                Change::Check(node) => self.check(now, node),
                Change::Heard(node) => self.shared.survey.hear(now, &node),
                Change::FirstFailure(node) => self.early.request(EarlyCause::Failing(node)),
                Change::UnknownSender(node, instance) => {
                    self.early.request(EarlyCause::Unknown(node, instance));
                }
                Change::NewInstance(node, instance) => {
                    self.early.request(EarlyCause::NewInstance(node, instance));
                }
                Change::Verdict { node, from, to } => {
                    self.remember(&node, from);
                    let record = self.state.get(&node);
                    let share = record.map(PeerRecord::recent_failures);
                    let detail = record.and_then(PeerRecord::detail);
                    log_verdict(&node, from, to, share.unwrap_or_default(), detail);
                }
                Change::Incoming { node, verdict, incoming } => {
                    self.remember(&node, verdict);
                    log_incoming(&node, verdict, incoming);
                }
                Change::Detail { node, verdict, detail } => {
                    self.remember(&node, verdict);
                    log::warn!("peer {node:?} is {}", verdict.with(Some(detail)));
                }
            }
        }
    }

    /// Pauses a peer after its goodbye. It still answers, so one more probe now keeps the path warm.
    fn pause(&mut self, now: Instant, node: NodeName) {
        self.schedule.pause(&node);
        self.next_expiry = self.state.next_expiry();
        let idle = self.state.get(&node).is_some_and(PeerRecord::is_idle);
        if idle && self.draining.is_none() {
            self.schedule.started(&node);
            self.probe(node, now);
        }
    }

    fn start_due(&mut self, now: Instant) {
        if self.draining.is_some() {
            return;
        }
        let taken = self.schedule.take_due(now);
        self.shared.metrics.add_skipped(taken.skipped);
        for due in taken.due {
            self.probe(due.node, due.due);
        }
    }

    fn probe(&mut self, node: NodeName, due: Instant) {
        self.next_id += 1;
        let Some(record) = self.state.begin(&node, self.next_id) else { return };
        let (id, priority, address) = (self.next_id, record.priority(), record.peer.address);
        self.submit(Probe {
            id,
            node,
            address,
            due,
            priority,
            token: None,
            kind: ProbeKind::Blank,
        });
    }

    /// Makes the probe that decides on a claim, beside the schedule. Any host can cause it, so it waits
    /// behind blank probes when workers are short.
    fn check(&mut self, now: Instant, node: NodeName) {
        if self.draining.is_some() {
            return;
        }
        self.shared.survey.disturb(&node);
        self.next_id += 1;
        let id = self.next_id;
        let Some(record) = self.state.begin_check(&node, id) else { return };
        let address = record.peer.address;
        let (priority, kind) = (Priority::Suspect, ProbeKind::Check);
        self.submit(Probe { id, node, address, due: now, priority, token: None, kind });
    }

    /// Starts a large probe. It measures no latency, so it waits behind blank probes when workers are short.
    fn probe_large(&mut self, now: Instant, node: NodeName, large: Large) {
        // A probe beyond the limit is due again after the next blank one.
        if self.draining.is_some() || self.large_in_flight >= MAX_LARGE_IN_FLIGHT {
            return;
        }
        self.next_id += 1;
        let id = self.next_id;
        let Some(record) = self.state.begin_large(&node, id) else { return };
        let address = record.peer.address;
        self.large_in_flight += 1;
        let (priority, kind) = (Priority::Suspect, ProbeKind::Large(large));
        self.submit(Probe { id, node, address, due: now, priority, token: None, kind });
    }

    /// Hands a probe to the workers, with the tokens to show; reports at once what they cannot start.
    fn submit(&mut self, probe: Probe) {
        let probe = Probe { token: self.state.token(&probe.node), ..probe };
        let unstarted = self.prober.submit(probe);
        for report in unstarted {
            let _ = self.probed(Moment::now(), &report);
        }
    }

    /// Ends probing and says goodbye to every peer.
    fn begin_stop(&mut self, now: Instant) {
        self.shared.draining.store(true, Ordering::Release);
        self.prober.cancel_waiting();
        self.experimenter.cancel();
        self.shared.survey.stop();
        let moment = Moment::now();
        self.save_history(moment);
        let snapshot = self.state.snapshot(moment);
        let mut staying = snapshot.peers;
        staying.retain(|record| record.draining_until.is_none());
        let peers = if staying.len() == 1 { "peer" } else { "peers" };
        log::info!("draining for {:?}: goodbye to {} {peers}", self.drain, staying.len());
        self.draining = Some(Draining { until: now + self.drain, goodbyes: staying.len() });
        for record in staying {
            self.next_id += 1;
            self.submit(Probe {
                id: self.next_id,
                node: record.peer.node.clone(),
                address: record.peer.address,
                due: now,
                priority: record.priority(),
                token: None,
                kind: ProbeKind::Goodbye { drain: self.drain },
            });
        }
    }
}

impl Draining {
    /// The drain has passed, and every goodbye was answered or timed out.
    fn is_over(&self, now: Instant) -> bool {
        now >= self.until && (self.goodbyes == 0 || now >= self.until + GOODBYE_TIMEOUT)
    }

    fn next_check(&self, now: Instant) -> Instant {
        if now < self.until { self.until } else { self.until + GOODBYE_TIMEOUT }
    }
}
