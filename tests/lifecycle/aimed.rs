//! Pods whose status aims probes at the agent's own host or its link.

use std::path::{Path, PathBuf};
use std::time::Duration;

use wylis_harness::api::TestPod;
use wylis_harness::mesh::Mesh;
use wylis_harness::netns::Namespace;
use wylis_harness::{TempDir, wait_until};

use super::{FAST, binary};

const OWN: [u8; 4] = [10, 9, 0, 1];
const API: [u8; 4] = [10, 9, 0, 250];
const AIMED: [&str; 3] = ["127.0.0.2", "::1", "169.254.169.254"];

/// A copy of the agent that its unprivileged user may enter.
fn reachable(dir: &Path) -> PathBuf {
    let path = dir.join("wylis");
    if std::fs::hard_link(binary(), &path).is_err() {
        // A process of its own: a descriptor open for writing must not be inherited.
        let copied = std::process::Command::new("cp").arg(binary()).arg(&path).status();
        assert!(copied.unwrap().success());
    }
    path
}

#[test]
fn a_pod_status_aims_no_probe_at_the_host_of_an_agent() {
    let Some(host) = Namespace::new("aimed") else { return };
    host.ip("addr add 10.9.0.1/32 dev lo\naddr add 10.9.0.250/32 dev lo\n");
    let dir = TempDir::new("aimed");
    let api = (host.entrance(), API.into());
    let mut mesh = Mesh::with_api_at(api, &reachable(dir.path()), FAST);
    for (number, ip) in AIMED.iter().enumerate() {
        let pod = TestPod::new(&format!("evil-{number}"), &format!("victim-{number}"), ip);
        mesh.pods.put(pod);
    }
    mesh.add_at("n1", &host, OWN.into());
    let agent = mesh.agent("n1");
    wait_until(Duration::from_secs(30), "the pods are counted", || {
        let pods = agent.metrics().sum("wylis_pods", &["state=\"bad_address\""]);
        pods == f64::from(u8::try_from(AIMED.len()).unwrap())
    });
    // The agent listens on these addresses, so that it would answer its own probes.
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("wylis_peers", &[]), 0.0, "{}", mesh.logs());
    assert_eq!(metrics.sum("wylis_gate_requests_total", &["route=\"/keepalive\""]), 0.0);
    assert_eq!(agent.log().matches("address that is not probed").count(), 1, "{}", agent.log());
}
