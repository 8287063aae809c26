//! Faults of a cable: delay, jitter, order, duplicates, corruption, short outages.

use std::time::Duration;

use wylis_harness::device::Weather;

use super::table::{self, Case, Scope};
use super::trial::Trial;
use crate::mesh::TunnelMesh;
use crate::network::{Topology, underlay};

/// A mesh with the case's weather on the link of B, for frames of A only if the case is about the pair.
fn begin(case: &'static Case, weather: Weather) -> Option<Trial> {
    let topology = Topology { slow_link: Some(2), ..Topology::of(3) };
    let mut trial = Trial::begin_with(case, topology)?;
    let only = (case.scope == Scope::Pair).then_some(underlay(1));
    trial.inject(|mesh| set(mesh, Weather { only, ..weather }));
    Some(trial)
}

fn set(mesh: &TunnelMesh, weather: Weather) {
    mesh.network.cable.as_ref().expect("a cable was asked for").set(weather);
}

/// Runs a case that must reach its verdicts.
fn told(case: &'static Case, weather: Weather) {
    let Some(mut trial) = begin(case, weather) else { return };
    trial.wait_for_verdicts();
    trial.end(|trial| set(&trial.mesh, Weather::default()));
}

/// Runs a case that must keep its verdicts over the time of a partial fault.
fn harmless(case: &'static Case, weather: Weather) {
    let Some(mut trial) = begin(case, weather) else { return };
    trial.wait_for_verdicts();
    let limit = case.within;
    trial.observe_until("a partial fault's time", |_, elapsed| elapsed > limit);
    trial.assert_verdicts();
    trial.end(|trial| set(&trial.mesh, Weather::default()));
}

fn delayed(millis: u64) -> Weather {
    Weather { delay: Duration::from_millis(millis), ..Weather::default() }
}

#[test]
fn delay_on_one_link() {
    told(table::DELAY, delayed(100));
}

#[test]
fn round_trip_of_1_2_seconds() {
    harmless(table::RTT_1_2, delayed(600));
}

#[test]
#[ignore = "slow: make test-long"]
fn round_trip_of_2_2_seconds() {
    harmless(table::RTT_2_2, delayed(1100));
}

#[test]
#[ignore = "slow: make test-long"]
fn round_trip_of_4_seconds() {
    told(table::RTT_4, delayed(2000));
}

#[test]
#[ignore = "slow: make test-long"]
fn jitter() {
    harmless(table::JITTER, Weather { jitter: Duration::from_millis(100), ..Weather::default() });
}

#[test]
#[ignore = "slow: make test-long"]
fn packets_out_of_order() {
    harmless(table::REORDERED, late(150));
}

#[test]
#[ignore = "slow: make test-long"]
fn packets_later_than_the_retransmission_timer() {
    harmless(table::LATE, late(300));
}

/// One frame in ten late by so many milliseconds.
fn late(millis: u64) -> Weather {
    Weather { late: (10, Duration::from_millis(millis)), ..Weather::default() }
}

#[test]
#[ignore = "slow: make test-long"]
fn duplicated_packets() {
    harmless(table::DUPLICATED, Weather { duplicated: 33, ..Weather::default() });
}

#[test]
#[ignore = "slow: make test-long"]
fn corrupted_packets() {
    told(table::CORRUPTED, Weather { corrupted: 10, ..Weather::default() });
}

/// Dead for so long of each period, in milliseconds.
fn dead(millis: u64, period: u64) -> Weather {
    let dead = (Duration::from_millis(millis), Duration::from_millis(period));
    Weather { dead: Some(dead), ..Weather::default() }
}

#[test]
#[ignore = "slow: make test-long"]
fn link_dead_for_a_second_of_ten() {
    told(table::BURST, dead(1000, 10_000));
}

#[test]
#[ignore = "slow: make test-long"]
fn link_dead_for_a_fifth_of_each_two_seconds() {
    told(table::SHORT_BURST, dead(400, 2000));
}
