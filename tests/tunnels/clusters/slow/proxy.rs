//! Something between a node and its peers that accepts their connections, or changes what they say.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use wylis_harness::mesh::PORT;

use super::super::table::{self, Case};
use super::super::trial::Trial;
use crate::faults::Fault;
use crate::mesh::{TunnelMesh, node};
use crate::network::Topology;
use crate::proxy::{Act, Front, NAT, NEW, Proxy};

#[test]
#[ignore = "slow: make test-long"]
fn clock_of_one_node_ahead() {
    let Some(mut trial) = Trial::begin(table::CLOCK, Topology::of(3)) else { return };
    let (proxy, nat) = trial.inject(|mesh| {
        let pod = &mesh.pods[&3];
        let nat = Fault::put(&pod.namespace, NAT);
        (Front::of(pod, 3, Act::Shift), nat)
    });
    trial.wait_for_findings();
    trial.end(|_| drop(proxy));
    drop(nat);
}

/// Something in n1's host accepts the connections of n1's agent to these nodes.
fn between(mesh: &TunnelMesh, numbers: &[u8], act: Act) -> (Fault, Vec<Proxy>) {
    let host = &mesh.network.host(1).namespace;
    let pods = numbers.iter().map(|number| (*number, mesh.pods[number].address));
    let proxies: Vec<_> = pods
        .clone()
        .map(|(number, address)| Proxy::start(host, number, SocketAddr::new(address, PORT), act))
        .collect();
    let redirects = pods.zip(&proxies).map(|((_, address), proxy)| {
        let (own, port) = (mesh.pods[&1].address, proxy.port);
        format!("  ip saddr {own} ip daddr {address} {NEW} tcp dport {PORT} redirect to :{port}\n")
    });
    let redirects: String = redirects.collect();
    let rules = format!(
        "chain go {{
  type nat hook prerouting priority dstnat; policy accept;
{redirects}}}"
    );
    (Fault::put(host, &rules), proxies)
}

#[test]
#[ignore = "slow: make test-long"]
fn acceptor_in_place_of_a_dead_peer() {
    let Some(mut trial) = Trial::begin(table::ACCEPTOR, Topology::of(3)) else { return };
    let (pod, proxies, nat) = trial.inject(|mesh| {
        let nat = Fault::put(&mesh.network.host(1).namespace, NAT);
        let proxies = between(mesh, &[3], Act::Silent);
        (mesh.agents.kill(&node(3)), proxies, nat)
    });
    trial.wait_for_findings();
    let peer = trial.mesh.agents.agent(&node(1)).peer(&node(3));
    assert_eq!((&peer["verdict"], &peer["reason"]), (&"down".into(), &"response_timeout".into()));
    trial.end(|trial| {
        drop(proxies);
        trial.mesh.restart(3, &pod);
    });
    drop(nat);
}

/// n1's link takes 100 ms each way, and something in its host accepts for all of its peers.
fn intercepted(case: &'static Case, lost: &str) {
    let topology = Topology { slow_link: Some(1), ..Topology::of(3) };
    let Some(mut trial) = Trial::begin(case, topology) else { return };
    let (fault, nat) = trial.inject(|mesh| {
        let cable = mesh.network.cable.as_ref().expect("a slow link was asked for");
        cable.set_delay(Duration::from_millis(100));
        let host = &mesh.network.host(1).namespace;
        // The proxies' connections leave from the host itself.
        let rules = format!(
            "chain out {{\n  type filter hook output priority filter; policy accept;\n{lost}}}"
        );
        let nat = Fault::put(host, NAT);
        ((between(mesh, &[2, 3], Act::Relay), Fault::put(host, &rules)), nat)
    });
    trial.wait_for_findings();
    for other in [2, 3] {
        let peer = trial.mesh.agents.agent(&node(1)).peer(&node(other));
        // Neither loss nor a round trip is claimed; with loss, the proxy's own connections fail at times, and one
        // late probe is `down` in passing.
        assert_eq!(peer["intercepted"], true, "{peer}");
        assert_eq!(peer["rtt_seconds"], Value::Null, "{peer}");
        assert_ne!(peer["verdict"], "lossy", "{peer}");
        let late = peer["verdict"] == "down" && peer["reason"] == "response_timeout";
        assert!(peer["verdict"] == "up" || late || !lost.is_empty(), "{peer}");
    }
    trial.end(|trial| {
        drop(fault);
        trial.mesh.network.cable.as_ref().expect("as above").set_delay(Duration::ZERO);
    });
    drop(nat);
}

#[test]
#[ignore = "slow: make test-long"]
fn proxy_in_place_of_all_peers() {
    intercepted(table::INTERCEPTED, "");
}

#[test]
#[ignore = "slow: make test-long"]
fn proxy_in_place_of_all_peers_with_loss_beyond_it() {
    let lost = "  tcp dport 9050 numgen random mod 100 < 30 counter drop\n";
    intercepted(table::INTERCEPTED_LOSSY, lost);
}
