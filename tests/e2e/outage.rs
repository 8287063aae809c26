//! The control plane away: probing goes on, the metrics say what happened, and it mends by itself.

use std::time::{Duration, Instant};

use wylis_harness::watch::Watch;

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::watch;

/// How long the API server stays away.
const AWAY: Duration = Duration::from_secs(120);
/// The same for etcd, whose absence the API server's cache hides at first.
const ETCD_AWAY: Duration = Duration::from_secs(45);
/// The default interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// The regular spacing of the lists with its jitter.
pub(crate) const REFRESH: Duration = Duration::from_secs(33);
/// What an answer and a look take on a busy machine.
pub(crate) const SLACK: Duration = Duration::from_secs(5);

pub(crate) fn discovery(cluster: &Cluster, pods: &[Pod], name: &str) -> Vec<f64> {
    pods.iter().map(|pod| cluster.metrics(pod).sum(name, &[])).collect()
}

pub(crate) const FAILED: &str = "wylis_discovery_failures_total";
const LAST: &str = "wylis_discovery_last_success_timestamp_seconds";

/// Watches for so long; every pair must be probed at its interval, and none may fail.
pub(crate) fn assert_unmoved(
    cluster: &Cluster,
    watch: &mut Watch,
    pods: &[Pod],
    time: Duration,
    what: &str,
) {
    let begun = Instant::now();
    watch::until(watch, cluster, time, || pods.to_vec(), |_| begun.elapsed() >= time);
    assert_eq!(watch.failures, 0, "{what}: {:#?}", watch.failed);
    let least = watch.successes.values().min().copied().unwrap_or(0);
    let expected = time.as_secs() / INTERVAL.as_secs() - 1;
    println!("{what}, {time:?}: at least {least} probes of each pair, no failure");
    assert_eq!(watch.successes.len(), pods.len() * (pods.len() - 1));
    assert!(least >= expected, "{what}: {:?}", watch.successes);
}

/// The longest pause that the failures since `before` have led to: each doubles it.
fn backoff(cluster: &Cluster, pods: &[Pod], before: &[f64]) -> Duration {
    let now = discovery(cluster, pods, FAILED);
    // A process that was started anew counts from zero.
    let since = |(now, before): (&f64, &f64)| if now < before { *now } else { now - before };
    let most = now.iter().zip(before).map(since).fold(1.0, f64::max);
    Duration::from_secs_f64((most - 1.0).exp2().min(60.0))
}

/// Mends what was broken, after which every agent has a new list within one pause: the one that its
/// failures since `before` have led to, or `least`.
pub(crate) fn assert_recovers(
    cluster: &Cluster,
    pods: &[Pod],
    before: &[f64],
    least: Duration,
    what: &str,
    mend: impl FnOnce(),
) {
    // Some may have theirs before the mending is seen to be done.
    let lists = discovery(cluster, pods, LAST);
    mend();
    let (begun, pause) = (Instant::now(), backoff(cluster, pods, before).max(least));
    cluster.wait(pause + SLACK, "every agent had a list again", || {
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
fn probing_never_pauses_while_the_api_server_is_away_not_even_for_a_container_that_restarts() {
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    let before_restart = restarts(&cluster, &pods[0]);
    let before = discovery(&cluster, &pods, FAILED);
    let mut watch = watch::begin(&cluster, &pods);
    cluster.script(&["stop", "apiserver"]);
    assert_unmoved(&cluster, &mut watch, &pods, AWAY, "API server away");
    let after = discovery(&cluster, &pods, FAILED);
    assert!(
        after.iter().zip(&before).all(|(after, before)| after > before),
        "{before:?} {after:?}"
    );

    // The kubelet starts a container anew without the API server, in the same pod. The list that the
    // process before has kept says whom to probe, since no other can be had.
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

    let lists = "wylis_discovery_refreshes_total";
    let lists = cluster.metrics(restarted).sum(lists, &["result=\"success\""]);
    assert!(lists == 0.0, "the new process has had {lists} lists");
    cluster.attempt(&["get", "--raw", "/readyz"]).expect_err("the API server was there");

    assert_recovers(&cluster, &pods, &before, Duration::ZERO, "API server back", || {
        cluster.script(&["start", "apiserver"]);
    });
    cluster.wait(REFRESH, "the kubelet has told of the restart", || {
        restarts(&cluster, restarted) == before_restart + 1
    });
}

#[test]
fn probing_never_pauses_while_etcd_is_away() {
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    let before = discovery(&cluster, &pods, FAILED);
    let mut watch = watch::begin(&cluster, &pods);
    cluster.script(&["stop", "etcd"]);
    assert_unmoved(&cluster, &mut watch, &pods, ETCD_AWAY, "etcd away");
    cluster.script(&["start", "etcd"]);
    cluster.script(&["start", "apiserver"]);
    // Those that the cache has answered all the time must have one from after it, at their usual time.
    assert_recovers(&cluster, &pods, &before, REFRESH, "etcd back", || ());
}
