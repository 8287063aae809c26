//! Makes probes: a pool of worker threads, each of which blocks in one probe at a time. Beside them,
//! on the threads of their callers: single questions ([`probe_once`]) and documents ([`fetch_all`]).
//!
//! It decides nothing about peers: what is due and what an outcome means is the caller's. It never
//! retries, never reuses a connection, and never delays a probe of a healthy peer for one of a
//! failing peer. Every probe that is submitted and not forgotten is reported exactly once.
//!
//! Threads: up to [`MAX_WORKERS`], named `probe-N`; they start when probes wait, end when idle, and
//! all at [`Prober::stop`] (or when the `Prober` is dropped).

mod answer;
mod deadline_stream;
mod exchange;
mod failure;
mod fetch;
mod half_open;
mod pool;
mod tcp_info;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::name::{Instance, NodeName};
use crate::probe::{Probe, Report};
pub use exchange::{ProbeResult, probe_once};
pub use fetch::{Fetch, FetchError, FetchJob, fetch, fetch_all};
pub use half_open::HalfOpen;
use pool::Pool;

/// Most workers, and so most probes in flight: about 27 KB each, kernel side included, which keeps
/// the agent within its memory when every peer of a large cluster is black-holed. Without a cap
/// 1,000 such peers at the default interval and timeout would want 500.
pub const MAX_WORKERS: usize = 64;

/// Workers that [`Priority::Suspect`](crate::probe::Priority::Suspect) probes leave free. Healthy peers
/// answer within milliseconds, so that four workers make hundreds of their probes a second even
/// while black holes hold all the others for a whole timeout.
pub const HEALTHY_RESERVE: usize = 4;

/// How long a worker stays idle before it ends: a few default intervals, so that a steady load
/// neither ends nor starts threads.
pub const WORKER_IDLE: Duration = Duration::from_secs(30);

/// Bytes of stack of a worker, virtual until touched. A probe with the longest names runs in 4 KiB
/// of a release build and in 16 KiB of a debug build (measured); the rest is for `report`, and in a
/// debug build for the backtrace of a failing assertion.
pub const WORKER_STACK: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 64 * 1024 };

/// What all probes of this agent have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our own node, the source in every request.
    pub node: NodeName,
    /// Our own life.
    pub instance: Instance,
    /// How often each peer is probed; announced to it.
    pub interval: Duration,
    /// One probe's whole budget: connect, send and receive together.
    pub timeout: Duration,
    /// The port on which this agent listens.
    pub listen_port: u16,
}

/// The bounds of the pool. The defaults are the agent's; tests shrink them.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Most workers, at least one.
    pub workers: usize,
    /// How many of them suspect probes leave free; they may always have one.
    pub reserve: usize,
    /// How long a worker stays idle before it ends. The last one stays, so that an agent that may
    /// start no more threads still probes.
    pub idle: Duration,
    /// Bytes of stack of a worker.
    pub stack: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            workers: MAX_WORKERS,
            reserve: HEALTHY_RESERVE,
            idle: WORKER_IDLE,
            stack: WORKER_STACK,
        }
    }
}

/// The worker pool. Dropping it ends idle workers at once and the others after their probe.
pub struct Prober {
    pool: Arc<Pool>,
}

impl Prober {
    /// A pool without a thread yet.
    ///
    /// `report` is called once for every probe that a worker makes, on its small stack
    /// ([`WORKER_STACK`]); so it must neither panic nor wait for the thread that submits.
    #[must_use]
    pub fn new(settings: Settings, report: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self::with_limits(settings, PoolLimits::default(), report)
    }

    /// A pool with other bounds than the agent's.
    #[must_use]
    pub fn with_limits(
        settings: Settings,
        limits: PoolLimits,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> Self {
        Self { pool: Arc::new(Pool::new(settings, limits, Box::new(report))) }
    }

    /// Hands over a probe; never waits for one. It starts at once when a worker is free or may be
    /// hired, else late, which its report tells.
    ///
    /// The queue is bounded by the caller, who has at most one blank probe, one large one and one goodbye per peer
    /// in flight. After the stop a probe is forgotten.
    ///
    /// Gives back the probes that can never start, this one or any that waited: there is no thread
    /// and none to be had. They are not reported otherwise, so that the caller waits for nobody.
    pub fn submit(&self, probe: Probe) -> Vec<Report> {
        self.pool.submit(probe)
    }

    /// When the probe that has run for the longest began; time in the queue does not count.
    #[must_use]
    pub fn oldest_running(&self) -> Option<Instant> {
        self.pool.oldest_running()
    }

    /// From whom SYNs came that led to nothing, as of the last look; looked at while probes wait for
    /// an answer to theirs.
    #[must_use]
    pub fn half_open(&self) -> HalfOpen {
        self.pool.half_open()
    }

    /// How many workers live, idle ones included.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.pool.workers()
    }

    /// Forgets the probes that wait for a worker; they are never reported. Before the goodbyes, so
    /// that these need not queue behind probes whose results nobody wants.
    pub fn cancel_waiting(&self) {
        self.pool.cancel_waiting();
    }

    /// Forgets the waiting probes, takes no further ones, and ends the workers: idle ones at once,
    /// the others when their probe has been reported. Joins those that end before the deadline, and
    /// returns how many are still inside a probe; their reports may still come.
    pub fn stop(&self, deadline: Instant) -> usize {
        self.pool.stop(deadline)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.pool.close();
    }
}
