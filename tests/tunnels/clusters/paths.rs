//! Faults of paths, links and parts of the mesh.

use super::table::{self, Case};
use super::trial::Trial;
use crate::faults;
use crate::network::Topology;

/// The packets of a node's pods, as the host of the node forwards them.
pub(super) fn of_node(node: u8, out: &str, back: &str) -> String {
    let others = (1..=6).filter(|other| *other != node);
    let ways = others.flat_map(|other| [(node, other, out), (other, node, back)]);
    faults::drops(&ways.filter(|(_, _, rule)| *rule != NEVER).collect::<Vec<_>>())
}

/// No rule in this direction.
pub(super) const NEVER: &str = "never";

/// Nothing between n1 and n2 on one side, n3 and n4 on the other; for the hosts of one side.
pub(super) fn halves() -> String {
    let ways = [(1, 3), (1, 4), (2, 3), (2, 4)];
    let ways: Vec<_> = ways.iter().flat_map(|(a, b)| [(*a, *b, ""), (*b, *a, "")]).collect();
    faults::drops(&ways)
}

/// What the hub forwards between two other hosts.
pub(super) fn hub(case: &'static Case, lost: &str) {
    let Some(mut trial) = Trial::begin(case, Topology::star(4)) else { return };
    let fault = trial.inject(|mesh| {
        let hub = mesh.network.host(1);
        let tunnel = hub.wireguard.name();
        let rules = format!(
            "chain path {{
  type filter hook forward priority filter; policy accept;
  iifname \"{tunnel}\" oifname \"{tunnel}\" {lost} counter drop
}}"
        );
        faults::Fault::put(&hub.namespace, &rules)
    });
    trial.wait_for_findings();
    trial.end(|_| drop(fault));
}

#[test]
fn hub_that_forwards_nothing() {
    hub(table::HUB_SILENT, "");
}

#[test]
fn mesh_split_in_two_halves() {
    Trial::by_rules(table::SPLIT, Topology::of(4), &[1, 2], &halves());
}

#[test]
fn one_node_cut_off() {
    Trial::by_rules(table::CUT_OFF, Topology::of(4), &[1], &of_node(1, "", ""));
}
