//! Faults of a node's own host or pod.

use super::table::{self, Case};
use super::trial::Trial;
use crate::mesh::{TunnelMesh, node};
use crate::network::Topology;

/// The label of the local errors without a route.
const NO_ROUTE: &str = "reason=\"no_route\"";

/// The others say that n1 is down; its own agent blames itself, and none of its peers.
pub(super) fn own_fault(
    case: &'static Case,
    fault: impl FnOnce(&TunnelMesh),
    cure: impl FnOnce(&TunnelMesh),
) {
    let Some(mut trial) = Trial::begin(case, Topology::of(4)) else { return };
    trial.inject(|mesh| fault(mesh));
    trial.wait_for_findings();
    let agent = trial.mesh.agents.agent(&node(1));
    let own = agent.metrics().sum("wylis_local_errors_total", &[NO_ROUTE]).abs();
    println!("clusters: {}: {own} local errors", case.what);
    assert!(own >= 3.0, "{own} local errors\n{}", agent.log());
    let peers = agent.peers();
    for peer in peers["peers"].as_array().unwrap() {
        assert_ne!(peer["verdict"], "down", "{peer}");
        assert_eq!(peer["failures_by_reason"]["unreachable"].as_u64(), None, "{peer}");
    }
    for text in trial.view(1).texts() {
        assert!(text.starts_with("no row from ") || text.starts_with("n1 is cut off"), "{text}");
    }
    trial.end(|trial| cure(&trial.mesh));
}

/// Adds or deletes the route of n1's pod.
pub(super) fn route(verb: &str) -> impl FnOnce(&TunnelMesh) {
    let line = format!("route {verb} default via 10.244.1.1\n");
    move |mesh| mesh.pods[&1].namespace.ip(&line)
}

#[test]
fn interface_of_the_own_pod_down() {
    own_fault(
        table::OWN_INTERFACE,
        |mesh| mesh.pods[&1].namespace.ip("link set eth0 down\n"),
        // The kernel deletes the routes of an interface that goes down.
        |mesh| {
            mesh.pods[&1].namespace.ip("link set eth0 up\n");
            route("add")(mesh);
        },
    );
}
