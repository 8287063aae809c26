//! Which outages a goodbye hides, and for how long.

use std::time::{Duration, Instant};

use wylis_harness::mesh::{Mesh, now};
use wylis_harness::{http, wait_until};

use super::{FAST, binary};

/// The drain of [`FAST`], and its refresh with 10 % jitter.
const HIDDEN: Duration = Duration::from_millis(1000 + 2200);
/// Added for a new peer's splay, one probe and a busy machine.
const SLACK: Duration = Duration::from_secs(4);

fn forge(mesh: &Mesh, to: &str, from: &str, instance: &str, drain: &str) {
    let headers = [("Wylis-Node", from), ("Wylis-Instance", instance), ("Wylis-Goodbye", drain)];
    let address = mesh.agent(to).address;
    let answer = http::get_with(address, "/keepalive", &headers, http::DEADLINE).unwrap();
    assert_eq!(answer.status, 204);
}

fn instance(mesh: &Mesh, node: &str) -> String {
    let row = mesh.agent(node).peers();
    row["instance"].as_str().unwrap().to_owned()
}

#[test]
fn a_forged_goodbye_hides_an_outage_for_drain_plus_one_refresh_and_no_longer() {
    let mut mesh = Mesh::of(2, &binary(), FAST);
    let own = instance(&mesh, "n2");
    forge(&mesh, "n1", "n2", "another-instance", "1000");
    assert_eq!(mesh.agent("n1").peer("n2")["verdict"], "up", "an unknown instance");
    let begun = Instant::now();
    mesh.kill("n2");
    forge(&mesh, "n1", "n2", &own, "1000");
    mesh.wait_for_verdict("n1", "n2", "draining");
    wait_until(Duration::from_secs(30), "n2 is counted as failing", || {
        // A repeated goodbye extends nothing.
        forge(&mesh, "n1", "n2", &own, "1000");
        mesh.agent("n1").metrics().sum("wylis_probe_failures_total", &["target_node=\"n2\""]) > 0.0
    });
    let hidden = begun.elapsed();
    assert!(hidden < HIDDEN + SLACK, "{hidden:?}");
    mesh.wait_for_verdict("n1", "n2", "down");
}

#[test]
fn a_host_that_says_goodbye_and_stays_is_probed_again() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let own = instance(&mesh, "n2");
    let begun = Instant::now();
    forge(&mesh, "n1", "n2", &own, "1000");
    mesh.wait_for_verdict("n1", "n2", "draining");
    mesh.wait_for_verdict("n1", "n2", "up");
    let hidden = begun.elapsed();
    assert!(hidden < HIDDEN + SLACK, "{hidden:?}");
    let before = mesh.agent("n1").peer("n2")["successes"].as_u64();
    wait_until(Duration::from_secs(10), "probes continue", || {
        mesh.agent("n1").peer("n2")["successes"].as_u64() > before
    });
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
