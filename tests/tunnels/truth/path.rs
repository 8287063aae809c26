//! Faults on the path between two nodes, or on the link of one.

use std::time::Duration;

use serde_json::Value;

use super::SETTINGS;
use super::table::{self, Row};
use super::trial::Trial;
use crate::cluster::Cluster;
use crate::faults::{self, Fault};
use crate::network::Plan;

/// Begins the row, puts these rules into the host, and waits for the verdicts.
fn with_rules(row: &'static Row, host: u8, rules: &str) -> Option<(Trial, Fault)> {
    let mut trial = Trial::begin(row)?;
    let fault = trial.inject(|cluster| put(cluster, host, rules));
    trial.reach();
    Some((trial, fault))
}

fn put(cluster: &Cluster, host: u8, rules: &str) -> Fault {
    Fault::put(&cluster.network.host(host).namespace, rules)
}

/// A row that is nothing but rules in a host.
fn by_rules(row: &'static Row, host: u8, rules: &str) {
    if let Some((trial, fault)) = with_rules(row, host, rules) {
        trial.end(|_| drop(fault));
    }
}

#[test]
fn first_syn_of_each_connection_dropped() {
    let Some((trial, fault)) = with_rules(table::FIRST_SYN, 1, &faults::first_syn(1, 2)) else {
        return;
    };
    let peer = trial.watch.peer(1, 2);
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

/// How far the rate that is told may be from that of the losses: an answer may come so late that the
/// kernel asks again, and a loss may be counted before its probe has ended.
const TOLERANCE: f64 = 0.25;

#[test]
fn exactly_one_in_four_packets_lost() {
    let rules = faults::one_in_four(1, 2);
    // The packets of large probes would be lost and counted among the others.
    let settings = [SETTINGS, &[("WYLIS_LARGE_INTERVAL", "0s")]].concat();
    let begun = Trial::begin_with(table::ONE_IN_FOUR, Plan::of(3), &settings);
    let Some(mut trial) = begun else { return };
    let fault = trial.inject(|cluster| put(cluster, 1, &rules));
    trial.reach();
    let probes = |peer: &Value| {
        let count = |field: &str| peer[field].as_u64().unwrap_or(0);
        count("successes") + count("failures")
    };
    let (before, missed_before) = (probes(trial.watch.peer(1, 2)), fault.packets("missed"));
    // The rate is that of the last twenty.
    trial.until("twenty probes", |watch, _| probes(watch.peer(1, 2)) >= before + 20);
    let (peer, missed) = (trial.watch.peer(1, 2), fault.packets("missed") - missed_before);
    let made = probes(peer) - before;
    let lost = missed as f64 / made as f64;
    let told = peer["retransmits_per_probe"].as_f64().unwrap();
    println!(
        "truth: 1 in 4: {missed} packets of {made} probes lost, {lost:.2} each; told {told:.2}"
    );
    assert!((told - lost).abs() <= TOLERANCE, "{peer}");
    trial.end(|_| drop(fault));
}

/// Looks on for several probes of each side: what is half-heard, and what is not, must stay so.
fn silence(row: &'static Row, rules: &str) {
    if let Some((mut trial, fault)) = with_rules(row, 1, rules) {
        trial.until("a while", |_, elapsed| elapsed > Duration::from_secs(25));
        trial.reach_still();
        trial.end(|_| drop(fault));
    }
}

#[test]
fn all_packets_dropped_both_ways() {
    silence(table::ALL_DROPPED, &faults::drops(&[(1, 2, ""), (2, 1, "")]));
}

#[test]
fn all_packets_dropped_one_way() {
    silence(table::ONE_DIRECTION, &faults::drops(&[(1, 2, "")]));
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
fn icmp_says_unreachable() {
    by_rules(table::UNREACHABLE, 2, &faults::rejects(1, 2, NEW, "icmp type host-unreachable"));
}

#[test]
fn large_packets_dropped() {
    let Some(mut trial) = Trial::begin(table::MTU) else { return };
    let large = "meta length > 1200";
    let rules = faults::drops(&[(1, 2, large), (2, 1, large)]);
    let fault = trial.inject(|cluster| put(cluster, 1, &rules));
    trial.reach();
    trial.end(|_| drop(fault));
}

#[test]
fn wireguard_process_of_one_node_frozen() {
    let Some(mut trial) = Trial::begin(table::TUNNEL_FROZEN) else { return };
    let signal = |cluster: &Cluster, signal| cluster.network.host(2).wireguard.signal(signal);
    trial.inject(|cluster| signal(cluster, libc::SIGSTOP));
    trial.reach();
    trial.end(|trial| signal(&trial.cluster, libc::SIGCONT));
}

#[test]
fn link_down_and_up() {
    let Some(mut trial) = Trial::begin(table::LINK_DOWN) else { return };
    trial.inject(|cluster| cluster.network.switch.ip("link set p2 down\n"));
    trial.reach();
    trial.end(|trial| trial.cluster.network.switch.ip("link set p2 up\n"));
}

#[test]
fn delay_on_one_link() {
    let plan = Plan { slow_link: Some(2), ..Plan::of(3) };
    let Some(mut trial) = Trial::begin_with(table::DELAY, plan, SETTINGS) else { return };
    let delay = |cluster: &Cluster, millis| {
        let cable = cluster.network.cable.as_ref().expect("a slow link was asked for");
        cable.set_delay(Duration::from_millis(millis));
    };
    trial.inject(|cluster| delay(cluster, 100));
    trial.reach();
    trial.end(|trial| delay(&trial.cluster, 0));
}
