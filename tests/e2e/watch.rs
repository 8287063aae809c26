//! Follows the counters of all pairs while something is done to their agents.

use std::time::{Duration, Instant};

use wylis_harness::watch::Watch;

use crate::cluster::{Cluster, Pod};

/// Between two looks; an agent answers for five seconds after its SIGTERM, so none ends unseen.
const LOOK: Duration = Duration::from_millis(500);

/// A watch that knows what these agents have counted before.
pub(crate) fn begin(cluster: &Cluster, pods: &[Pod]) -> Watch {
    let mut watch = Watch::default();
    look(&mut watch, cluster, pods);
    watch.begin();
    watch
}

/// One look at these agents; those that do not answer are passed over.
pub(crate) fn look(watch: &mut Watch, cluster: &Cluster, pods: &[Pod]) {
    pods.iter().for_each(|pod| watch.see(&cluster.row(pod)));
}

/// Watches what `pods` gives until `done` holds, or for as long as `limit`; whether it held.
pub(crate) fn until(
    watch: &mut Watch,
    cluster: &Cluster,
    limit: Duration,
    mut pods: impl FnMut() -> Vec<Pod>,
    mut done: impl FnMut(&[Pod]) -> bool,
) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let now = pods();
        look(watch, cluster, &now);
        if done(&now) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}
