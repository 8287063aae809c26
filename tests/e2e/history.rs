//! What is remembered of a fault that is over.

use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, Pod};
use crate::experiments::{Rule, wylis};

/// Many times what a verdict needs.
const PATIENCE: Duration = Duration::from_secs(180);

/// The begin of what an agent says of a pair that is down: what follows is known later.
fn said(cluster: &Cluster, of: &Pod) -> Option<String> {
    let text = cluster.page(of, "/api/v1/cluster")?;
    let matrix: Value = serde_json::from_str(&text).ok()?;
    let mut texts =
        matrix["findings"].as_array()?.iter().filter_map(|found| found["text"].as_str());
    let down = texts.find(|text| text.contains(" ↔ ") && text.contains(": down ("))?;
    down.split(';').next().map(str::to_owned)
}

#[test]
fn a_fault_that_is_over_is_shown_by_a_third_node() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let [one, other, third, ..] = &pods[..] else { panic!("three nodes: {pods:?}") };
    let matching = format!("ip saddr {{ {0}, {1} }} ip daddr {{ {0}, {1} }}", one.ip, other.ip);
    let rule = Rule::put(&cluster, &one.node, &matching);
    let mut found = None;
    cluster.wait(PATIENCE, "the third node says that the pair is down", || {
        found = said(&cluster, third);
        found.is_some()
    });
    let found = found.unwrap();
    drop(rule);
    let up = |source: &Pod, target: &Pod| cluster.peer(source, &target.node)["verdict"] == "up";
    cluster.wait(PATIENCE, "the pair is up", || up(one, other) && up(other, one));
    cluster.wait(PATIENCE, "it is said no longer", || said(&cluster, third).is_none());
    let shown = wylis(&cluster, third, &["history", "--since", "1h", "--node", &one.node]);
    println!("{shown}");
    assert!(shown.lines().any(|line| line.contains(&found)), "{found}: {shown}");
}
