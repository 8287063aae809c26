//! The loop over schedule and state: one event at a time, one deadline to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::collect::Collector;
use super::requests::{self, ReceivedRequest};
use crate::discovery::{EarlyCause, EarlyRefresh, Origin, Refresh};
use crate::gate::{Counters, Rejection};
use crate::heartbeat::Heartbeat;
use crate::metrics::{AgentMetrics, RefreshSample};
use crate::name::NodeName;
use crate::probe::{Outcome, Priority, Probe, ProbeId, ProbeKind, Report};
use crate::prober::Prober;
use crate::schedule::Schedule;
use crate::shutdown::StopToken;
use crate::state::{Change, MeshState, Moment, PeerRecord, Snapshot, Verdict};

/// What reaches the loop.
pub(super) enum Event {
    /// A refresh of the peer list ended.
    Refreshed(Refresh),
    /// A probe ended.
    Probed(Report),
    /// Keep-alive requests were answered, and wait to be counted.
    Heard,
    /// Somebody wants to read.
    Read(SyncSender<Arc<Snapshot>>),
    /// Wakes the loop: the stop token was pulled.
    Stop,
}

/// The state is looked through for goodbyes that ran out and peers that fell silent this often: the
/// longest sleep.
const TICK: Duration = Duration::from_secs(1);
/// A busy node delays the loop by less; a frozen or paused one by more.
const KEPT_FROM_RUNNING: Duration = Duration::from_secs(2);
/// How late the loop may come by before the health route calls it stuck: long enough for a node
/// that swaps, short enough that the kubelet acts within minutes.
const SLACK: Duration = Duration::from_secs(30);
/// How long goodbyes may take beyond the drain: one lost SYN, where the drain is shorter.
const GOODBYE_WITHIN: Duration = Duration::from_millis(1500);
/// Large probes in flight: where all paths swallow them, they must not hold every worker.
const LARGE_AT_ONCE: usize = 8;
/// Events handled before the schedule is looked at again, so that a flood of requests delays no
/// probe.
const BURST: usize = 64;

/// What the loop works with.
pub(super) struct EventLoop {
    pub(super) state: MeshState,
    pub(super) schedule: Schedule,
    pub(super) prober: Arc<Prober>,
    /// Requests that wait to be counted.
    pub(super) requests: Receiver<ReceivedRequest>,
    /// What the public port counts.
    pub(super) gate: Arc<Counters>,
    /// How often it had no descriptor for a connection.
    pub(super) unheard: u64,
    pub(super) early: EarlyRefresh,
    pub(super) metrics: Arc<AgentMetrics>,
    /// What it keeps of the last matrix is forgotten when nobody asks for it.
    pub(super) collector: Arc<Collector>,
    pub(super) shared: Arc<Shared>,
    pub(super) heartbeat: Heartbeat,
    /// Promised while no probe is overdue.
    pub(super) workers_pulse: Heartbeat,
    /// A probe in flight for longer is stuck.
    pub(super) longest_probe: Duration,
    pub(super) drain: Duration,
    pub(super) next_id: ProbeId,
    /// Large probes handed out and not reported.
    pub(super) large_in_flight: usize,
    pub(super) next_tick: Instant,
    /// Coming by later than this, we were kept from running.
    pub(super) awake_by: Instant,
    /// When the first goodbye of a peer runs out.
    pub(super) next_expiry: Option<Instant>,
    /// Heard once an event, in case the channel was full when the stop came.
    pub(super) stop: StopToken,
    /// `Some` once the stop has begun.
    pub(super) leaving: Option<Leaving>,
}

/// The stop, once begun.
pub(super) struct Leaving {
    /// Until when to answer.
    until: Instant,
    /// Our own goodbyes that have not been answered yet.
    goodbyes: usize,
}

/// The flags that the readers see without asking the loop.
#[derive(Default)]
pub(super) struct Shared {
    /// A peer list has been had, if only the kept one.
    pub(super) listed: AtomicBool,
    /// The stop has begun.
    pub(super) draining: AtomicBool,
}

impl EventLoop {
    /// Runs until the drain is over.
    pub(super) fn run(&mut self, events: &Receiver<Event>) {
        loop {
            let now = Instant::now();
            if now > self.awake_by {
                log::warn!("kept from running until now: the silence meanwhile was our own");
                self.state.restart_listening(now);
            }
            if self.stop.is_stopped() && self.leaving.is_none() {
                self.begin_stop(now);
            }
            if self.leaving.as_ref().is_some_and(|leaving| leaving.is_over(now)) {
                return;
            }
            self.hear();
            self.start_due(now);
            if self.next_tick <= now || self.next_expiry.is_some_and(|expiry| expiry <= now) {
                self.tick(now);
            }
            let deadline = self.deadline(now);
            self.heartbeat.expect_by(deadline + SLACK);
            self.awake_by = deadline + KEPT_FROM_RUNNING;
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.handle(event);
                    events.try_iter().take(BURST).for_each(|event| self.handle(event));
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Every sender is gone: there is nobody left to serve.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        self.collector.expire(now);
        let refused = self.gate.rejected(Rejection::NoDescriptors);
        if std::mem::replace(&mut self.unheard, refused) != refused {
            self.state.restart_listening(now);
        }
        let mut changes = self.state.tick(now);
        if self.state.awaits_incoming_syns() {
            changes.extend(self.state.update_incoming_syns(now, &self.prober.half_open()));
        }
        self.act(now, changes);
        self.next_expiry = self.state.next_expiry();
        let stuck = self.prober.oldest_running().map(|since| since + self.longest_probe);
        if stuck.is_none_or(|until| until > now) {
            self.workers_pulse.expect_by(now + TICK + SLACK);
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        let next = match &self.leaving {
            Some(leaving) => Some(leaving.next_look(now)),
            None => self.schedule.next_deadline(),
        };
        [next, self.next_expiry].into_iter().flatten().fold(self.next_tick, Instant::min)
    }

    /// Counts the requests that wait, as of when they came.
    fn hear(&mut self) {
        for _ in 0..requests::CAPACITY {
            let Ok(ReceivedRequest { at, keep_alive }) = self.requests.try_recv() else { return };
            let changes = self.state.receive_request(at, keep_alive.as_ref());
            self.act(at.instant, changes);
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Moment::now();
        let changes = match event {
            Event::Refreshed(refresh) => self.refreshed(now, refresh),
            Event::Probed(report) => self.probed(now, &report),
            Event::Read(reader) => {
                self.hear();
                // A reader that waits no longer is no fault of ours.
                let _ = reader.try_send(Arc::new(self.state.snapshot(now)));
                Vec::new()
            }
            // The loop looks itself.
            Event::Heard | Event::Stop => Vec::new(),
        };
        self.act(now.instant, changes);
    }

    fn refreshed(&mut self, now: Moment, refresh: Refresh) -> Vec<Change> {
        if refresh.origin == Origin::Fresh {
            let result = match &refresh.result {
                Ok(_) => Ok(now.wall),
                Err(error) => Err(error.reason().as_str()),
            };
            self.metrics.add_refresh(RefreshSample { took: refresh.took, result });
        }
        let Ok(set) = refresh.result else { return Vec::new() };
        self.shared.listed.store(true, Ordering::Release);
        self.metrics.set_peers(set.len(), set.pods);
        self.state.peers(set, refresh.next_within)
    }

    fn probed(&mut self, now: Moment, report: &Report) -> Vec<Change> {
        if let ProbeKind::Goodbye { .. } = report.kind {
            if let Some(leaving) = &mut self.leaving {
                leaving.goodbyes = leaving.goodbyes.saturating_sub(1);
            }
            return Vec::new();
        }
        if let Outcome::Local(error) = report.outcome {
            self.metrics.add_local_error(error);
        }
        if report.kind == ProbeKind::Large {
            self.large_in_flight = self.large_in_flight.saturating_sub(1);
            return self.state.report_large(now, report);
        }
        self.metrics.observe_schedule_delay(report.started.saturating_duration_since(report.due));
        let Some(changes) = self.state.report(now, report) else { return Vec::new() };
        self.schedule.finished(&report.node);
        changes
    }

    fn act(&mut self, now: Instant, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Schedule(node) => self.schedule.join(now, &node),
                Change::Resume(node) => self.schedule.resume(now, &node),
                Change::Pause(node) => self.part(now, node),
                Change::Forget(node) => self.schedule.leave(&node),
                Change::SendLarge(node) => self.probe_large(now, node),
                Change::FirstFailure(node) => self.early.request(EarlyCause::Failing(node)),
                Change::UnknownSender(node, instance) => {
                    self.early.request(EarlyCause::Unknown(node, instance));
                }
                Change::NewInstance(node, instance) => {
                    self.early.request(EarlyCause::NewInstance(node, instance));
                }
                Change::Verdict { node, from, to } => tell(&node, from, to),
                Change::IncomingSynsOnly(node) => log::warn!(
                    "peer {node:?} tries to reach us, and does not answer: the way to it is broken, \
                     the one from it is not"
                ),
            }
        }
    }

    /// A peer said goodbye: it still answers, and one probe now keeps the path warm for as long as
    /// possible.
    fn part(&mut self, now: Instant, node: NodeName) {
        self.schedule.pause(&node);
        self.next_expiry = self.state.next_expiry();
        let idle = self.state.get(&node).is_some_and(PeerRecord::is_idle);
        if idle && self.leaving.is_none() {
            self.schedule.started(&node);
            self.probe(node, now);
        }
    }

    fn start_due(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        let taken = self.schedule.take_due(now);
        self.metrics.add_skipped(taken.skipped);
        for due in taken.due {
            self.probe(due.node, due.due);
        }
    }

    fn probe(&mut self, node: NodeName, due: Instant) {
        self.next_id += 1;
        let Some(record) = self.state.begin(&node, self.next_id) else { return };
        let (id, priority, address) = (self.next_id, record.priority(), record.peer.address);
        self.submit(Probe { id, node, address, due, priority, kind: ProbeKind::Blank });
    }

    /// Waits behind every blank probe when workers are short: it measures no latency.
    fn probe_large(&mut self, now: Instant, node: NodeName) {
        // One too many comes again behind the next blank probe.
        if self.leaving.is_some() || self.large_in_flight >= LARGE_AT_ONCE {
            return;
        }
        self.next_id += 1;
        let id = self.next_id;
        let Some(record) = self.state.begin_large(&node, id) else { return };
        let address = record.peer.address;
        self.large_in_flight += 1;
        let (priority, kind) = (Priority::Suspect, ProbeKind::Large);
        self.submit(Probe { id, node, address, due: now, priority, kind });
    }

    /// Hands a probe to the workers; what they can never start is folded in at once.
    fn submit(&mut self, probe: Probe) {
        let unstarted = self.prober.submit(probe);
        for report in unstarted {
            let _ = self.probed(Moment::now(), &report);
        }
    }

    /// No further probes, a last word to every peer, and then answers only.
    fn begin_stop(&mut self, now: Instant) {
        self.shared.draining.store(true, Ordering::Release);
        self.prober.cancel_waiting();
        let snapshot = self.state.snapshot(Moment::now());
        let mut staying = snapshot.peers;
        staying.retain(|record| record.draining_until.is_none());
        log::info!(
            "goodbye to the peers that stay ({}), answering for another {:?}",
            staying.len(),
            self.drain
        );
        self.leaving = Some(Leaving { until: now + self.drain, goodbyes: staying.len() });
        for record in staying {
            self.next_id += 1;
            self.submit(Probe {
                id: self.next_id,
                node: record.peer.node.clone(),
                address: record.peer.address,
                due: now,
                priority: record.priority(),
                kind: ProbeKind::Goodbye { drain: self.drain },
            });
        }
    }
}

impl Leaving {
    /// The drain has passed, and every goodbye has been said or has had its time.
    fn is_over(&self, now: Instant) -> bool {
        now >= self.until && (self.goodbyes == 0 || now >= self.until + GOODBYE_WITHIN)
    }

    fn next_look(&self, now: Instant) -> Instant {
        if now < self.until { self.until } else { self.until + GOODBYE_WITHIN }
    }
}

fn tell(node: &NodeName, from: Verdict, to: Verdict) {
    match to {
        Verdict::Down(_) | Verdict::OneWay | Verdict::Lossy | Verdict::Mtu => {
            log::warn!("peer {node:?} is {to}, was {from}");
        }
        Verdict::Up | Verdict::Draining | Verdict::Unknown => {
            log::info!("peer {node:?} is {to}, was {from}");
        }
    }
}
