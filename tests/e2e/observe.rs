//! Records the counters of all pairs while a test changes their agents.

use std::time::{Duration, Instant};

use wylis_harness::pair_counters::PairCounters;

use crate::cluster::{Cluster, Pod};

/// The pause between two records: short beside the 5 s that an agent answers after SIGTERM.
const PAUSE: Duration = Duration::from_millis(500);

/// Counters relative to the agents' current ones.
pub(crate) fn begin(cluster: &Cluster, pods: &[Pod]) -> PairCounters {
    let mut counters = PairCounters::default();
    record(&mut counters, cluster, pods);
    counters.reset();
    counters
}

/// Records the rows of these agents; an agent that does not answer is skipped.
pub(crate) fn record(counters: &mut PairCounters, cluster: &Cluster, pods: &[Pod]) {
    pods.iter().for_each(|pod| counters.record(&cluster.row(pod)));
}

/// Records the agents of `pods` until `done`, or for `limit`. Returns whether `done` held.
pub(crate) fn until(
    counters: &mut PairCounters,
    cluster: &Cluster,
    limit: Duration,
    mut pods: impl FnMut() -> Vec<Pod>,
    mut done: impl FnMut(&[Pod]) -> bool,
) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let now = pods();
        record(counters, cluster, &now);
        if done(&now) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}
