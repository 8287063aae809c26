//! An API server that sends what would fill the memory: the agent refuses it, names the bound, keeps its
//! peers and goes on probing.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use wylis_harness::api::{Behaviour, DAEMON_SET_UID, LABEL, NAMESPACE, TestPod};
use wylis_harness::bounds::worst_case;
use wylis_harness::fake_peers::FakePeers;
use wylis_harness::mesh::Mesh;
use wylis_harness::process::Agent;
use wylis_harness::{http, wait_until};

use crate::fixture::PATIENCE;

/// The most that a hostile list may add to the memory of an agent, which uses 3 MiB with few peers and 12 with
/// the most: the pod has 32 MiB, and half of it stays free.
const MAX_LIST_MEMORY: u64 = 4 << 20;
/// The same for the largest mesh, with the longest names: 16 MiB are the limit of the process.
const MAX_MESH_MEMORY: u64 = 13 << 20;
/// The peers of the largest mesh.
const PEERS: usize = wylis::peer::MAX_PEERS;
/// A body longer than the pod's memory.
const LONG: usize = 60 << 20;

/// What the stacks of 64 workers take more in an unoptimized build.
const UNOPTIMIZED_STACKS: u64 = 4 << 20;

/// The agent under test.
fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}

/// Whether the agent under test is a release build.
fn is_optimized() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("WYLIS_BINARY").is_some()
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
    let pods: Vec<String> = (0..2 * PEERS).map(|number| pod(number, &ips)).collect();
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
    let names = (0..PEERS).map(|number| format!("{:0253}", 2 * number));
    let peers = FakePeers::start_named(names, 63, Duration::ZERO);
    let port = peers.port.to_string();
    let settings =
        [("WYLIS_INTERVAL", "4s"), ("WYLIS_TIMEOUT", "4s"), ("WYLIS_PEER_PORT", port.as_str())];
    let mut mesh = Mesh::new(&binary(), &settings);
    mesh.add_with("me", &[("WYLIS_REFRESH_INTERVAL", "1s")]);
    let agent = mesh.agent("me");
    wait_until(PATIENCE, "the first list", || agent.log().contains("peers: 0"));
    let before = agent.status("VmRSS");
    let selector = format!("{}={}", LABEL.0, LABEL.1);
    let own: Value = serde_json::from_str(&mesh.pods.list(NAMESPACE, &selector).body).unwrap();
    let mut own = own["items"][0].clone();
    own["metadata"]["ownerReferences"][0]["uid"] = format!("{DAEMON_SET_UID}-0").into();
    // Two pods on each node but one.
    let pods = peers.nodes().iter().enumerate().flat_map(|(number, (_, ip))| {
        let pod = pod(2 * number, &format!(r#"{{"ip":"{ip}"}},{{"ip":"fd00::1"}}"#));
        [pod.clone(), pod]
    });
    let pods: Vec<String> = pods.skip(1).chain([own.to_string()]).collect();
    mesh.api
        .always(Behaviour::Body(format!(r#"{{"kind":"PodList","items":[{}]}}"#, pods.join(","))));
    let accepted = format!("peers: {PEERS}");
    wait_until(PATIENCE, "the list is accepted", || agent.log().contains(&accepted));
    let probed_again = || {
        let answered = peers.answered();
        let all = answered + PEERS as u64;
        wait_until(PATIENCE, "all peers are probed", || peers.answered() >= all);
    };
    probed_again();
    for path in ["/api/v1/row", "/api/v1/cluster"] {
        let headers = [("Accept-Encoding", "gzip")];
        assert_eq!(http::get_with(agent.address, path, &headers, PATIENCE).unwrap().status, 200);
    }
    // These clients read nothing, so that the agent holds what it shows them, while the peers change.
    let stalled = ["/metrics", "/api/v1/peers", "/api/v1/cluster"].map(|path| {
        let mut stream = TcpStream::connect(agent.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream
    });
    probed_again();
    let added = agent.status("VmHWM").saturating_sub(before) * 1024;
    drop(stalled);
    println!("{PEERS} peers: {before} kB before, {added} bytes more at the peak");
    let added = added.saturating_sub(if is_optimized() { 0 } else { UNOPTIMIZED_STACKS });
    assert!(added <= MAX_MESH_MEMORY, "{added} bytes");
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let added = added as f64;
    assert!(added <= worst_case("MAX_MESH_MEMORY"), "{added} bytes");
}
