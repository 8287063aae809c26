//! Surveys that are cut short: every pair is probed again within two intervals.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wylis::survey::State;
use wylis_harness::wait_until;

use super::run::{FAST, INTERVAL, Survey, command, status};
use crate::mesh::{TunnelMesh, node};
use crate::network::Topology;

/// A rest that no test waits for.
const LONG: &[u64] = &[60_000];
/// Two intervals, and what a busy machine needs. A rest that ends by itself takes 20 times as long.
const SOON: Duration = INTERVAL.saturating_mul(2).saturating_add(Duration::from_secs(4));

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Waits for a probe of every ordered pair of these nodes that ended after this moment.
fn probed_again(mesh: &TunnelMesh, nodes: &[u8], since: f64, what: &str) {
    let pairs = nodes.iter().flat_map(|one| nodes.iter().map(move |other| (*one, *other)));
    let pairs: Vec<(u8, u8)> = pairs.filter(|(one, other)| one != other).collect();
    wait_until(SOON, what, || {
        pairs.iter().all(|(source, target)| {
            let peer = mesh.agents.agent(&node(*source)).peer(&node(*target));
            peer["last_success"].as_f64().is_some_and(|at| at > since)
        })
    });
    println!("survey, {what}: every pair probed again after {:.1} s", now() - since);
}

/// Three nodes, of which 1 and 2 rest.
fn resting(settings: &[(&str, &str)]) -> Option<TunnelMesh> {
    let mesh = TunnelMesh::new(Topology::of(3), &[FAST, settings].concat())?;
    Survey::start(&mesh, 1, "n2", LONG).wait_for_rest();
    let rests = |source: u8, target: u8| {
        let agent = mesh.agents.agent(&node(source));
        agent.peer(&node(target))["surveyed"] == true
    };
    wait_until(Duration::from_secs(10), "both say so", || rests(1, 2) && rests(2, 1));
    Some(mesh)
}

#[test]
fn a_stopped_survey_ends_the_rest_at_once() {
    let Some(mesh) = resting(&[]) else { return };
    let verdicts = [(1, 2), (2, 1)].map(|(source, target): (u8, u8)| {
        mesh.agents.agent(&node(source)).peer(&node(target))["verdict"].clone()
    });
    assert!(verdicts.iter().all(|verdict| *verdict == "up"), "{verdicts:?}");
    let since = now();
    command(&mesh, 1, &["--stop"]).unwrap();
    probed_again(&mesh, &[1, 2, 3], since, "stopped");
    assert_eq!(status(&mesh, 1).unwrap().state, State::Stopped);
}

#[test]
fn a_killed_surveyor_is_probed_again_once_it_is_back() {
    let Some(mut mesh) = resting(&[]) else { return };
    let pod = mesh.agents.kill("n1");
    let killed = now();
    probed_again(&mesh, &[2, 3], killed, "the others beside a killed surveyor");
    mesh.restart(1, &pod);
    wait_until(Duration::from_secs(20), "it answers", || {
        mesh.agents.agent("n1").get("/readyz").is_some()
    });
    probed_again(&mesh, &[1, 2, 3], now(), "a killed surveyor came back");
}

#[test]
fn a_killed_peer_is_probed_again_once_it_is_back() {
    let Some(mut mesh) = resting(&[]) else { return };
    let pod = mesh.agents.kill("n2");
    let killed = now();
    probed_again(&mesh, &[1, 3], killed, "the others beside a killed peer");
    mesh.restart(2, &pod);
    wait_until(Duration::from_secs(20), "it answers", || {
        mesh.agents.agent("n2").get("/readyz").is_some()
    });
    probed_again(&mesh, &[1, 2, 3], now(), "a killed peer came back");
}

#[test]
fn a_rolling_update_ends_every_rest() {
    let Some(mut mesh) = resting(&[("WYLIS_REFRESH_INTERVAL", "2s")]) else { return };
    for number in [2, 1, 3] {
        mesh.agents.delete(&node(number));
        mesh.add(number);
    }
    mesh.agents.wait_for_all_pairs();
    probed_again(&mesh, &[1, 2, 3], now(), "a rolling update");
    assert_eq!(mesh.agents.sum("wylis_probe_failures_total", &[]), 0.0, "{}", mesh.agents.logs());
}

#[test]
fn a_survey_needs_no_api_server() {
    let settings = [FAST, &[("WYLIS_REFRESH_INTERVAL", "1s")]].concat();
    let Some(mut mesh) = TunnelMesh::new(Topology::of(3), &settings) else { return };
    mesh.agents.api.stop();
    let survey = Survey::start(&mesh, 1, "n2", &[3000]);
    survey.finish();
    probed_again(&mesh, &[1, 2, 3], now(), "a survey without the API server");
    assert_eq!(mesh.agents.sum("wylis_probe_failures_total", &[]), 0.0, "{}", mesh.agents.logs());
}
