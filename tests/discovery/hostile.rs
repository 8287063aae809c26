//! An API server that sends what would fill the memory: the agent refuses it, names the bound, keeps its
//! peers and goes on probing.

use std::path::PathBuf;

use serde_json::Value;
use wylis_harness::api::{Behaviour, DAEMON_SET_UID, LABEL, NAMESPACE, TestPod};
use wylis_harness::bounds::worst_case;
use wylis_harness::fake_peers::FakePeers;
use wylis_harness::mesh::Mesh;
use wylis_harness::process::Agent;
use wylis_harness::wait_until;

use crate::fixture::PATIENCE;

/// The most that a hostile list may add to the memory of an agent, which uses 3 MiB: the pod has 32 MiB,
/// and half of it stays free.
const MAX_LIST_MEMORY: u64 = 10 << 20;
/// The same for the largest mesh: 5,000 peers with the longest names.
const MAX_MESH_MEMORY: u64 = 15 << 20;
/// A body longer than the pod's memory.
const LONG: usize = 60 << 20;

/// The agent under test.
fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}

/// A body of some bytes: one piece over and over.
fn repeated(begin: &str, piece: &str, bytes: usize, end: &str) -> Behaviour {
    let times = bytes / piece.len();
    Behaviour::Repeated(begin.to_owned(), piece.to_owned(), times, end.to_owned())
}

/// A pod with the longest names, as the list has it.
fn pod(number: usize, ips: &str) -> String {
    let node = format!("{number:0253}");
    format!(
        r#"{{"metadata":{{"name":"{node}","uid":"{number:063}","creationTimestamp":"2026-01-01T00:00:00Z",
        "ownerReferences":[{{"uid":"{DAEMON_SET_UID}-{}","controller":true}}]}},
        "spec":{{"nodeName":"{node}"}},"status":{{"phase":"Running","podIPs":[{ips}]}}}}"#,
        number % 2
    )
}

/// As many pods as a list may have, each on a node of its own.
fn largest() -> Behaviour {
    let ips = [1, 2, 3, 4, 5, 6].map(|last| format!(r#"{{"ip":"fd00::{last}"}}"#)).join(",");
    let pods: Vec<String> = (0..10_000).map(|number| pod(number, &ips)).collect();
    Behaviour::Body(format!(r#"{{"kind":"PodList","items":[{}]}}"#, pods.join(",")))
}

const LIST: &str = r#"{"kind":"PodList","items":["#;
const NAME: &str = r#"{"kind":"PodList","items":[{"metadata":{"name":""#;

/// What the server sends, and the reason that the agent counts.
fn cases() -> Vec<(&'static str, Behaviour, &'static str)> {
    let ip = r#"{"ip":"10.0.0.1"},"#;
    let ips = r#"{"kind":"PodList","items":[{"status":{"podIPs":["#;
    let many = format!("{},", pod(1, r#"{"ip":"10.0.0.1"},{"ip":"fd00::1"}"#));
    vec![
        ("one string", repeated(NAME, "x", LONG, "\"}}]}"), "too_large"),
        ("one string of escapes", repeated(NAME, "\\u0000", LONG, "\"}}]}"), "too_large"),
        ("one key", repeated("{\"", "x", LONG, "\":1}"), "too_large"),
        ("one key of a pod", repeated(r#"{"items":[{""#, "x", LONG, "\":1}]}"), "too_large"),
        ("a skipped string", repeated("{\"x\":\"", "x", LONG, "\"}"), "too_large"),
        ("brackets", repeated("", "[", LONG / 2, ""), "bad_body"),
        ("skipped brackets", repeated("{\"x\":", "[", LONG / 2, ""), "too_large"),
        ("objects in objects", repeated("{\"x\":", "{\"a\":", LONG / 2, ""), "too_large"),
        ("skipped digits", repeated("{\"x\":", "1", LONG / 64, "}"), "bad_body"),
        ("digits", repeated(r#"{"kind":"#, "1", LONG / 64, "}"), "bad_body"),
        ("addresses", repeated(ips, ip, LONG / 32, r#"{"ip":"10.0.0.2"}]}}]}"#), "without_self"),
        ("pods", repeated(LIST, &many, LONG, "0]}"), "too_large"),
        ("pods that are malformed", repeated(LIST, "0,", LONG, "0]}"), "too_large"),
        ("the largest list", largest(), "without_self"),
    ]
}

/// An agent with one peer that answers, and an API server for itself.
struct Case {
    what: &'static str,
    behaviour: Behaviour,
    reason: String,
    mesh: Mesh,
}

impl Case {
    fn agent(&self) -> &Agent {
        self.mesh.agent("me")
    }

    fn successes(&self) -> f64 {
        self.agent().metrics().sum("wylis_probes_total", &["result=\"success\""])
    }

    fn failures(&self) -> f64 {
        self.agent().metrics().sum("wylis_discovery_failures_total", &[&self.reason])
    }
}

#[test]
fn no_list_fills_the_memory() {
    let peers = FakePeers::start(1, 62);
    let (node, ip) = &peers.nodes()[0];
    let port = peers.port.to_string();
    let environment =
        [("WYLIS_PEER_PORT", port.as_str()), ("WYLIS_INTERVAL", "1s"), ("WYLIS_TIMEOUT", "5s")];
    let start = |(what, behaviour, reason): (&'static str, Behaviour, &str)| {
        let mut mesh = Mesh::new(&binary(), &environment);
        mesh.pods.put(TestPod::new("wylis-peer", node, &ip.to_string()));
        mesh.add_with("me", &[("WYLIS_REFRESH_INTERVAL", "1s")]);
        Case { what, behaviour, reason: format!("reason=\"{reason}\""), mesh }
    };
    let cases: Vec<Case> = cases().into_iter().map(start).collect();
    for Case { what, behaviour, mesh, .. } in &cases {
        let agent = mesh.agent("me");
        wait_until(PATIENCE, what, || !agent.peer(node)["last_success"].is_null());
        // From here on the peak counts.
        std::fs::write(format!("/proc/{}/clear_refs", agent.pid()), "5").unwrap();
        mesh.api.always(behaviour.clone());
    }
    let before: Vec<u64> = cases.iter().map(|case| case.agent().status("VmRSS")).collect();
    for case in &cases {
        wait_until(PATIENCE, case.what, || case.failures() > 0.0);
    }
    let seen: Vec<f64> = cases.iter().map(Case::successes).collect();
    let mut worst = 0;
    for ((case, before), seen) in cases.iter().zip(before).zip(seen) {
        wait_until(PATIENCE, case.what, || case.successes() > seen);
        assert!(!case.agent().peer(node).is_null(), "{}: the peers stay", case.what);
        let added = case.agent().status("VmHWM").saturating_sub(before);
        println!("{}: {before} kB before, {added} kB more at the peak", case.what);
        worst = worst.max(added * 1024);
    }
    assert!(worst <= MAX_LIST_MEMORY, "{worst} bytes");
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let worst = worst as f64;
    assert!(worst <= worst_case("MAX_LIST_MEMORY"), "{worst} bytes");
}

#[test]
fn the_largest_list_that_is_accepted_fits() {
    let mut mesh = Mesh::new(&binary(), &[("WYLIS_INTERVAL", "10s"), ("WYLIS_TIMEOUT", "1s")]);
    mesh.add_with("me", &[("WYLIS_REFRESH_INTERVAL", "1s")]);
    let agent = mesh.agent("me");
    wait_until(PATIENCE, "the first list", || agent.log().contains("peers: 0"));
    let before = agent.status("VmRSS");
    let selector = format!("{}={}", LABEL.0, LABEL.1);
    let own: Value = serde_json::from_str(&mesh.pods.list(NAMESPACE, &selector).body).unwrap();
    let mut own = own["items"][0].clone();
    own["metadata"]["ownerReferences"][0]["uid"] = format!("{DAEMON_SET_UID}-0").into();
    // Two pods on each node, which nothing answers.
    let ips = r#"{"ip":"127.62.62.62"},{"ip":"fd00::1"}"#;
    let mut pods: Vec<String> = (0..9_999).map(|number| pod(number % 5_000 * 2, ips)).collect();
    pods.push(own.to_string());
    mesh.api
        .always(Behaviour::Body(format!(r#"{{"kind":"PodList","items":[{}]}}"#, pods.join(","))));
    wait_until(PATIENCE, "the list is accepted", || agent.log().contains("peers: 5000"));
    // The first probe of many.
    wait_until(PATIENCE, "peers are probed", || agent.status("Threads") > 20);
    let added = agent.status("VmHWM").saturating_sub(before) * 1024;
    println!("5,000 peers: {before} kB before, {added} bytes more at the peak");
    assert!(added <= MAX_MESH_MEMORY, "{added} bytes");
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let added = added as f64;
    assert!(added <= worst_case("MAX_MESH_MEMORY"), "{added} bytes");
}
