//! Rolling restarts and new nodes, at default settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wylis_harness::mesh::Mesh;
use wylis_harness::pair_counters::PairCounters;
use wylis_harness::{manifest, wait_until};

use super::binary;

/// The default interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// The wait after a replacement is ready; shorter than the manifest's `minReadySeconds`, so that a pass
/// leaves a margin.
const MIN_READY: Duration = Duration::from_secs(7);
/// The size of the mesh.
const NODES: usize = 8;
/// The pause between two polls.
const POLL: Duration = Duration::from_millis(100);
/// The longest delay until a probe shows in the counters, on a busy machine.
const OBSERVATION_TIME: Duration = Duration::from_secs(1);

fn record(counters: &mut PairCounters, mesh: &Mesh) {
    for node in mesh.nodes.values() {
        let row = node.agent.peers_within(Duration::from_secs(2));
        for peer in row["peers"].as_array().into_iter().flatten() {
            let verdict = peer["verdict"].as_str().unwrap_or_default();
            let is_usual = matches!(verdict, "up" | "unknown" | "draining");
            assert!(is_usual, "planned work is no fault: {peer}\n{}", mesh.logs());
        }
        counters.record(&row);
    }
}

fn ready(mesh: &Mesh, node: &str) -> bool {
    mesh.agent(node).get("/readyz").is_some_and(|(status, _)| status == 200)
}

/// Records all rows until `done`.
fn record_until(
    counters: &mut PairCounters,
    mesh: &Mesh,
    what: &str,
    mut done: impl FnMut(&Mesh) -> bool,
) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        record(counters, mesh);
        if done(mesh) {
            return;
        }
        assert!(Instant::now() < deadline, "not within a minute: {what}\n{}", mesh.logs());
        std::thread::sleep(POLL);
    }
}

/// Restarts these nodes together, each as soon as its pod is gone. Returns the time until all are ready.
fn restart(mesh: &mut Mesh, counters: &mut PairCounters, nodes: &[String]) -> Duration {
    let begun = Instant::now();
    nodes.iter().for_each(|node| mesh.begin_delete(node));
    let mut ending = nodes.to_vec();
    while !ending.is_empty() {
        record(counters, mesh);
        ending.retain(|node| {
            let Some(status) = mesh.finish_delete(node, POLL) else { return true };
            assert!(status.success(), "{node}: {status}\n{}", mesh.logs());
            mesh.add(node);
            false
        });
        assert!(begun.elapsed() < manifest::grace(), "{ending:?} outlive their grace period");
    }
    record_until(counters, mesh, "the replacements are ready", |mesh| {
        nodes.iter().all(|node| ready(mesh, node))
    });
    let took = begun.elapsed();
    let next = Instant::now() + MIN_READY;
    record_until(counters, mesh, "all pairs are probed", |mesh| {
        Instant::now() > next && mesh.unprobed_pairs().is_empty()
    });
    took
}

/// Restarts a mesh of eight, `at_once` nodes at a time.
fn roll(at_once: usize) {
    assert!(MIN_READY < manifest::min_ready(), "no margin");
    let mut mesh = Mesh::of(NODES, &binary(), &[]);
    let mut counters = PairCounters::default();
    let mut longest_restart = Duration::ZERO;
    let mut local = 0.0;
    for nodes in mesh.names().chunks(at_once) {
        local += mesh.sum("wylis_local_errors_total", &[]);
        longest_restart = longest_restart.max(restart(&mut mesh, &mut counters, nodes));
    }
    local += mesh.sum("wylis_local_errors_total", &[]);
    let end = Instant::now() + INTERVAL + Duration::from_secs(5);
    record_until(&mut counters, &mesh, "one more interval", |_| Instant::now() > end);
    let (failures, failed) = (counters.failures, std::mem::take(&mut counters.failed));
    let gaps = counters.gaps();
    assert_eq!(gaps.len(), NODES * (NODES - 1), "a pair was not recorded");
    let worst = gaps.iter().max_by_key(|(_, gap)| **gap).unwrap();
    println!(
        "rolling restart of {NODES}, {at_once} at a time: {} failed, {local} local, longest restart \
         {longest_restart:.1?}, longest pair unprobed {:.1?} ({} to {})",
        failures, worst.1, worst.0.0, worst.0.1
    );
    assert_eq!(failures, 0, "{failed:#?}\n{}", mesh.logs());
    assert_eq!(local, 0.0);
    let bound = longest_restart + INTERVAL + OBSERVATION_TIME;
    assert!(*worst.1 <= bound, "{worst:?} against {bound:?}\n{}", mesh.logs());
}

#[test]
fn a_rolling_restart_counts_no_failure_and_leaves_no_pair_unprobed() {
    roll(1);
}

#[test]
fn restarting_max_unavailable_nodes_at_once_counts_no_failure() {
    let at_once = manifest::max_unavailable(NODES);
    assert!((2..NODES).contains(&at_once), "{at_once} at a time");
    roll(at_once);
}

/// Two busy threads for each core, until dropped.
struct Load(Arc<AtomicBool>);

impl Load {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..2 * std::thread::available_parallelism().unwrap().get() {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_pod_that_probes_before_its_status_is_known_is_probed_soon() {
    /// The delay of the kubelet's status on a busy node: the container runs before the API server knows.
    const STATUS_DELAY: Duration = Duration::from_secs(3);
    /// From then on: the next list, and the first slot of a new peer.
    const FOUND_WITHIN: Duration = Duration::from_millis(3300 + 2000);
    let mut mesh = Mesh::of(3, &binary(), &[]);
    let mut counters = PairCounters::default();
    let (_load, begun) = (Load::start(), Instant::now());
    mesh.begin_delete("n3");
    while mesh.finish_delete("n3", POLL).is_none() {
        record(&mut counters, &mesh);
    }
    mesh.add("n3");
    let pod = mesh.nodes["n3"].pod.clone();
    let set_phase = |mesh: &Mesh, phase: &str| {
        mesh.pods.edit(&pod, |pod| (pod.phase, pod.ready) = (phase.to_owned(), phase == "Running"));
    };
    set_phase(&mesh, "Pending");
    record_until(&mut counters, &mesh, "the new agent is ready", |mesh| ready(mesh, "n3"));
    let known = Instant::now() + STATUS_DELAY;
    record_until(&mut counters, &mesh, "its status is late", |_| Instant::now() > known);
    set_phase(&mesh, "Running");
    let took = begun.elapsed();
    record_until(&mut counters, &mesh, "the others probe it", |mesh| {
        ["n1", "n2"].iter().all(|node| mesh.agent(node).peer("n3")["verdict"] == "up")
    });
    let gaps = counters.gaps();
    let worst = gaps.iter().max_by_key(|(_, gap)| **gap).unwrap();
    println!("late status: longest pair unprobed {:.1?} ({} to {})", worst.1, worst.0.0, worst.0.1);
    let bound = took + FOUND_WITHIN + OBSERVATION_TIME;
    assert!(*worst.1 <= bound, "{worst:?} against {bound:?}\n{}", mesh.logs());
}

#[test]
fn a_new_node_is_probed_by_all_within_15_s_with_a_refresh_of_30_s() {
    let mut mesh = Mesh::of(4, &binary(), &[]);
    let begun = Instant::now();
    mesh.add("n5");
    wait_until(Duration::from_secs(15), "all probe the new node", || {
        mesh.unprobed_pairs().is_empty()
    });
    println!("new node probed by all after {:.1?}", begun.elapsed());
    assert_eq!(mesh.sum("wylis_probe_failures_total", &[]), 0.0);
}

#[test]
fn a_container_restarted_in_its_pod_is_probed_again() {
    let mut mesh = Mesh::of(3, &binary(), super::FAST);
    let pod = mesh.kill("n1");
    mesh.wait_for_verdict("n2", "n1", "down");
    mesh.restart_in_place("n1", &pod);
    mesh.wait_for_verdict("n2", "n1", "up");
}
