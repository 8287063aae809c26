//! IPv6 alone, and IPv4 alone beside dual stack.

use super::super::SETTINGS;
use super::super::table;
use super::super::trial::Trial;
use crate::mesh::{TunnelMesh, node};
use crate::network::{Family, Overlay, Topology, able};
use std::time::Duration;

const fn topology(family: Family) -> Topology {
    Topology { overlay: Overlay::Routed, family, ..Topology::of(3) }
}

#[test]
#[ignore = "slow: make test-long"]
fn agents_with_ipv6_alone() {
    let Some(mut trial) = Trial::begin(table::V6_DEAD, topology(Family::V6)) else { return };
    let peer = trial.mesh.agents.agent(&node(1)).peer(&node(2));
    assert_eq!(peer["path_mtu_bytes"], 1420, "{peer}");
    assert!(peer["address"].as_str().unwrap().starts_with("[fd00:"), "{peer}");
    let pod = trial.inject(|mesh| mesh.agents.kill(&node(3)));
    trial.wait_for_findings();
    trial.end(|trial| trial.mesh.restart(3, &pod));
}

#[test]
#[ignore = "slow: make test-long"]
fn agent_with_ipv4_alone_beside_dual_stack() {
    if !able() {
        return;
    }
    let made = TunnelMesh::without_agents(topology(Family::Dual), SETTINGS);
    let Some(mut mesh) = made else { return };
    mesh.network.shake_hands();
    // The pod of n1 loses its first address, which is IPv6.
    let mut pod = mesh.network.pod(1);
    let (v6, v4) = (pod.address, pod.second.take().expect("two addresses"));
    pod.namespace
        .ip(&format!("addr del {v6}/64 dev eth0\nroute del default via fd00:10:244:1::1\n"));
    pod.address = v4;
    mesh.add_in(1, pod);
    mesh.add(2);
    mesh.add(3);
    mesh.agents.wait_for_all_pairs();
    let mut trial = Trial::over(table::V4_BESIDE_DUAL, mesh, 3);
    trial.stays(Duration::from_secs(20));
    for (source, target, begin) in [(1, 2, "10.244.2."), (2, 1, "10.244.1."), (2, 3, "[fd00:")] {
        let peer = trial.mesh.agents.agent(&node(source)).peer(&node(target));
        let address = peer["address"].as_str().unwrap();
        assert!(address.starts_with(begin), "n{source} probes n{target} at {address}");
    }
    let local = trial.mesh.agents.sum("wylis_local_errors_total", &[]);
    assert_eq!(local, 0.0, "{}", trial.logs());
    trial.end(|_| ());
}
