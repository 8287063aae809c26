//! The control plane away: probing goes on, the metrics say what happened, and it mends by itself.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::watch::Watch;

/// How long the API server stays away.
const AWAY: Duration = Duration::from_secs(120);
/// The same for etcd, whose absence the API server's cache hides at first.
const ETCD_AWAY: Duration = Duration::from_secs(45);
/// The default interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// The longest pause between two attempts, and some.
const RECOVERY: Duration = Duration::from_secs(70);

fn discovery(cluster: &Cluster, pods: &[Pod], name: &str) -> Vec<f64> {
    pods.iter().map(|pod| cluster.metrics(pod).sum(name, &[])).collect()
}

const FAILED: &str = "wylis_discovery_failures_total";
const LAST: &str = "wylis_discovery_last_success_timestamp_seconds";

/// Watches for so long; every pair must be probed at its interval, and none may fail.
fn assert_unmoved(cluster: &Cluster, watch: &mut Watch, pods: &[Pod], time: Duration, what: &str) {
    let begun = Instant::now();
    watch.until(cluster, time, || pods.to_vec(), |_| begun.elapsed() >= time);
    assert_eq!(watch.failures, 0, "{what}: {:#?}", watch.failed);
    let least = watch.successes.values().min().copied().unwrap_or(0);
    let expected = time.as_secs() / INTERVAL.as_secs() - 1;
    println!("{what}, {time:?}: at least {least} probes of each pair, no failure");
    assert_eq!(watch.successes.len(), pods.len() * (pods.len() - 1));
    assert!(least >= expected, "{what}: {:?}", watch.successes);
}

/// Every agent has had a new list; how long that took.
fn assert_recovers(cluster: &Cluster, pods: &[Pod]) -> Duration {
    let (begun, before) = (Instant::now(), discovery(cluster, pods, LAST));
    cluster.wait(RECOVERY, "every agent had a list again", || {
        let now = discovery(cluster, pods, LAST);
        now.iter().zip(&before).all(|(now, before)| now > before)
    });
    begun.elapsed()
}

#[test]
fn probing_never_pauses_while_the_api_server_is_away_not_even_for_a_container_that_restarts() {
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    let before = discovery(&cluster, &pods, FAILED);
    let mut watch = Watch::begin(&cluster, &pods);
    cluster.script(&["stop", "apiserver"]);
    assert_unmoved(&cluster, &mut watch, &pods, AWAY, "API server away");
    let after = discovery(&cluster, &pods, FAILED);
    assert!(
        after.iter().zip(&before).all(|(after, before)| after > before),
        "{before:?} {after:?}"
    );

    // The kubelet starts a container anew without the API server; the kept list says whom to probe.
    let (restarted, others) = pods.split_first().unwrap();
    let counted = |target: &Pod| cluster.peer(restarted, &target.node)["successes"].as_u64();
    let old: Vec<_> = others.iter().map(counted).collect();
    cluster.script(&["kill-agent", &restarted.node]);
    cluster.wait(
        Duration::from_secs(60),
        "the new process probes the peers of the kept list",
        || {
            others
                .iter()
                .zip(&old)
                .all(|(target, old)| counted(target).is_some_and(|new| new > 0 && Some(new) < *old))
        },
    );

    cluster.script(&["start", "apiserver"]);
    let took = assert_recovers(&cluster, &pods);
    println!("API server back: every agent had a list after {took:.1?}");
    let restarts = cluster.json(&["-n", NAMESPACE, "get", "pod", &restarted.name]);
    println!("restarts: {}", restarts["status"]["containerStatuses"][0]["restartCount"]);
}

#[test]
fn probing_never_pauses_while_etcd_is_away() {
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    let mut watch = Watch::begin(&cluster, &pods);
    cluster.script(&["stop", "etcd"]);
    assert_unmoved(&cluster, &mut watch, &pods, ETCD_AWAY, "etcd away");
    cluster.script(&["start", "etcd"]);
    cluster.script(&["start", "apiserver"]);
    let took = assert_recovers(&cluster, &pods);
    println!("etcd back: every agent had a list after {took:.1?}");
}
