//! A new image for every agent, at default settings.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::watch::Watch;

/// Each node takes a drain, a start and `minReadySeconds`; one at a time in a small cluster.
const PER_NODE: Duration = Duration::from_secs(60);
/// The default interval and some: what failed last is counted by then.
const AFTERWARDS: Duration = Duration::from_secs(15);

#[test]
fn a_rolling_update_of_every_agent_counts_no_failed_probe() {
    let Some(cluster) = Cluster::find() else { return };
    let before = cluster.with_agents();
    let nodes = u32::try_from(before.len()).unwrap();
    let image = std::env::var("WYLIS_NEXT_IMAGE").unwrap_or_else(|_| "wylis:next".to_owned());
    let mut watch = Watch::begin(&cluster, &before);
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
    let done = watch.until(
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
    let gap = watch.longest_gap().map(|(pair, gap)| format!("{pair:?} {gap:.1?}"));
    let probes: u64 = watch.successes.values().sum();
    println!(
        "rolling update of {nodes} agents in {took:.0?}: {probes} probes succeeded, {} failed, \
         longest pair without one: {gap:?}",
        watch.failures
    );
    assert_eq!(watch.failures, 0, "{:#?}", watch.failed);
    for pod in cluster.pods() {
        let metrics = cluster.metrics(&pod);
        assert_eq!(metrics.sum("wylis_local_errors_total", &[]), 0.0, "{}", pod.node);
        assert_eq!(metrics.count("wylis_peer_up", &[]), before.len() - 1, "{}", pod.node);
    }
}
