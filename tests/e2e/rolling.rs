//! A rolling update of every agent, at default settings.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::observe;

/// The limit for one node: a drain, a start and `minReadySeconds`; a small cluster updates one at a time.
const PER_NODE: Duration = Duration::from_secs(60);
/// More than the default interval, so that the last failure is counted.
const AFTERWARDS: Duration = Duration::from_secs(15);

#[test]
fn a_rolling_update_of_every_agent_counts_no_failed_probe() {
    let Some(cluster) = Cluster::find() else { return };
    let before = cluster.with_agents();
    let nodes = u32::try_from(before.len()).unwrap();
    let image = std::env::var("WYLIS_NEXT_IMAGE").unwrap_or_else(|_| "wylis:next".to_owned());
    let mut counters = observe::begin(&cluster, &before);
    let begun = Instant::now();
    cluster.kubectl(&[
        "-n",
        NAMESPACE,
        "set",
        "image",
        "daemonset/wylis",
        &format!("wylis={image}"),
    ]);
    let mut settled_at = None;
    let done = observe::until(
        &mut counters,
        &cluster,
        PER_NODE * nodes + AFTERWARDS,
        || cluster.pods(),
        |pods| {
            let new = |pod: &&Pod| before.iter().all(|old| old.uid != pod.uid);
            let all = pods.iter().filter(new).filter(|pod| pod.ready).count() == before.len();
            if all && pods.len() == before.len() {
                settled_at.get_or_insert_with(Instant::now);
            }
            settled_at.is_some_and(|at| at.elapsed() > AFTERWARDS)
        },
    );
    assert!(done, "the update does not end");
    let took = settled_at.unwrap() - begun;
    let probes: u64 = counters.successes.values().sum();
    let (failures, failed) = (counters.failures, std::mem::take(&mut counters.failed));
    let gaps = counters.gaps();
    let (pair, longest) = gaps.iter().max_by_key(|(_, gap)| **gap).unwrap();
    println!(
        "rolling update of {nodes} agents in {took:.0?}: {probes} probes succeeded, {failures} failed, \
         longest pair without a request: {longest:.1?} ({} to {})",
        pair.0, pair.1
    );
    assert_eq!(failures, 0, "{failed:#?}");
    for pod in cluster.pods() {
        let metrics = cluster.metrics(&pod);
        assert_eq!(metrics.sum("wylis_local_errors_total", &[]), 0.0, "{}", pod.node);
        assert_eq!(metrics.count("wylis_peer_up", &[]), before.len() - 1, "{}", pod.node);
    }
}
