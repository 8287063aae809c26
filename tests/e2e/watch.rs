//! Follows the counters of all pairs over the lives of their agents.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, Pod};

/// Between two looks; an agent answers for five seconds after its SIGTERM, so none ends unseen.
const LOOK: Duration = Duration::from_millis(500);

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Watch {
    /// By the life of an agent and its peer: what it counted at the last look.
    seen: HashMap<(String, String), (u64, u64)>,
    /// Failures since the watch began, and what was told of them.
    pub(crate) failures: u64,
    pub(crate) failed: Vec<String>,
    /// Successes since the watch began, by source and target.
    pub(crate) successes: HashMap<(String, String), u64>,
    last: HashMap<(String, String), Instant>,
    longest: HashMap<(String, String), Duration>,
}

impl Watch {
    /// A watch that knows what was counted before it began.
    pub(crate) fn begin(cluster: &Cluster, pods: &[Pod]) -> Self {
        let mut watch = Self::default();
        watch.look(cluster, pods);
        watch.failures = 0;
        watch.failed.clear();
        watch.successes.clear();
        watch
    }

    /// One look at these agents; those that do not answer are passed over.
    pub(crate) fn look(&mut self, cluster: &Cluster, pods: &[Pod]) {
        for pod in pods {
            let row = cluster.row(pod);
            let Some(instance) = row["instance"].as_str() else { continue };
            for peer in row["peers"].as_array().into_iter().flatten() {
                self.fold(instance, &pod.node, peer);
            }
        }
    }

    fn fold(&mut self, instance: &str, source: &str, peer: &Value) {
        let target = peer["node"].as_str().unwrap().to_owned();
        let count = |field: &str| peer[field].as_u64().unwrap();
        let now = (count("successes"), count("failures"));
        let key = (instance.to_owned(), target.clone());
        let (successes, failures) = self.seen.insert(key, now).unwrap_or_default();
        // A peer that left the list and came back begins at zero.
        let (successes, failures) = if now.0 < successes { (0, 0) } else { (successes, failures) };
        if now.1 > failures {
            self.failures += now.1 - failures;
            self.failed.push(format!("{source} to {target}: {peer}"));
        }
        if now.0 > successes {
            let pair = (source.to_owned(), target);
            *self.successes.entry(pair.clone()).or_default() += now.0 - successes;
            let now = Instant::now();
            if let Some(last) = self.last.insert(pair.clone(), now) {
                let gap = self.longest.entry(pair).or_default();
                *gap = (*gap).max(now - last);
            }
        }
    }

    /// Watches what `pods` gives until `done` holds, or for as long as `limit`; whether it held.
    pub(crate) fn until(
        &mut self,
        cluster: &Cluster,
        limit: Duration,
        mut pods: impl FnMut() -> Vec<Pod>,
        mut done: impl FnMut(&[Pod]) -> bool,
    ) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let now = pods();
            self.look(cluster, &now);
            if done(&now) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The longest time that a pair was without a success, among those seen twice.
    pub(crate) fn longest_gap(&self) -> Option<(&(String, String), Duration)> {
        self.longest.iter().map(|(pair, gap)| (pair, *gap)).max_by_key(|(_, gap)| *gap)
    }
}
