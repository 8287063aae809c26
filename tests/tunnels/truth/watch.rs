//! What all agents say of all peers, looked at again and again: nobody may be accused who is not
//! concerned.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde_json::Value;

use super::table::Row;
use crate::cluster::{Cluster, node};

/// A row that comes later than this is not waited for: the agent is frozen or starved.
const ROW_WITHIN: Duration = Duration::from_secs(3);

/// Follows a mesh.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// By process and target: failures by reason at the first look.
    first: HashMap<(u32, u8), BTreeMap<String, u64>>,
    /// The last entry of each pair.
    last: BTreeMap<(u8, u8), Value>,
    /// Nodes that cannot be asked now.
    pub(super) blind: BTreeSet<u8>,
    accusations: BTreeSet<String>,
    pub(super) looks: u32,
}

impl Watch {
    /// Looks at every row once.
    pub(super) fn look(&mut self, cluster: &Cluster, row: &Row) {
        self.looks += 1;
        self.last.clear();
        for source in cluster.pods.keys() {
            if self.blind.contains(source) {
                continue;
            }
            let Some(there) = cluster.mesh.nodes.get(&node(*source)) else { continue };
            let answer = there.agent.row_within(ROW_WITHIN);
            for peer in answer["peers"].as_array().into_iter().flatten() {
                let name = peer["node"].as_str().unwrap_or_default();
                let Some(target) = name.strip_prefix('n').and_then(|n| n.parse().ok()) else {
                    continue;
                };
                self.judge(row, there.agent.pid(), (*source, target), peer);
                self.last.insert((*source, target), peer.clone());
            }
        }
    }

    fn judge(&mut self, row: &Row, pid: u32, (source, target): (u8, u8), peer: &Value) {
        let expected = row.expects(source, target);
        let by_reason = |peer: &Value| {
            let counts = peer["failures_by_reason"].as_object().into_iter().flatten();
            counts.map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(0))).collect()
        };
        let counts: BTreeMap<String, u64> = by_reason(peer);
        let first = self.first.entry((pid, target)).or_insert_with(|| counts.clone());
        for (reason, count) in &counts {
            let before = first.get(reason).copied().unwrap_or(0);
            if *count > before && !expected.allows(reason) {
                self.accusations.insert(format!("n{source} counts {reason} against n{target}"));
            }
        }
        let mut verdict = peer["verdict"].as_str().unwrap_or_default().to_owned();
        if let Some(reason) = peer["reason"].as_str() {
            verdict = format!("{verdict} ({reason})");
        }
        if !expected.permits(&verdict) {
            self.accusations.insert(format!("n{source} finds n{target} {verdict}"));
        }
        if peer["incoming_syns_only"] == true && !expected.permits_incoming_syns_only() {
            self.accusations.insert(format!("n{source} half-hears n{target}"));
        }
    }

    /// Reads what the agents logged of one another: every verdict, also between two looks and while
    /// an agent could not be asked.
    pub(super) fn read_logs(&mut self, cluster: &Cluster, row: &Row) {
        for source in cluster.pods.keys() {
            let Some(there) = cluster.mesh.nodes.get(&node(*source)) else { continue };
            for line in there.agent.log().lines() {
                let Some((target, verdict)) = told(line) else { continue };
                if !row.expects(*source, target).permits(verdict) {
                    self.accusations.insert(format!("n{source} told that n{target} is {verdict}"));
                }
            }
        }
    }

    /// Whether all pairs among `nodes` that can be seen are as `expected` says.
    pub(super) fn all(&self, nodes: &[u8], holds: impl Fn(u8, u8, &Value) -> bool) -> bool {
        let sources = nodes.iter().filter(|source| !self.blind.contains(source));
        sources.into_iter().all(|source| {
            nodes.iter().filter(|target| *target != source).all(|target| {
                let peer = self.last.get(&(*source, *target)).unwrap_or(&Value::Null);
                holds(*source, *target, peer)
            })
        })
    }

    /// The entry of a pair at the last look.
    pub(super) fn peer(&self, source: u8, target: u8) -> &Value {
        self.last.get(&(source, target)).unwrap_or(&Value::Null)
    }

    /// Everything ever said against a pair that was not concerned.
    pub(super) fn accusations(&self) -> &BTreeSet<String> {
        &self.accusations
    }

    /// The verdicts at the last look, for a failing test.
    pub(super) fn tell(&self) -> String {
        let pairs = self.last.iter().map(|((source, target), peer)| {
            let (verdict, reason) = (&peer["verdict"], &peer["reason"]);
            let (half, counts) = (&peer["incoming_syns_only"], &peer["failures_by_reason"]);
            format!(
                "n{source} of n{target}: {verdict} {reason} incoming_syns_only {half} {counts}\n"
            )
        });
        pairs.collect()
    }
}

/// Node and verdict of a line `… peer "n2" is down (refused), was up`.
fn told(line: &str) -> Option<(u8, &str)> {
    let (_, rest) = line.split_once("peer \"n")?;
    let (number, rest) = rest.split_once("\" is ")?;
    let (verdict, _) = rest.split_once(", was ")?;
    Some((number.parse().ok()?, verdict))
}

#[test]
fn a_verdict_is_read_from_the_log() {
    let line = "[2026-01-01T00:00:00Z WARN  wylis::agent] peer \"n2\" is down (refused), was up";
    assert_eq!(told(line), Some((2, "down (refused)")));
    assert_eq!(told("goodbye to the peers that stay (2)"), None);
}
