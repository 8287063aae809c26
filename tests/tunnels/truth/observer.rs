//! Reads the verdicts and counters of all agents on all peers, and collects false alarms.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde_json::Value;

use super::expect::verdict_of;
use super::table::Case;
use crate::mesh::{TunnelMesh, node};

/// The limit for one row: a frozen or starved agent must not delay the others.
const ROW_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Observer {
    /// For each process and target: failures by reason at the first observation.
    first: HashMap<(u32, u8), BTreeMap<String, u64>>,
    /// Each pair's entry at the last observation.
    last: BTreeMap<(u8, u8), Value>,
    /// Pairs whose entry was once as expected since the fault began.
    met: BTreeSet<(u8, u8)>,
    /// Nodes whose agent cannot answer now.
    pub(super) unasked: BTreeSet<u8>,
    false_alarms: BTreeSet<String>,
    pub(super) observations: u32,
}

impl Observer {
    /// Reads every row once.
    pub(super) fn observe(&mut self, mesh: &TunnelMesh, case: &Case) {
        self.observations += 1;
        self.last.clear();
        for source in mesh.pods.keys() {
            if self.unasked.contains(source) {
                continue;
            }
            let Some(node) = mesh.agents.nodes.get(&node(*source)) else { continue };
            let answer = node.agent.peers_within(ROW_WITHIN);
            for peer in answer["peers"].as_array().into_iter().flatten() {
                let name = peer["node"].as_str().unwrap_or_default();
                let Some(target) = name.strip_prefix('n').and_then(|n| n.parse().ok()) else {
                    continue;
                };
                self.judge(case, node.agent.pid(), (*source, target), peer);
                self.last.insert((*source, target), peer.clone());
            }
        }
    }

    fn judge(&mut self, case: &Case, pid: u32, (source, target): (u8, u8), peer: &Value) {
        let expected = case.expects(source, target);
        let by_reason = |peer: &Value| {
            let counts = peer["failures_by_reason"].as_object().into_iter().flatten();
            counts.map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(0))).collect()
        };
        let counts: BTreeMap<String, u64> = by_reason(peer);
        let first = self.first.entry((pid, target)).or_insert_with(|| counts.clone());
        for (reason, count) in &counts {
            let before = first.get(reason).copied().unwrap_or(0);
            if *count > before && !expected.allows(reason) {
                self.false_alarms.insert(format!("n{source} counts {reason} against n{target}"));
            }
        }
        let verdict = verdict_of(peer);
        if !expected.permits(&verdict) {
            self.false_alarms.insert(format!("n{source}: verdict on n{target} is {verdict}"));
        }
        let incoming = &peer["incoming"];
        if !expected.permits_incoming(incoming) {
            self.false_alarms.insert(format!("n{source}: incoming from n{target}: {incoming}"));
        }
        if expected.holds(peer) {
            self.met.insert((source, target));
        }
    }

    /// Forgets which expectations were met before the fault.
    pub(super) fn begin(&mut self) {
        self.met.clear();
    }

    /// Whether the pair's entry was once as expected.
    pub(super) fn has_met(&self, source: u8, target: u8) -> bool {
        self.met.contains(&(source, target))
    }

    /// Reads every verdict in the agents' logs, also those between two observations.
    pub(super) fn read_logs(&mut self, mesh: &TunnelMesh, case: &Case) {
        for source in mesh.pods.keys() {
            let Some(node) = mesh.agents.nodes.get(&node(*source)) else { continue };
            for line in node.agent.log().lines() {
                let Some((target, verdict)) = logged_verdict(line) else { continue };
                if !case.expects(*source, target).permits(&without_share(verdict)) {
                    self.false_alarms
                        .insert(format!("n{source} logged that n{target} is {verdict}"));
                }
            }
        }
    }

    /// Whether all observed pairs among `nodes` satisfy `holds`.
    pub(super) fn all(&self, nodes: &[u8], holds: impl Fn(u8, u8, &Value) -> bool) -> bool {
        let sources = nodes.iter().filter(|source| !self.unasked.contains(source));
        sources.into_iter().all(|source| {
            nodes.iter().filter(|target| *target != source).all(|target| {
                let peer = self.last.get(&(*source, *target)).unwrap_or(&Value::Null);
                holds(*source, *target, peer)
            })
        })
    }

    /// A pair's entry at the last observation.
    pub(super) fn peer(&self, source: u8, target: u8) -> &Value {
        self.last.get(&(source, target)).unwrap_or(&Value::Null)
    }

    /// All verdicts and counted failures that the case does not permit.
    pub(super) fn false_alarms(&self) -> &BTreeSet<String> {
        &self.false_alarms
    }

    /// The verdicts at the last observation, for a failing test.
    pub(super) fn summary(&self) -> String {
        let pairs = self.last.iter().map(|((source, target), peer)| {
            let (verdict, counts) = (verdict_of(peer), &peer["failures_by_reason"]);
            let (incoming, rtt) = (&peer["incoming"], &peer["rtt_seconds"]);
            let (lost, lost_in) = (&peer["retransmits_per_probe"], &peer["incoming_retransmits"]);
            format!(
                "n{source} on n{target}: {verdict}, incoming {incoming}, failures {counts}, rtt {rtt} \
                 aged {}, retransmits {lost} out {lost_in} in\n",
                peer["rtt_age_seconds"]
            )
        });
        pairs.collect()
    }
}

/// Node and verdict of a log line `… peer "n2" is down (refused), was up`.
fn logged_verdict(line: &str) -> Option<(u8, &str)> {
    let (_, rest) = line.split_once("peer \"n")?;
    let (number, rest) = rest.split_once("\" is ")?;
    let (verdict, _) = rest.split_once(", was ")?;
    Some((number.parse().ok()?, verdict))
}

/// `flaky (refused, 11 of 20)` without the share, as in the JSON.
fn without_share(verdict: &str) -> String {
    match verdict.split_once(", ") {
        Some((words, _)) if words.contains('(') => format!("{words})"),
        _ => verdict.to_owned(),
    }
}

#[test]
fn a_verdict_is_read_from_the_log() {
    let line = "[2026-01-01T00:00:00Z WARN  wylis::agent] peer \"n2\" is down (refused), was up";
    assert_eq!(logged_verdict(line), Some((2, "down (refused)")));
    assert_eq!(logged_verdict("goodbye to the peers that stay (2)"), None);
    assert_eq!(without_share("flaky (refused, 11 of 20)"), "flaky (refused)");
    assert_eq!(without_share("down (refused)"), "down (refused)");
}
