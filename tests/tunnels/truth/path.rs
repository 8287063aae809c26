//! Faults on the path between two nodes, or on the link of one node.

use std::time::Duration;

use serde_json::Value;

use super::table::{self, Case};
use super::trial::Trial;
use crate::faults::{self, Fault};
use crate::mesh::TunnelMesh;
use crate::network::{Network, inner, pods_of};
use crate::wireguard::{Peer, another_key};

/// Begins the case, applies the rules on the host, and waits for the verdicts.
pub(super) fn with_rules(case: &'static Case, host: u8, rules: &str) -> Option<(Trial, Fault)> {
    let mut trial = Trial::begin(case)?;
    let fault = trial.inject(|mesh| put(mesh, host, rules));
    trial.wait_for_verdicts();
    Some((trial, fault))
}

pub(super) fn put(mesh: &TunnelMesh, host: u8, rules: &str) -> Fault {
    Fault::put(&mesh.network.host(host).namespace, rules)
}

/// Runs a case whose fault is a set of rules on one host.
pub(super) fn by_rules(case: &'static Case, host: u8, rules: &str) {
    if let Some((trial, fault)) = with_rules(case, host, rules) {
        trial.end(|_| drop(fault));
    }
}

#[test]
fn first_syn_of_each_connection_dropped() {
    let Some((trial, fault)) = with_rules(table::FIRST_SYN, 1, &faults::first_syn(1, 2)) else {
        return;
    };
    let peer = trial.observer.peer(1, 2);
    let last = peer["recent"].as_array().unwrap().last().unwrap();
    let connect = last["connect_seconds"].as_f64().unwrap();
    assert!((1.0..1.9).contains(&connect), "the step of one retransmitted SYN: {peer}");
    assert_eq!(peer["up"], true, "{peer}");
    trial.end(|_| drop(fault));
}

#[test]
fn thirty_per_cent_lost_both_ways() {
    let lost = "numgen random mod 100 < 30";
    by_rules(table::LOSS, 1, &faults::drops(&[(1, 2, lost), (2, 1, lost)]));
}

/// The allowed difference between the reported rate and the real loss rate: a late answer makes the
/// kernel retransmit, and a loss may be counted before its probe ends.
const TOLERANCE: f64 = 0.25;

#[test]
fn exactly_one_in_four_packets_lost() {
    let rules = faults::one_in_four(1, 2);
    let Some(mut trial) = Trial::begin(table::ONE_IN_FOUR) else { return };
    let fault = trial.inject(|mesh| put(mesh, 1, &rules));
    trial.wait_for_verdicts();
    let probes = |peer: &Value| {
        let count = |field: &str| peer[field].as_u64().unwrap_or(0);
        count("successes") + count("failures")
    };
    let (before, missed_before) = (probes(trial.observer.peer(1, 2)), fault.packets("missed"));
    // The rate covers the last 20 probes.
    trial.observe_until("20 probes", |observer, _| probes(observer.peer(1, 2)) >= before + 20);
    let (peer, missed) = (trial.observer.peer(1, 2), fault.packets("missed") - missed_before);
    let made = probes(peer) - before;
    let lost = missed as f64 / made as f64;
    let reported = peer["retransmits_per_probe"].as_f64().unwrap();
    println!(
        "truth: 1 in 4: {missed} packets of {made} probes lost, {lost:.2} each; reported {reported:.2}"
    );
    assert!((reported - lost).abs() <= TOLERANCE, "{peer}");
    trial.end(|_| drop(fault));
}

/// Observes several more probes of each side: `incoming` must not change.
fn stays_silent(case: &'static Case, rules: &str) {
    if let Some((mut trial, fault)) = with_rules(case, 1, rules) {
        trial.observe_until("a while", |_, elapsed| elapsed > Duration::from_secs(25));
        trial.assert_verdicts();
        trial.end(|_| drop(fault));
    }
}

#[test]
fn all_packets_dropped_both_ways() {
    stays_silent(table::ALL_DROPPED, &faults::drops(&[(1, 2, ""), (2, 1, "")]));
}

#[test]
fn all_packets_dropped_one_way() {
    stays_silent(table::ONE_DIRECTION, &faults::drops(&[(1, 2, "")]));
}

const NEW: &str = "tcp dport 9050 tcp flags & (syn | ack) == syn";

#[test]
fn new_connections_dropped_by_a_firewall() {
    by_rules(table::FIREWALL_DROPS, 2, &faults::drops(&[(1, 2, NEW)]));
}

#[test]
fn new_connections_reset_by_a_firewall() {
    by_rules(table::FIREWALL_RESETS, 2, &faults::rejects(1, 2, NEW, "tcp reset"));
}

#[test]
fn new_connections_answered_by_icmp_unreachable() {
    by_rules(table::UNREACHABLE, 2, &faults::rejects(1, 2, NEW, "icmp type host-unreachable"));
}

#[test]
fn large_packets_dropped() {
    let Some(mut trial) = Trial::begin(table::MTU) else { return };
    let large = "meta length > 1200";
    let rules = faults::drops(&[(1, 2, large), (2, 1, large)]);
    let fault = trial.inject(|mesh| put(mesh, 1, &rules));
    trial.wait_for_verdicts();
    trial.end(|_| drop(fault));
}

#[test]
fn wireguard_process_of_one_node_frozen() {
    let Some(mut trial) = Trial::begin(table::TUNNEL_FROZEN) else { return };
    let signal = |mesh: &TunnelMesh, signal| mesh.network.host(2).wireguard.signal(signal);
    trial.inject(|mesh| signal(mesh, libc::SIGSTOP));
    trial.wait_for_verdicts();
    trial.end(|trial| signal(&trial.mesh, libc::SIGCONT));
}

#[test]
fn link_down_and_up() {
    let Some(mut trial) = Trial::begin(table::LINK_DOWN) else { return };
    trial.inject(|mesh| mesh.network.switch.ip("link set p2 down\n"));
    trial.wait_for_verdicts();
    trial.end(|trial| trial.mesh.network.switch.ip("link set p2 up\n"));
}

/// Replaces B among the peers of A's WireGuard, and later puts it right.
fn misconfigured(case: &'static Case, wrong: impl FnOnce(&Network)) {
    let Some(mut trial) = Trial::begin(case) else { return };
    trial.inject(|mesh| wrong(&mesh.network));
    trial.wait_for_verdicts();
    trial.end(|trial| {
        let network = &trial.mesh.network;
        network.host(1).wireguard.replace(&network.peer(2), None);
    });
}

#[test]
#[ignore = "slow: make test-long"]
fn wrong_allowed_ips_on_one_side() {
    misconfigured(table::ALLOWED_IPS, |network| {
        let wrong = Peer { inner: inner(99), ..network.peer(2) };
        network.host(1).wireguard.replace(&wrong, None);
    });
}

#[test]
#[ignore = "slow: make test-long"]
fn wrong_key_on_one_side() {
    misconfigured(table::WRONG_KEY, |network| {
        network.host(1).wireguard.replace(&network.peer(2), Some(&another_key()));
    });
}

/// Sets the MTU of A's route to B; `None` as that of the interface.
fn set_route_mtu(mesh: &TunnelMesh, mtu: Option<u32>) {
    let mtu = mtu.map_or_else(String::new, |mtu| format!(" mtu {mtu}"));
    let route = format!("{} via 10.244.2.0 dev flannel.1 onlink", pods_of(2));
    mesh.network.host(1).namespace.ip(&format!("route replace {route}{mtu}\n"));
}

#[test]
#[ignore = "slow: make test-long"]
fn smaller_mtu_on_the_way_and_healed() {
    let Some(mut trial) = Trial::begin(table::MTU_SMALLER) else { return };
    trial.inject(|mesh| set_route_mtu(mesh, Some(1000)));
    trial.wait_for_verdicts();
    trial.end(|trial| set_route_mtu(&trial.mesh, None));
}
