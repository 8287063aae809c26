//! Which outages a goodbye hides, and for how long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wylis_harness::mesh::{Mesh, now};
use wylis_harness::{http, wait_until};

use super::{FAST, binary};

/// The interval: twice that of [`FAST`], so that a busy machine does not double a gap.
const INTERVAL: Duration = Duration::from_secs(2);
const INTERVAL_SETTING: (&str, &str) = ("WYLIS_INTERVAL", "2s");
/// The threshold of three slots, and the timeout of the last one.
const DETECTION: Duration = Duration::from_secs(3 * 2 + 2);
/// Added for a busy machine.
const SLACK: Duration = Duration::from_secs(4);
/// How long the forger works before a node dies.
const FORGED: Duration = Duration::from_secs(7);

fn forge(address: SocketAddr, from: &str, instance: &str) {
    let headers =
        [("Wylis-Node", from), ("Wylis-Instance", instance), ("Wylis-Goodbye", "86400000")];
    // An agent that was killed does not answer.
    let _ = http::get_with(address, "/keepalive", &headers, http::DEADLINE);
}

/// One host that sends goodbyes in the name of each node to each other one, until dropped.
struct Forger {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

impl Forger {
    fn start(mesh: &Mesh) -> Self {
        let agents: Vec<(String, SocketAddr, String)> = mesh
            .nodes
            .iter()
            .map(|(name, node)| {
                let row = node.agent.peers();
                let instance = row["instance"].as_str().unwrap().to_owned();
                (name.clone(), node.agent.address, instance)
            })
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                for (from, _, instance) in &agents {
                    for (_, address, _) in agents.iter().filter(|(to, ..)| to != from) {
                        forge(*address, from, instance);
                        sent += 1;
                    }
                }
                std::thread::sleep(INTERVAL / 20);
            }
            sent
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops, and returns the number of forged requests.
    fn stop(&mut self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The longest time without a probe of any pair, since `begin`.
fn longest_gap(mesh: &Mesh, begin: f64) -> f64 {
    let mut longest: f64 = 0.0;
    for (source, node) in &mesh.nodes {
        for peer in node.agent.peers()["peers"].as_array().unwrap() {
            let recent = peer["recent"].as_array().unwrap();
            let mut times: Vec<f64> =
                recent.iter().map(|probe| probe["at"].as_f64().unwrap()).collect();
            times.push(unix_now());
            let gaps = times.windows(2).filter(|pair| pair[1] > begin).map(|p| p[1] - p[0]);
            let gap = gaps.fold(0.0, f64::max);
            println!("{source} to {}: {gap:.1} s", peer["node"]);
            longest = longest.max(gap);
        }
    }
    longest
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn forged_goodbyes_of_all_pairs_keep_no_path_cold_and_hide_no_dead_node() {
    let mut mesh = Mesh::of(4, &binary(), &[FAST, &[INTERVAL_SETTING]].concat());
    let mut forger = Forger::start(&mesh);
    let (begun, begin) = (Instant::now(), unix_now());
    wait_until(FORGED * 2, "the forger works for a while", || begun.elapsed() > FORGED);
    let longest = longest_gap(&mesh, begin);
    println!("longest time of a pair without a probe: {longest:.1} s");
    assert!(longest <= 2.0 * INTERVAL.as_secs_f64(), "{longest}\n{}", mesh.logs());
    let failed = mesh.sum("wylis_probe_failures_total", &[]);
    assert_eq!(failed, 0.0, "{}", mesh.logs());
    mesh.kill("n4");
    let died = Instant::now();
    for node in ["n1", "n2", "n3"] {
        mesh.wait_for_verdict(node, "n4", "down");
    }
    let took = died.elapsed();
    println!("a dead node is down after {took:.1?}, with {} forged requests", forger.stop());
    assert!(took < DETECTION + SLACK, "{took:?}");
}

#[test]
fn a_proven_goodbye_is_accepted_at_once_among_forged_ones() {
    // A drain so short that neither the next slot nor a check, which the forger uses up, finds the agent.
    let settings =
        [FAST, &[INTERVAL_SETTING, ("WYLIS_DRAIN", "100ms"), ("WYLIS_REFRESH_INTERVAL", "10s")]];
    let mut mesh = Mesh::of(3, &binary(), &settings.concat());
    let exchanged = |source: &str, target: &str| {
        mesh.agent(source).peer(target)["successes"].as_u64() >= Some(4)
    };
    wait_until(Duration::from_secs(30), "tokens are exchanged in three probes", || {
        ["n1", "n2"].iter().all(|node| exchanged(node, "n3") && exchanged("n3", node))
    });
    let mut forger = Forger::start(&mesh);
    let begun = Instant::now();
    wait_until(FORGED, "the checks of an interval are used up", || begun.elapsed() > INTERVAL);
    mesh.agent("n3").terminate();
    for node in ["n1", "n2"] {
        mesh.wait_for_verdict(node, "n3", "draining");
    }
    assert!(mesh.agent_mut("n3").wait(DETECTION).is_some_and(|status| status.success()));
    mesh.nodes.remove("n3");
    forger.stop();
    assert_eq!(mesh.sum("wylis_probe_failures_total", &[]), 0.0, "{}", mesh.logs());
}

#[test]
fn a_pod_stuck_terminating_on_a_dead_node_stays_visible_as_down() {
    let mut mesh = Mesh::of(3, &binary(), FAST);
    let pod = mesh.kill("n3");
    // The node is dead: its kubelet never confirms the deletion.
    mesh.pods.terminate(&pod, now() - 60);
    mesh.wait_for_verdict("n1", "n3", "down");
    let refreshes = mesh.api.requests();
    wait_until(Duration::from_secs(30), "several more lists", || {
        mesh.api.requests() > refreshes + 6
    });
    assert_eq!(mesh.agent("n1").peer("n3")["verdict"], "down", "{}", mesh.logs());
    assert_eq!(mesh.agent("n1").metrics().get("wylis_peer_up", &["target_node=\"n3\""]), Some(0.0));
    mesh.add("n3");
    mesh.wait_for_verdict("n1", "n3", "up");
}

#[test]
fn a_pod_that_is_being_deleted_is_no_peer_and_is_counted_as_terminating() {
    let mut mesh = Mesh::of(3, &binary(), FAST);
    let pod = mesh.nodes["n3"].pod.clone();
    mesh.pods.terminate(&pod, now() + 600);
    wait_until(Duration::from_secs(20), "n3 leaves", || mesh.agent("n1").peer("n3").is_null());
    let metrics = mesh.agent("n1").metrics();
    assert_eq!(metrics.get("wylis_pods", &["state=\"terminating\""]), Some(1.0));
    assert_eq!(metrics.get("wylis_pods", &["state=\"peer\""]), Some(1.0));
    assert!(metrics.of_node("n3").is_empty(), "{:?}", metrics.of_node("n3"));
    mesh.kill("n3");
    assert_eq!(mesh.agent("n1").metrics().sum("wylis_probe_failures_total", &[]), 0.0);
}
