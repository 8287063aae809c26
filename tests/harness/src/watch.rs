//! Follows the counters of all pairs over the lives of their agents: a counter that starts anew loses
//! nothing that was seen before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The names of a source and a target.
pub type Pair = (String, String);

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Watch {
    /// By the life of an agent and its peer: what it counted at the last look.
    seen: HashMap<(String, String), Counts>,
    /// Failed probes since the watch began.
    pub failures: u64,
    /// What was told of them.
    pub failed: Vec<String>,
    /// Successes since the watch began.
    pub successes: HashMap<Pair, u64>,
    /// When a request last went from one node to the other: answered there, or heard here.
    last_request: HashMap<Pair, Instant>,
    longest: HashMap<Pair, Duration>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    successes: u64,
    failures: u64,
    incoming: u64,
}

impl Watch {
    /// What was counted until now is not this watch's.
    pub fn begin(&mut self) {
        self.failures = 0;
        self.failed.clear();
        self.successes.clear();
    }

    /// Takes in an agent's row, as its JSON page has it; null, of one that does not answer, is nothing.
    ///
    /// # Panics
    /// When a peer lacks what every peer has.
    pub fn see(&mut self, row: &Value) {
        let (Some(life), Some(node)) = (row["instance"].as_str(), row["node"].as_str()) else {
            return;
        };
        for peer in row["peers"].as_array().into_iter().flatten() {
            self.fold(life, node, peer);
        }
    }

    fn fold(&mut self, life: &str, node: &str, peer: &Value) {
        let other = peer["node"].as_str().unwrap().to_owned();
        let count = |field: &str| peer[field].as_u64().unwrap();
        let now = Counts {
            successes: count("successes"),
            failures: count("failures"),
            incoming: count("incoming_requests"),
        };
        let old = self.seen.insert((life.to_owned(), other.clone()), now).unwrap_or_default();
        // A peer that left and came back begins at zero, and so does a process in the same pod.
        let anew = now.successes < old.successes || now.incoming < old.incoming;
        let old = if anew { Counts::default() } else { old };
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

    /// How long each pair was without a request at most, until now.
    #[must_use]
    pub fn gaps(mut self) -> HashMap<Pair, Duration> {
        for pair in self.last_request.clone().into_keys() {
            self.request(pair);
        }
        self.longest
    }
}
