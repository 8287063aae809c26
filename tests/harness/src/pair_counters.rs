//! Sums the counters of all pairs across restarts of their agents, which reset the agents' counters.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The names of a source and a target.
pub type Pair = (String, String);

/// The sums so far.
#[derive(Debug, Default)]
pub struct PairCounters {
    /// For each agent instance and peer: the counters in the last row.
    last: HashMap<(String, String), Counts>,
    /// Failed probes since the last reset.
    pub failures: u64,
    /// The peer's entry for each failure.
    pub failed: Vec<String>,
    /// Successes since the last reset.
    pub successes: HashMap<Pair, u64>,
    /// The time of the last request of each pair, counted by either end.
    last_request: HashMap<Pair, Instant>,
    longest: HashMap<Pair, Duration>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    successes: u64,
    failures: u64,
    incoming: u64,
}

impl PairCounters {
    /// Sets failures and successes to zero.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.failed.clear();
        self.successes.clear();
    }

    /// Records an agent's row. Null, for an agent that does not answer, changes nothing.
    ///
    /// # Panics
    /// When a peer's entry lacks a counter.
    pub fn record(&mut self, row: &Value) {
        let (Some(instance), Some(node)) = (row["instance"].as_str(), row["node"].as_str()) else {
            return;
        };
        for peer in row["peers"].as_array().into_iter().flatten() {
            self.add(instance, node, peer);
        }
    }

    fn add(&mut self, instance: &str, node: &str, peer: &Value) {
        let other = peer["node"].as_str().unwrap().to_owned();
        let count = |field: &str| peer[field].as_u64().unwrap();
        let now = Counts {
            successes: count("successes"),
            failures: count("failures"),
            incoming: count("incoming_requests"),
        };
        let old = self.last.insert((instance.to_owned(), other.clone()), now).unwrap_or_default();
        // A peer that left and returned starts at zero, and so does a new process in the same pod.
        let restarted = now.successes < old.successes || now.incoming < old.incoming;
        let old = if restarted { Counts::default() } else { old };
        if now.failures > old.failures {
            self.failures += now.failures - old.failures;
            self.failed.push(format!("{node} to {other}: {peer}"));
        }
        if now.successes > old.successes {
            let pair = (node.to_owned(), other.clone());
            *self.successes.entry(pair.clone()).or_default() += now.successes - old.successes;
            self.request(pair);
        }
        if now.incoming > old.incoming {
            self.request((other, node.to_owned()));
        }
    }

    fn request(&mut self, pair: Pair) {
        let now = Instant::now();
        if let Some(last) = self.last_request.insert(pair.clone(), now) {
            let gap = self.longest.entry(pair).or_default();
            *gap = (*gap).max(now - last);
        }
    }

    /// The longest time of each pair without a request, until now.
    #[must_use]
    pub fn gaps(mut self) -> HashMap<Pair, Duration> {
        for pair in self.last_request.clone().into_keys() {
            self.request(pair);
        }
        self.longest
    }
}
