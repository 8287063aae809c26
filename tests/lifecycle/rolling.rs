//! Restarts and newcomers at default settings.

use std::time::{Duration, Instant};

use wylis_harness::mesh::Mesh;
use wylis_harness::watch::Watch;
use wylis_harness::{manifest, wait_until};

use super::binary;

/// The default interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// The DaemonSet controller goes on this long after a successor is ready; shorter here than the
/// `minReadySeconds` of the manifest, which is to be on the safe side.
const MIN_READY: Duration = Duration::from_secs(7);
/// The mesh that is rolled over.
const NODES: usize = 8;
/// Between two looks at an agent that ends.
const LOOK: Duration = Duration::from_millis(100);
/// Looks are this far apart, and a probe is seen this late at most on a busy machine.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

fn look(watch: &mut Watch, mesh: &Mesh) {
    for node in mesh.nodes.values() {
        watch.see(&node.agent.row_within(Duration::from_secs(2)));
    }
}

fn ready(mesh: &Mesh, node: &str) -> bool {
    mesh.agent(node).get("/readyz").is_some_and(|(status, _)| status == 200)
}

/// Watches until `done`.
fn watch_until(watch: &mut Watch, mesh: &Mesh, what: &str, mut done: impl FnMut(&Mesh) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        look(watch, mesh);
        if done(mesh) {
            return;
        }
        assert!(Instant::now() < deadline, "not within a minute: {what}\n{}", mesh.logs());
        std::thread::sleep(LOOK);
    }
}

/// Rolls these nodes over together, each as soon as its pod is gone. How long that took.
fn restart(mesh: &mut Mesh, watch: &mut Watch, nodes: &[String]) -> Duration {
    let begun = Instant::now();
    nodes.iter().for_each(|node| mesh.begin_delete(node));
    let mut ending = nodes.to_vec();
    while !ending.is_empty() {
        look(watch, mesh);
        ending.retain(|node| {
            let Some(status) = mesh.finish_delete(node, LOOK) else { return true };
            assert!(status.success(), "{node}: {status}\n{}", mesh.logs());
            mesh.add(node);
            false
        });
        assert!(begun.elapsed() < manifest::grace(), "{ending:?} outlive their grace period");
    }
    watch_until(watch, mesh, "the successors are ready", |mesh| {
        nodes.iter().all(|node| ready(mesh, node))
    });
    let took = begun.elapsed();
    let next = Instant::now() + MIN_READY;
    watch_until(watch, mesh, "all pairs are probed", |mesh| {
        Instant::now() > next && mesh.unprobed_pairs().is_empty()
    });
    took
}

/// Rolls a mesh of eight over, so many at a time.
fn roll(at_once: usize) {
    assert!(MIN_READY < manifest::min_ready(), "on the safe side");
    let mut mesh = Mesh::of(NODES, &binary(), &[]);
    let mut watch = Watch::default();
    let mut longest_restart = Duration::ZERO;
    let mut local = 0.0;
    for nodes in mesh.names().chunks(at_once) {
        local += mesh.sum("wylis_local_errors_total", &[]);
        longest_restart = longest_restart.max(restart(&mut mesh, &mut watch, nodes));
    }
    local += mesh.sum("wylis_local_errors_total", &[]);
    let end = Instant::now() + INTERVAL + Duration::from_secs(5);
    watch_until(&mut watch, &mesh, "one more interval", |_| Instant::now() > end);
    let (failures, failed) = (watch.failures, std::mem::take(&mut watch.failed));
    let gaps = watch.gaps();
    assert_eq!(gaps.len(), NODES * (NODES - 1), "every pair was watched");
    let worst = gaps.iter().max_by_key(|(_, gap)| **gap).unwrap();
    println!(
        "rolling restart of {NODES}, {at_once} at a time: {} failed, {local} local, longest restart \
         {longest_restart:.1?}, longest pair unprobed {:.1?} ({} to {})",
        failures, worst.1, worst.0.0, worst.0.1
    );
    assert_eq!(failures, 0, "{failed:#?}\n{}", mesh.logs());
    assert_eq!(local, 0.0);
    let bound = longest_restart + INTERVAL + SEEN_WITHIN;
    assert!(*worst.1 <= bound, "{worst:?} against {bound:?}\n{}", mesh.logs());
}

#[test]
fn a_rolling_restart_of_all_counts_no_failure_and_leaves_no_pair_unprobed() {
    roll(1);
}

#[test]
fn as_many_at_once_as_the_manifest_lets_go_count_no_failure_either() {
    let at_once = manifest::max_unavailable(NODES);
    assert!((2..NODES).contains(&at_once), "{at_once} at a time");
    roll(at_once);
}

#[test]
fn a_newcomer_is_probed_by_all_within_15_s_although_the_refresh_takes_30() {
    let mut mesh = Mesh::of(4, &binary(), &[]);
    let begun = Instant::now();
    mesh.add("n5");
    wait_until(Duration::from_secs(15), "all probe the newcomer", || {
        mesh.unprobed_pairs().is_empty()
    });
    println!("newcomer probed by all after {:.1?}", begun.elapsed());
    assert_eq!(mesh.sum("wylis_probe_failures_total", &[]), 0.0);
}

#[test]
fn a_crashed_container_that_comes_back_in_its_pod_is_probed_again() {
    let mut mesh = Mesh::of(3, &binary(), super::FAST);
    let pod = mesh.kill("n1");
    mesh.wait_for_verdict("n2", "n1", "down");
    mesh.restart_in_place("n1", &pod);
    mesh.wait_for_verdict("n2", "n1", "up");
}
