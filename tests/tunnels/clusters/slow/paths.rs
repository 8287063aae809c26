//! Faults of paths and links, some of them by chance.

use super::super::paths::{NEVER, halves, hub, of_node};
use super::super::table::{self, Case};
use super::super::trial::Trial;
use crate::faults;
use crate::mesh::node;
use crate::network::Topology;

/// New connections.
const NEW: &str = "tcp dport 9050 tcp flags & (syn | ack) == syn";

/// A fault of all packets of n1's pods, out and back.
fn of_first(case: &'static Case, out: &str, back: &str) {
    Trial::by_rules(case, Topology::of(4), &[1], &of_node(1, out, back));
}

#[test]
#[ignore = "slow: make test-long"]
fn hub_that_forwards_with_loss() {
    hub(table::HUB_LOSSY, "numgen random mod 100 < 30");
}

#[test]
#[ignore = "slow: make test-long"]
fn halves_that_a_fifth_node_reaches() {
    Trial::by_rules(table::SPLIT_BRIDGED, Topology::of(5), &[1, 2], &halves());
}

#[test]
#[ignore = "slow: make test-long"]
fn node_that_one_other_reaches() {
    let ways = [2, 3, 4].into_iter().flat_map(|other| [(1, other, ""), (other, 1, "")]);
    let rules = faults::drops(&ways.collect::<Vec<_>>());
    let Some(mut trial) = Trial::begin(table::CUT_OFF_BRIDGED, Topology::of(5)) else { return };
    let fault = trial.inject(|mesh| faults::Fault::put(&mesh.network.host(1).namespace, &rules));
    trial.wait_for_findings();
    for (viewer, owner) in [(1, 2), (1, 3), (1, 4), (2, 1), (3, 1), (4, 1)] {
        assert_eq!(trial.view(viewer).through(owner), Some("n5"), "as n{viewer} says of n{owner}");
    }
    trial.end(|_| drop(fault));
}

#[test]
#[ignore = "slow: make test-long"]
fn node_that_hears_and_is_not_heard() {
    of_first(table::NOT_HEARD, "", NEVER);
}

#[test]
#[ignore = "slow: make test-long"]
fn node_that_is_heard_and_hears_nothing() {
    of_first(table::HEARS_NOTHING, NEVER, "");
}

#[test]
#[ignore = "slow: make test-long"]
fn uplink_with_loss() {
    let lost = "numgen random mod 100 < 10";
    of_first(table::UPLINK, lost, lost);
}

#[test]
#[ignore = "slow: make test-long"]
fn uplink_with_heavy_loss() {
    let lost = "numgen random mod 100 < 30";
    of_first(table::UPLINK_HEAVY, lost, lost);
}

#[test]
#[ignore = "slow: make test-long"]
fn uplink_with_loss_of_what_it_sends() {
    of_first(table::UPLINK_OUT, "numgen random mod 100 < 20", NEVER);
}

#[test]
#[ignore = "slow: make test-long"]
fn uplink_with_loss_of_what_it_receives() {
    of_first(table::UPLINK_IN, NEVER, "numgen random mod 100 < 20");
}

#[test]
#[ignore = "slow: make test-long"]
fn a_third_of_the_sources_refused() {
    let rules = [1, 2].map(|source| faults::rejects(source, 6, NEW, "tcp reset"));
    // Each set of rules is a whole chain.
    let rules = rules.join("\n").replacen("chain path", "chain other", 1);
    Trial::by_rules(table::THIRD, Topology::of(6), &[6], &rules);
}

#[test]
#[ignore = "slow: make test-long"]
fn row_of_an_unreachable_node_through_a_third() {
    let rules = faults::drops(&[(1, 3, ""), (3, 1, "")]);
    let Some(mut trial) = Trial::begin(table::PAIR, Topology::of(3)) else { return };
    let fault = trial.inject(|mesh| faults::Fault::put(&mesh.network.host(1).namespace, &rules));
    trial.wait_for_findings();
    for (viewer, owner, through) in [(1, 3, Some("n2")), (3, 1, Some("n2")), (2, 1, None)] {
        let view = trial.view(viewer);
        assert_eq!(view.through(owner), through, "as n{viewer} says: {:#}", view.0);
        let cells = view.cells();
        assert!(cells.contains_key(&(owner, 2)), "no row of n{owner}: {cells:?}");
    }
    trial.end(|_| drop(fault));
}

#[test]
#[ignore = "slow: make test-long"]
fn new_connections_of_a_pair_dropped() {
    Trial::by_rules(table::DIRECTION, Topology::of(3), &[2], &faults::drops(&[(1, 2, NEW)]));
}

#[test]
#[ignore = "slow: make test-long"]
fn one_direction_of_a_pair_dropped() {
    Trial::by_rules(table::ONE_WAY, Topology::of(3), &[1], &faults::drops(&[(1, 2, "")]));
}

#[test]
#[ignore = "slow: make test-long"]
fn pair_with_loss() {
    let lost = "numgen random mod 100 < 10";
    let rules = faults::drops(&[(1, 2, lost), (2, 1, lost)]);
    Trial::by_rules(table::LOSSY_PAIR, Topology::of(3), &[1], &rules);
}

#[test]
#[ignore = "slow: make test-long"]
fn agent_killed() {
    let Some(mut trial) = Trial::begin(table::DEAD, Topology::of(4)) else { return };
    let pod = trial.inject(|mesh| mesh.agents.kill(&node(4)));
    trial.wait_for_findings();
    trial.end(|trial| trial.mesh.restart(4, &pod));
}

#[test]
#[ignore = "slow: make test-long"]
fn links_of_two_nodes_down() {
    let Some(mut trial) = Trial::begin(table::TWO_DEAD, Topology::of(5)) else { return };
    trial.inject(|mesh| mesh.network.switch.ip("link set p4 down\nlink set p5 down\n"));
    trial.wait_for_findings();
    trial.end(|trial| trial.mesh.network.switch.ip("link set p4 up\nlink set p5 up\n"));
}
