//! The pool of worker threads: it starts, wakes, parks and ends workers. It knows nothing of sockets.
//!
//! The lock is never held during a probe or a call of `report`.
//!
//! One rule keeps the pool busy, applied after every change that can make a probe runnable: if more
//! runnable probes wait than workers are waking, one more worker is woken, or started. Idle workers
//! form a stack: the latest to become idle is woken first, so that spare ones stay idle long enough
//! to exit. Only the longest idle worker waits with a timeout; each other one waits on a condition of
//! its own, without a timeout, until it is woken or becomes the longest idle. (If each waits with a
//! timeout, all wake for every probe: 422 µs of CPU a probe against 241 µs, with 64 workers.)

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::exchange::perform;
use super::half_open::{HalfOpen, HalfOpenWatch};
use super::routes::Routes;
use super::{PoolLimits, Settings};
use crate::probe::{KernelView, LocalError, Outcome, Priority, Probe, Report};

/// The last worker never exits, however long it is idle: if the host allows no more threads (a pids
/// limit), the agent still makes probes.
const MIN_WORKERS: usize = 1;

/// What the submitting thread and the workers share.
struct Pool {
    settings: Settings,
    half_open: HalfOpenWatch,
    routes: Routes,
    limits: PoolLimits,
    report: Box<dyn Fn(Report) + Send + Sync>,
    state: Mutex<PoolState>,
    /// A worker exited during the stop.
    worker_exited: Condvar,
}

#[derive(Default)]
struct PoolState {
    healthy: VecDeque<Probe>,
    suspect: VecDeque<Probe>,
    /// Suspect probes in progress.
    suspects_running: usize,
    /// Idle workers, the longest idle first.
    idle: VecDeque<Arc<Parker>>,
    /// Workers woken or started that have not taken the lock since.
    waking: usize,
    /// Live workers.
    workers: Vec<Worker>,
    /// Workers that exited during the stop: joining them does not block.
    exited: Vec<JoinHandle<()>>,
    stopping: bool,
}

/// Where one idle worker waits.
struct Parker {
    number: usize,
    woken: Condvar,
}

/// One thread of the pool.
struct Worker {
    number: usize,
    handle: JoinHandle<()>,
    /// Start of its current probe.
    running_since: Option<Instant>,
}

type Guard<'a> = MutexGuard<'a, PoolState>;

/// The worker pool. Dropping it ends idle workers at once, the others after their probe.
pub struct Prober(Arc<Pool>);

impl Prober {
    /// A pool without threads.
    ///
    /// `report` is called once for every probe that a worker makes, on the worker's small stack
    /// ([`WORKER_STACK`](super::WORKER_STACK)). It must neither panic nor wait for the thread that submits.
    #[must_use]
    pub fn new(settings: Settings, report: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self::with_limits(settings, PoolLimits::of_this_process(), report)
    }

    /// A pool with other bounds than those of this process.
    #[must_use]
    pub fn with_limits(
        settings: Settings,
        limits: PoolLimits,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Pool {
            half_open: HalfOpenWatch::new(settings.listen_port),
            routes: Routes::default(),
            settings,
            limits,
            report: Box::new(report),
            state: Mutex::default(),
            worker_exited: Condvar::new(),
        }))
    }

    /// Queues a probe, and never blocks. The probe starts at once if a worker is idle or can be
    /// started, else late, which its report shows. After the stop a probe is dropped.
    ///
    /// The caller bounds the queue: at most one blank probe, one check, one large probe and one goodbye
    /// a peer are in flight.
    ///
    /// Returns the reports of probes that can never start, this one and any that waited, because there
    /// is no worker and no thread can be started. `report` is not called for them.
    pub fn submit(&self, probe: Probe) -> Vec<Report> {
        let mut state = self.0.lock();
        if state.stopping {
            return Vec::new();
        }
        match probe.priority {
            Priority::Healthy => state.healthy.push_back(probe),
            Priority::Suspect => state.suspect.push_back(probe),
        }
        let unstarted = self.0.ensure_worker(&mut state);
        drop(state);
        let outcome = || (Outcome::Local(LocalError::NotStarted), None);
        unstarted.into_iter().map(|probe| report(probe, Instant::now(), outcome())).collect()
    }

    /// Start of the longest running probe; time in the queue does not count.
    #[must_use]
    pub fn oldest_running(&self) -> Option<Instant> {
        self.0.lock().workers.iter().filter_map(|worker| worker.running_since).min()
    }

    /// Replaces the addresses that show whether this host has any route out.
    pub fn set_peers(&self, peers: &[SocketAddr]) {
        self.0.routes.set_peers(peers);
    }

    /// Starts or ends the scans for half-open connections after probes of any outcome. Those whose connect
    /// times out scan always.
    pub fn watch_half_open(&self, watched: bool) {
        self.0.half_open.watch(watched);
    }

    /// The half-open incoming connections at the last scan. Workers scan while their own SYNs are
    /// unanswered.
    #[must_use]
    pub fn half_open(&self) -> HalfOpen {
        self.0.half_open.seen()
    }

    /// Number of workers, idle ones included.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.0.lock().workers.len()
    }

    /// Drops the probes that wait for a worker, without a report: before the goodbyes, so that these
    /// do not queue behind probes whose results are not needed.
    pub fn cancel_waiting(&self) {
        self.0.lock().take_waiting();
    }

    /// Drops the waiting probes, accepts no further ones, and ends the workers: idle ones at once, the
    /// others after their probe has been reported. Joins the workers that exit before the deadline,
    /// and returns the number of those still inside a probe; their reports may still come.
    pub fn stop(&self, deadline: Instant) -> usize {
        self.close();
        let mut state = self.0.lock();
        while !state.workers.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.0.worker_exited.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let busy = state.workers.len();
        let exited = std::mem::take(&mut state.exited);
        drop(state);
        for handle in exited {
            // A worker that panicked has ended too; the panic hook has logged it.
            let _ = handle.join();
        }
        busy
    }

    /// Accepts no further probes, and ends all idle workers.
    fn close(&self) {
        let mut state = self.0.lock();
        state.stopping = true;
        state.take_waiting();
        while state.wake_latest() {}
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.close();
    }
}

impl Pool {
    /// Applies the rule; returns the probes that can never start, because there is no worker and no
    /// thread can be started.
    fn ensure_worker(self: &Arc<Self>, state: &mut PoolState) -> Vec<Probe> {
        let runnable = state.healthy.len() + state.startable_suspects(&self.limits);
        if state.stopping || runnable <= state.waking || state.wake_latest() {
            return Vec::new();
        }
        let full = state.workers.len() >= self.limits.workers.max(1);
        if full || self.start_worker(state) || !state.workers.is_empty() {
            return Vec::new();
        }
        state.take_waiting()
    }

    /// Starts a worker while the lock is held: the worker first takes the lock, so its handle is
    /// stored before it can exit.
    fn start_worker(self: &Arc<Self>, state: &mut PoolState) -> bool {
        let free = |number: &usize| state.workers.iter().all(|worker| worker.number != *number);
        let Some(number) = (0..=state.workers.len()).find(free) else { return false };
        let pool = Arc::clone(self);
        let thread = thread::Builder::new()
            .name(format!("probe-{number}"))
            .stack_size(self.limits.stack)
            .spawn(move || pool.work(number));
        match thread {
            Ok(handle) => {
                state.workers.push(Worker { number, handle, running_since: None });
                state.waking += 1;
                true
            }
            Err(error) => {
                log::debug!("cannot start a worker thread: {error}");
                false
            }
        }
    }

    /// A worker's loop.
    fn work(self: &Arc<Self>, number: usize) {
        let parker = Arc::new(Parker { number, woken: Condvar::new() });
        let mut state = self.lock();
        state.waking -= 1;
        loop {
            let Some(probe) = state.next_probe(&self.limits) else {
                match self.park(state, &parker) {
                    Some(woken) => state = woken,
                    None => return,
                }
                continue;
            };
            let priority = probe.priority;
            // Catches up after workers could not be started. While this one lives, every probe can
            // start.
            let _ = self.ensure_worker(&mut state);
            let started = Instant::now();
            state.set_running(number, Some(started));
            drop(state);
            let result = perform(&self.settings, (&self.half_open, &self.routes), &probe, started);
            (self.report)(report(probe, started, result));
            self.half_open.scan_if_watched();
            state = self.lock();
            state.set_running(number, None);
            if priority == Priority::Suspect {
                state.suspects_running -= 1;
            }
        }
    }

    /// Waits to be woken; `None` if the worker has exited instead.
    fn park<'a>(&'a self, mut state: Guard<'a>, parker: &Arc<Parker>) -> Option<Guard<'a>> {
        if state.stopping {
            state.exit(parker.number);
            self.worker_exited.notify_all();
            return None;
        }
        let until = Instant::now().checked_add(self.limits.idle);
        state.idle.push_back(Arc::clone(parker));
        loop {
            let longest = state.idle.front().is_some_and(|first| first.number == parker.number);
            state = match until.filter(|_| longest && state.workers.len() > MIN_WORKERS) {
                None => parker.woken.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.idle.pop_front();
                        state.exit(parker.number);
                        // The next longest idle worker must wait with a timeout from now on.
                        if let Some(next) = state.idle.front() {
                            next.woken.notify_one();
                        }
                        return None;
                    }
                    let waited = parker.woken.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            if !state.idle.iter().any(|idle| idle.number == parker.number) {
                state.waking -= 1;
                return Some(state);
            }
        }
    }

    // The state is valid after every statement, so also after a panic.
    fn lock(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolState {
    fn set_running(&mut self, number: usize, since: Option<Instant>) {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.number == number) {
            worker.running_since = since;
        }
    }

    /// Number of waiting suspect probes that may start now.
    fn startable_suspects(&self, limits: &PoolLimits) -> usize {
        let share = limits.workers.saturating_sub(limits.reserve).max(1);
        share.saturating_sub(self.suspects_running).min(self.suspect.len())
    }

    /// The next probe for a free worker; healthy ones first.
    fn next_probe(&mut self, limits: &PoolLimits) -> Option<Probe> {
        if let Some(probe) = self.healthy.pop_front() {
            return Some(probe);
        }
        if self.startable_suspects(limits) == 0 {
            return None;
        }
        self.suspects_running += 1;
        self.suspect.pop_front()
    }

    /// Empties both queues.
    fn take_waiting(&mut self) -> Vec<Probe> {
        self.healthy.drain(..).chain(self.suspect.drain(..)).collect()
    }

    /// Wakes the worker that became idle last; `false` if none is idle.
    fn wake_latest(&mut self) -> bool {
        let Some(parker) = self.idle.pop_back() else { return false };
        self.waking += 1;
        parker.woken.notify_one();
        true
    }

    /// Removes a worker; during the stop its handle is stored, to be joined.
    fn exit(&mut self, number: usize) {
        let exited = self.workers.extract_if(.., |worker| worker.number == number);
        self.exited.extend(exited.filter(|_| self.stopping).map(|worker| worker.handle));
    }
}

fn report(probe: Probe, started: Instant, result: (Outcome, Option<KernelView>)) -> Report {
    let (outcome, kernel) = result;
    let Probe { id, node, due, kind, .. } = probe;
    Report { id, node, due, started, ended: Instant::now(), kind, outcome, kernel }
}
