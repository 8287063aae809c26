//! The largest packet of a path through real tunnels: found by the agents at both ends as soon as their verdict is
//! that full-size packets vanish, and by the command.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wylis_harness::wait_until;

use super::binary;
use super::faults::{self, Fault};
use super::mesh::TunnelMesh;
use super::network::{Topology, pods_of};

const SETTINGS: &[(&str, &str)] =
    &[("WYLIS_INTERVAL", "1s"), ("WYLIS_LARGE_INTERVAL", "2s"), ("WYLIS_DRAIN", "1s")];
const VERDICT_WITHIN: Duration = Duration::from_secs(60);
const FOUND_WITHIN: Duration = Duration::from_secs(30);

/// The exit code and the output of `wylis probe` in the first node's pod.
fn probe(mesh: &TunnelMesh, arguments: &[&str]) -> (Option<i32>, String) {
    let target = mesh.agents.agent("n2").address.to_string();
    let mut command = mesh.pods[&1].namespace.command(binary());
    let output = command.args(["probe", &target]).args(arguments).output().expect("wylis runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_largest_packet_is_found_at_both_ends_and_by_the_command() {
    let Some(mesh) = TunnelMesh::new(Topology::of(2), SETTINGS) else { return };
    let unknown = || mesh.agents.sum("wylis_incoming_requests_total", &["source_node=\"unknown\""]);
    let (before, host) = (unknown(), &mesh.network.host(1).namespace);
    let fault = Fault::put(host, &faults::drops(&[(1, 2, "meta length > 1337")]));
    for (agent, peer, way) in [("n1", "n2", "outgoing"), ("n2", "n1", "incoming")] {
        wait_until(VERDICT_WITHIN, "the verdict mtu", || {
            mesh.agents.agent(agent).peer(peer)["verdict"] == "mtu"
        });
        let since = Instant::now();
        wait_until(FOUND_WITHIN, "the number in the log", || {
            let log = mesh.agents.agent(agent).log();
            log.lines().any(|line| line.contains(peer) && line.contains("1,337 bytes"))
        });
        let found = &mesh.agents.agent(agent).peer(peer)["mtu"];
        assert_eq!((&found[way]["bytes"], &found[way]["exact"]), (&1337.into(), &true.into()));
        let labels = [format!("target_node=\"{peer}\""), format!("direction=\"{way}\"")];
        let labels = [labels[0].as_str(), labels[1].as_str()];
        let metrics = mesh.agents.agent(agent).metrics();
        assert_eq!(metrics.get("wylis_peer_largest_packet_bytes", &labels), Some(1337.0));
        println!("tunnels: {agent} has found it {:.1?} after the verdict", since.elapsed());
    }
    let (code, text) = probe(&mesh, &["--mtu"]);
    assert!(
        text.ends_with(
            "\nlargest packet to it: 1,337 bytes\nlargest packet from it: at least 1,370 bytes\n"
        ),
        "{text}"
    );
    assert_eq!(code, Some(4));
    let (code, text) = probe(&mesh, &["--mtu", "--json"]);
    let document: Value = serde_json::from_str(&text).unwrap();
    let [outgoing, incoming] =
        [(1337, true), (1370, false)].map(|(bytes, exact)| json!({"bytes": bytes, "exact": exact}));
    assert_eq!(document["mtu"], json!({"outgoing": outgoing, "incoming": incoming}));
    assert_eq!((code, &document["node"]), (Some(4), &"n2".into()));
    drop(fault);
    for (agent, peer) in [("n1", "n2"), ("n2", "n1")] {
        mesh.agents.wait_for_verdict(agent, peer, "up");
        let found = &mesh.agents.agent(agent).peer(peer)["mtu"];
        assert!(found["outgoing"].is_null() && found["incoming"].is_null(), "{found}");
    }
    let (code, text) = probe(&mesh, &["--mtu"]);
    assert_eq!((code, text.matches("at least 1,370 bytes").count()), (Some(0), 2), "{text}");
    // Searches are counted for no one, and one finding is one line.
    assert_eq!(unknown(), before);
    assert_eq!(mesh.agents.logs().matches("1,337 bytes").count(), 2, "{}", mesh.agents.logs());
}

#[test]
fn the_command_counts_the_flows_that_never_get_through() {
    let Some(mesh) = TunnelMesh::new(Topology::of(2), SETTINGS) else { return };
    let host = &mesh.network.host(1).namespace;
    // Of 32 even ports, from which the kernel connects first, 16 are a fair sample: one in four is dead.
    mesh.pods[&1].namespace.sysctl("ipv4/ip_local_port_range", "40000 40063");
    let _fault = Fault::put(host, &faults::drops(&[(1, 2, "tcp dport 9050 tcp sport & 6 == 2")]));
    let (code, text) = probe(&mesh, &["--flows=16", "--json"]);
    let document: Value = serde_json::from_str(&text).unwrap();
    let flows = &document["flows"];
    let dead = flows["dead_ports"].as_array().unwrap();
    assert!(dead.iter().all(|port| port.as_u64().unwrap() & 6 == 2), "{text}");
    assert_eq!(
        (flows["tried"].as_u64(), flows["failed"].as_u64()),
        (Some(16), Some(dead.len() as u64))
    );
    assert!((1..=8).contains(&dead.len()), "{text}");
    assert_eq!(code, Some(4));
}

#[test]
fn the_size_that_a_router_names_is_the_largest() {
    let Some(mesh) = TunnelMesh::new(Topology::of(2), SETTINGS) else { return };
    let route = format!("{} via 10.244.2.0 dev flannel.1 onlink", pods_of(2));
    mesh.network.host(1).namespace.ip(&format!("route replace {route} mtu 1000\n"));
    wait_until(VERDICT_WITHIN, "the verdict mtu", || {
        mesh.agents.agent("n1").peer("n2")["verdict"] == "mtu"
    });
    wait_until(FOUND_WITHIN, "the number in the log", || {
        mesh.agents.agent("n1").log().lines().any(|line| line.contains("1,000 bytes"))
    });
    assert!(!mesh.agents.logs().contains("at least"), "{}", mesh.agents.logs());
}
