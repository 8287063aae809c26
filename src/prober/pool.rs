//! The workers: who waits, who is called, who is hired and who leaves.
//!
//! It knows nothing of sockets. The lock is held for moments only: never during a probe, and never
//! while a report is given.
//!
//! One rule keeps the pool busy, applied after every change that can make a probe runnable: when
//! more runnable probes wait than workers are on their way to them, one more worker is called, or
//! hired. Idle workers form a stack: the latest to become idle is called first, so that spare ones
//! stay idle long enough to leave. Only the longest idle one waits with a timeout; the others wait
//! on a condition of their own, untimed, until they are called or become the longest idle. (When
//! each waits with a timeout, all wake for every probe: 422 µs of CPU a probe against 241 µs, with
//! 64 workers.)

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::exchange::perform;
use super::half_open::{HalfOpen, Watch};
use super::{Limits, Settings};
use crate::probe::{KernelView, LocalError, Outcome, Priority, Probe, Report};

/// The last worker does not leave, however long it is idle: when the host gives no more threads
/// (a pids limit), the agent that keeps one still holds the door.
const KEPT_WORKERS: usize = 1;

type Reporter = Box<dyn Fn(Report) + Send + Sync>;

/// What the submitting thread and the workers share.
pub(super) struct Pool {
    settings: Settings,
    half_open: Watch,
    limits: Limits,
    report: Reporter,
    state: Mutex<State>,
    /// A worker has left during the stop.
    left: Condvar,
}

#[derive(Default)]
struct State {
    steady: VecDeque<Probe>,
    suspect: VecDeque<Probe>,
    /// Suspect probes inside workers.
    suspects_running: usize,
    /// Idle workers, the longest idle first.
    idle: VecDeque<Arc<Seat>>,
    /// Workers called or hired that have not looked for a probe since.
    coming: usize,
    /// Every thread, by its number.
    crew: BTreeMap<usize, Member>,
    /// Members that have not left.
    workers: usize,
    stopping: bool,
}

/// Where one worker waits.
struct Seat {
    number: usize,
    called: Condvar,
}

/// One thread of the pool.
struct Member {
    handle: JoinHandle<()>,
    /// Since when it makes a probe.
    running: Option<Instant>,
    /// It has left during the stop, and can be joined without waiting.
    left: bool,
}

type Guard<'a> = MutexGuard<'a, State>;

impl Pool {
    pub(super) fn new(settings: Settings, limits: Limits, report: Reporter) -> Self {
        Self {
            half_open: Watch::new(settings.listen_port),
            settings,
            limits,
            report,
            state: Mutex::new(State::default()),
            left: Condvar::new(),
        }
    }

    pub(super) fn submit(self: &Arc<Self>, probe: Probe) -> Vec<Report> {
        let mut state = self.lock();
        if state.stopping {
            return Vec::new();
        }
        match probe.priority {
            Priority::Healthy => state.steady.push_back(probe),
            Priority::Suspect => state.suspect.push_back(probe),
        }
        let unstarted = self.staff(&mut state);
        drop(state);
        let outcome = || (Outcome::Local(LocalError::NotStarted), None);
        unstarted.into_iter().map(|probe| report(probe, Instant::now(), outcome())).collect()
    }

    pub(super) fn workers(&self) -> usize {
        self.lock().workers
    }

    pub(super) fn half_open(&self) -> HalfOpen {
        self.half_open.seen()
    }

    /// When the probe that has run for the longest began.
    pub(super) fn oldest_running(&self) -> Option<Instant> {
        self.lock().crew.values().filter_map(|member| member.running).min()
    }

    pub(super) fn cancel_waiting(&self) {
        let mut state = self.lock();
        state.steady.clear();
        state.suspect.clear();
    }

    /// No further probes; every idle worker leaves.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.steady.clear();
        state.suspect.clear();
        while state.call_latest() {}
    }

    pub(super) fn stop(&self, deadline: Instant) -> usize {
        self.close();
        let mut state = self.lock();
        while state.workers > 0 {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            let waited = self.left.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let inside = state.workers;
        let done: Vec<usize> =
            state.crew.iter().filter(|(_, m)| m.left).map(|(number, _)| *number).collect();
        let done: Vec<Member> = done.iter().filter_map(|n| state.crew.remove(n)).collect();
        drop(state);
        for member in done {
            // A worker that panicked has ended too; its panic has been told by the hook.
            let _ = member.handle.join();
        }
        inside
    }

    /// Applies the one rule; returns the probes that can never start, having nobody to make them.
    fn staff(self: &Arc<Self>, state: &mut State) -> Vec<Probe> {
        if state.stopping || state.runnable(&self.limits) <= state.coming || state.call_latest() {
            return Vec::new();
        }
        if state.workers >= self.limits.workers.max(1) || self.hire(state) || state.workers > 0 {
            return Vec::new();
        }
        let steady = std::mem::take(&mut state.steady);
        let suspect = std::mem::take(&mut state.suspect);
        steady.into_iter().chain(suspect).collect()
    }

    /// Starts a worker, under the lock: the worker's first act is to take it, so that its handle is
    /// in its place before it can leave.
    fn hire(self: &Arc<Self>, state: &mut State) -> bool {
        let taken = |number: &usize| !state.crew.contains_key(number);
        let Some(number) = (0..=state.crew.len()).find(taken) else { return false };
        let pool = Arc::clone(self);
        let thread = thread::Builder::new()
            .name(format!("probe-{number}"))
            .stack_size(self.limits.stack)
            .spawn(move || pool.work(number));
        match thread {
            Ok(handle) => {
                state.crew.insert(number, Member { handle, running: None, left: false });
                state.workers += 1;
                state.coming += 1;
                true
            }
            Err(error) => {
                log::debug!("cannot start a thread for a probe: {error}");
                false
            }
        }
    }

    /// The life of a worker.
    fn work(self: &Arc<Self>, number: usize) {
        let seat = Arc::new(Seat { number, called: Condvar::new() });
        let mut state = self.lock();
        state.coming -= 1;
        loop {
            let Some(probe) = state.take(&self.limits) else {
                match self.rest(state, &seat) {
                    Some(called) => state = called,
                    None => return,
                }
                continue;
            };
            let priority = probe.priority;
            // Catches up when workers could not be hired before. While this one lives, no probe is
            // given up.
            let _ = self.staff(&mut state);
            let started = Instant::now();
            state.set_running(number, Some(started));
            drop(state);
            let result = perform(&self.settings, &self.half_open, &probe, started);
            (self.report)(report(probe, started, result));
            state = self.lock();
            state.set_running(number, None);
            if priority == Priority::Suspect {
                state.suspects_running -= 1;
            }
        }
    }

    /// Waits to be called; `None` when the worker has left instead.
    fn rest<'a>(&'a self, mut state: Guard<'a>, seat: &Arc<Seat>) -> Option<Guard<'a>> {
        if state.stopping {
            state.leave(seat.number);
            self.left.notify_all();
            return None;
        }
        let until = Instant::now().checked_add(self.limits.idle);
        state.idle.push_back(Arc::clone(seat));
        loop {
            let longest = state.idle.front().is_some_and(|first| first.number == seat.number);
            state = match until.filter(|_| longest && state.workers > KEPT_WORKERS) {
                None => seat.called.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.idle.pop_front();
                        state.leave(seat.number);
                        // Hands on the role of the one who waits with a timeout.
                        if let Some(next) = state.idle.front() {
                            next.called.notify_one();
                        }
                        return None;
                    }
                    let waited = seat.called.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            if !state.idle.iter().any(|idle| idle.number == seat.number) {
                state.coming -= 1;
                return Some(state);
            }
        }
    }

    // What the lock guards is whole after every statement.
    fn lock(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_running(&mut self, number: usize, since: Option<Instant>) {
        if let Some(member) = self.crew.get_mut(&number) {
            member.running = since;
        }
    }

    /// How many suspect probes may start now.
    fn suspect_room(&self, limits: &Limits) -> usize {
        let share = limits.workers.saturating_sub(limits.reserve).max(1);
        share.saturating_sub(self.suspects_running).min(self.suspect.len())
    }

    /// How many probes could start now if there were workers.
    fn runnable(&self, limits: &Limits) -> usize {
        self.steady.len() + self.suspect_room(limits)
    }

    /// The next probe for a worker that is free; steady ones first.
    fn take(&mut self, limits: &Limits) -> Option<Probe> {
        if let Some(probe) = self.steady.pop_front() {
            return Some(probe);
        }
        if self.suspect_room(limits) == 0 {
            return None;
        }
        let probe = self.suspect.pop_front();
        self.suspects_running += usize::from(probe.is_some());
        probe
    }

    /// Calls the worker that became idle last; `false` when none is idle.
    fn call_latest(&mut self) -> bool {
        let Some(seat) = self.idle.pop_back() else { return false };
        self.coming += 1;
        seat.called.notify_one();
        true
    }

    /// Strikes a worker off; its handle stays for the stop to join, or is dropped.
    fn leave(&mut self, number: usize) {
        self.workers -= 1;
        if !self.stopping {
            self.crew.remove(&number);
        } else if let Some(member) = self.crew.get_mut(&number) {
            member.left = true;
        }
    }
}

fn report(probe: Probe, started: Instant, result: (Outcome, Option<KernelView>)) -> Report {
    let (outcome, kernel) = result;
    let Probe { id, node, due, kind, .. } = probe;
    Report { id, node, due, started, ended: Instant::now(), kind, outcome, kernel }
}
