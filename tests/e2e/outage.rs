//! Outages of the control plane: probing continues, the metrics show the outage, and agents recover.

use std::time::{Duration, Instant};

use wylis_harness::pair_counters::PairCounters;

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::observe;

/// The outage of the API server.
const AWAY: Duration = Duration::from_secs(120);
/// The outage of etcd, which the API server's cache hides at first.
const ETCD_AWAY: Duration = Duration::from_secs(45);
/// The default interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// The refresh interval with its jitter.
pub(crate) const REFRESH: Duration = Duration::from_secs(33);
/// The time of an answer and a poll on a busy machine.
pub(crate) const SLACK: Duration = Duration::from_secs(5);

pub(crate) fn discovery(cluster: &Cluster, pods: &[Pod], name: &str) -> Vec<f64> {
    pods.iter().map(|pod| cluster.metrics(pod).sum(name, &[])).collect()
}

pub(crate) const FAILED: &str = "wylis_discovery_failures_total";
const LAST: &str = "wylis_discovery_last_success_timestamp_seconds";

/// Records for `time`. Every pair must be probed at its interval without a failure.
pub(crate) fn assert_unaffected(
    cluster: &Cluster,
    counters: &mut PairCounters,
    pods: &[Pod],
    time: Duration,
    what: &str,
) {
    let begun = Instant::now();
    observe::until(counters, cluster, time, || pods.to_vec(), |_| begun.elapsed() >= time);
    assert_eq!(counters.failures, 0, "{what}: {:#?}", counters.failed);
    let least = counters.successes.values().min().copied().unwrap_or(0);
    let expected = time.as_secs() / INTERVAL.as_secs() - 1;
    println!("{what}, {time:?}: at least {least} probes of each pair, no failure");
    assert_eq!(counters.successes.len(), pods.len() * (pods.len() - 1));
    assert!(least >= expected, "{what}: {:?}", counters.successes);
}

/// The longest back-off after the failures since `before`: each doubles it.
fn backoff(cluster: &Cluster, pods: &[Pod], before: &[f64]) -> Duration {
    let now = discovery(cluster, pods, FAILED);
    // A restarted process counts from zero.
    let since = |(now, before): (&f64, &f64)| if now < before { *now } else { now - before };
    let most = now.iter().zip(before).map(since).fold(1.0, f64::max);
    Duration::from_secs_f64((most - 1.0).exp2().min(60.0))
}

/// Calls `mend`, and asserts a new list of every agent within one pause: the back-off after its failures
/// since `before`, or `least`.
pub(crate) fn assert_recovers(
    cluster: &Cluster,
    pods: &[Pod],
    before: &[f64],
    least: Duration,
    what: &str,
    mend: impl FnOnce(),
) {
    // Some agents have a list before `mend` returns.
    let lists = discovery(cluster, pods, LAST);
    mend();
    let (begun, pause) = (Instant::now(), backoff(cluster, pods, before).max(least));
    cluster.wait(pause + SLACK, "every agent has a new list", || {
        let now = discovery(cluster, pods, LAST);
        now.iter().zip(&lists).all(|(now, before)| now > before)
    });
    println!("{what}: every agent had a list after {:.1?} of at most {pause:?}", begun.elapsed());
}

fn restarts(cluster: &Cluster, pod: &Pod) -> u64 {
    let pod = cluster.json(&["-n", NAMESPACE, "get", "pod", &pod.name]);
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().expect("a container")
}

#[test]
fn probing_never_pauses_without_the_api_server_even_for_a_restarted_container() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let before_restart = restarts(&cluster, &pods[0]);
    let before = discovery(&cluster, &pods, FAILED);
    let mut counters = observe::begin(&cluster, &pods);
    cluster.script(&["stop", "apiserver"]);
    assert_unaffected(&cluster, &mut counters, &pods, AWAY, "API server away");
    let after = discovery(&cluster, &pods, FAILED);
    assert!(
        after.iter().zip(&before).all(|(after, before)| after > before),
        "{before:?} {after:?}"
    );

    // The kubelet restarts a container without the API server, in the same pod. The new process gets its
    // peers from the cache.
    let (restarted, others) = pods.split_first().unwrap();
    let counted = |target: &Pod| cluster.peer(restarted, &target.node)["successes"].as_u64();
    let old: Vec<_> = others.iter().map(counted).collect();
    cluster.script(&["kill-agent", &restarted.node]);
    cluster.wait(Duration::from_secs(60), "the new process probes the cached peers", || {
        others
            .iter()
            .zip(&old)
            .all(|(target, old)| counted(target).is_some_and(|new| new > 0 && Some(new) < *old))
    });

    let lists = "wylis_discovery_refreshes_total";
    let lists = cluster.metrics(restarted).sum(lists, &["result=\"success\""]);
    assert!(lists == 0.0, "the new process received {lists} lists");
    cluster.attempt(&["get", "--raw", "/readyz"]).expect_err("the API server answers");

    assert_recovers(&cluster, &pods, &before, Duration::ZERO, "API server back", || {
        cluster.script(&["start", "apiserver"]);
    });
    cluster.wait(REFRESH, "the kubelet reports the restart", || {
        restarts(&cluster, restarted) == before_restart + 1
    });
}

#[test]
fn probing_never_pauses_while_etcd_is_away() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let before = discovery(&cluster, &pods, FAILED);
    let mut counters = observe::begin(&cluster, &pods);
    cluster.script(&["stop", "etcd"]);
    assert_unaffected(&cluster, &mut counters, &pods, ETCD_AWAY, "etcd away");
    cluster.script(&["start", "etcd"]);
    cluster.script(&["start", "apiserver"]);
    // Agents that the cache answered throughout get a newer list at their next refresh.
    assert_recovers(&cluster, &pods, &before, REFRESH, "etcd back", || ());
}
