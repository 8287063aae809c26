//! Faults that only some packets or connections between A and B meet.

use std::time::Duration;

use super::path::{by_rules, put};
use super::table::{self, Case};
use super::trial::Trial;
use crate::faults::{drops, rejects};

/// A's SYNs to B's agent.
const NEW: &str = "tcp dport 9050 tcp flags & (syn | ack) == syn";

/// Refuses one of so many connections from A to B.
fn refused(one_of: u32) -> String {
    rejects(1, 2, &format!("{NEW} numgen inc mod {one_of} == 0"), "tcp reset")
}

#[test]
fn half_of_the_connections_refused() {
    by_rules(table::HALF_REFUSED, 2, &refused(2));
}

#[test]
#[ignore = "slow: make test-long"]
fn a_quarter_of_the_connections_refused() {
    by_rules(table::QUARTER_REFUSED, 2, &refused(4));
}

#[test]
#[ignore = "slow: make test-long"]
fn few_connections_refused() {
    let Some(mut trial) = Trial::begin(table::FEW_REFUSED) else { return };
    let fault = trial.inject(|mesh| put(mesh, 2, &refused(16)));
    // Two refused ones and a third: more than 32 slots.
    trial.observe_until("40 slots", |_, elapsed| elapsed > Duration::from_secs(20));
    trial.end(|_| drop(fault));
}

/// Of A's source ports one of so many is dropped, as by one broken path of several: on the way there or back.
fn ports(case: &'static Case, one_of: u32, back: bool) {
    let hashed = |port: &str| format!("jhash {port} mod {one_of} seed 0x1 == 0");
    let rules = if back {
        drops(&[(2, 1, &format!("tcp sport 9050 {}", hashed("tcp dport")))])
    } else {
        drops(&[(1, 2, &format!("tcp dport 9050 {}", hashed("tcp sport")))])
    };
    by_rules(case, 1, &rules);
}

#[test]
fn half_of_the_source_ports_dropped() {
    ports(table::HALF_OF_PORTS, 2, false);
}

#[test]
#[ignore = "slow: make test-long"]
fn a_quarter_of_the_source_ports_dropped() {
    ports(table::QUARTER_OF_PORTS, 4, false);
}

#[test]
#[ignore = "slow: make test-long"]
fn half_of_the_source_ports_dropped_on_the_way_back() {
    ports(table::HALF_OF_PORTS_BACK, 2, true);
}

#[test]
#[ignore = "slow: make test-long"]
fn a_quarter_of_the_source_ports_dropped_on_the_way_back() {
    ports(table::QUARTER_OF_PORTS_BACK, 4, true);
}

#[test]
fn thirty_per_cent_of_the_answers_lost() {
    // By size: an answer goes out with the FIN, and without PSH.
    let lost = "tcp sport 9050 meta length > 80 numgen random mod 100 < 30";
    by_rules(table::ANSWERS, 1, &drops(&[(2, 1, lost)]));
}

#[test]
#[ignore = "slow: make test-long"]
fn ten_per_cent_lost_in_one_direction() {
    by_rules(table::TEN_PER_CENT, 1, &drops(&[(1, 2, "numgen random mod 100 < 10")]));
}

#[test]
fn large_packets_dropped_from_a_to_b() {
    by_rules(table::MTU_OUT, 1, &drops(&[(1, 2, "meta length > 1200")]));
}

#[test]
#[ignore = "slow: make test-long"]
fn large_packets_dropped_from_b_to_a() {
    by_rules(table::MTU_BACK, 1, &drops(&[(2, 1, "meta length > 1200")]));
}

#[test]
#[ignore = "slow: make test-long"]
fn half_of_the_large_packets_lost() {
    let lost = "meta length > 1000 numgen random mod 2 == 0";
    by_rules(table::MTU_HALF, 1, &drops(&[(1, 2, lost), (2, 1, lost)]));
}
