//! Makes probes, in a pool of worker threads that block in one probe at a time. Beside the pool, on
//! the caller's thread: single probes ([`probe_once`]) and fetches of documents ([`fetch_all`]).
//!
//! It decides nothing about peers: the caller decides what is due and what an outcome means. It never
//! retries, never reuses a connection, and never delays a probe of a healthy peer for one of a
//! failing peer. Every submitted probe that is not cancelled is reported exactly once.
//!
//! Threads: up to [`MAX_WORKERS`], named `probe-N`. They start when probes wait, and end when idle, at
//! [`Prober::stop`], or when the `Prober` is dropped.

mod answer;
mod attempt;
mod deadline_stream;
mod exchange;
mod experiments;
mod failure;
mod fetch;
mod half_open;
mod path_mtu;
mod pool;
mod post;
mod routes;

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::name::{Instance, NodeName};
pub use attempt::attempt;
pub use exchange::{ProbeResult, probe_once};
pub use experiments::{
    Experimenter, FlowTrial, MAX_EXPERIMENTS, hosts_answer, largest_packet, repeat_flows, try_flows,
};
pub use fetch::{Fetch, FetchError, FetchJob, Origin, fetch, fetch_all};
pub use half_open::HalfOpen;
pub use pool::Prober;
pub use post::post;

/// Most workers, and so most probes in flight: about 27 KB each, kernel side included, which keeps
/// the agent within its memory limit when every peer of a large cluster is a black hole. Without a
/// cap, 1,000 such peers at the default interval and timeout would need 500.
pub const MAX_WORKERS: usize = 64;

/// Workers that [`Priority::Suspect`](crate::probe::Priority::Suspect) probes never use. Healthy peers
/// answer within milliseconds, so four workers make hundreds of their probes a second even while
/// black holes hold all other workers for a whole timeout.
pub const HEALTHY_RESERVE: usize = 4;

/// Descriptors left to the rest of the process: at the least 24 of the gate, 32 rows of peers, the private
/// server and its connections, the API server, files. A worker needs one for its probe. With more workers than
/// descriptors, chance would decide which probe gets one; with fewer, healthy peers are probed first.
const RESERVED_DESCRIPTORS: u64 = 96;

/// Fewest workers, however low the limit of descriptors: rows of peers are rarely fetched, so that some of
/// the reserve is free.
const MIN_WORKERS: usize = 2 * HEALTHY_RESERVE;

/// Idle time after which a worker exits: a few default intervals, so that a steady load neither ends
/// nor starts threads.
const WORKER_IDLE: Duration = Duration::from_secs(30);

/// Stack of a worker in bytes, virtual until touched. A probe with the longest names uses less than
/// 8 KiB in a release build and 16 KiB in a debug build; the rest is for `report`, and in a debug build
/// for the backtrace of a failed assertion.
pub const WORKER_STACK: usize = if cfg!(debug_assertions) { 256 * 1024 } else { 64 * 1024 };

/// What all probes of this agent share.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The agent's own node, the source in every request.
    pub node: NodeName,
    /// The agent's own instance.
    pub instance: Instance,
    /// Longest time between two probes of one peer; announced to the peer.
    pub interval: Duration,
    /// One probe's whole budget: connect, send and receive together.
    pub timeout: Duration,
    /// The agent's listen port.
    pub listen_port: u16,
}

/// The bounds of the pool. The agent's are [`PoolLimits::of_this_process`]; tests shrink them.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Most workers, at least one.
    pub workers: usize,
    /// Workers that suspect probes never use; they may always use one.
    pub reserve: usize,
    /// Idle time after which a worker exits, except for the last one.
    pub idle: Duration,
    /// Stack of a worker in bytes.
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

impl PoolLimits {
    /// The limits of this process, whose descriptors may be few.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::with_descriptors(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn with_descriptors(descriptors: u64) -> Self {
        let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        Self { workers: left.clamp(MIN_WORKERS, MAX_WORKERS), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_leave_few_workers_and_the_reserve() {
        let workers = |descriptors| PoolLimits::with_descriptors(descriptors).workers;
        assert_eq!([0, 64, 100, 128, 160, 1024, u64::MAX].map(workers), [8, 8, 8, 32, 64, 64, 64]);
        let limits = PoolLimits::with_descriptors(0);
        assert!(limits.reserve < limits.workers, "suspect probes have workers too");
    }
}
