//! Faults of the agent's own host: no verdict on a peer may change.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use wylis_harness::netns::feed;
use wylis_harness::process::Agent;
use wylis_harness::skip;

use super::INTERVAL;
use super::table;
use super::trial::Trial;
use crate::quota::Quota;

/// Many slots of each peer, and longer than any limit on a peer's silence.
const A_WHILE: Duration = INTERVAL.saturating_mul(9);

/// The local errors that the agent of B counted; 0 when it does not answer.
fn local(agent: &Agent, reason: &str) -> f64 {
    agent.metrics().sum("wylis_local_errors_total", &[&format!("reason=\"{reason}\"")])
}

#[test]
fn agent_starved_of_cpu() {
    let Some(mut trial) = Trial::begin(table::STARVED) else { return };
    trial.observer.unasked.insert(2);
    let quota = trial.inject(|mesh| Quota::starve(mesh.agents.agent("n2").pid()));
    let quota = match quota {
        Ok(quota) => quota,
        Err(reason) => return skip(&format!("no CPU quota: {reason}")),
    };
    trial.observe_until("a while", |_, elapsed| elapsed > A_WHILE);
    let trial = trial.end(|trial| {
        drop(quota);
        trial.observer.unasked.clear();
    });
    let agent = trial.mesh.agents.agent("n2");
    let metrics = agent.metrics();
    let skipped = metrics.sum("wylis_probes_skipped_total", &[]);
    let late = metrics.sum("wylis_schedule_delay_seconds_count", &[])
        - metrics.sum("wylis_schedule_delay_seconds_bucket", &["le=\"0.5\""]);
    let own = local(agent, "late");
    println!(
        "truth: starved: {skipped} slots skipped, {late} starts later than 0.5 s, {own} local errors"
    );
    assert!(skipped + late > 0.0, "no skipped slot and no late start: {}", agent.log());
}

/// The lowest free descriptor number of the process, over 150 samples: longer than the agent's connections last. As
/// the limit, it stops the process from opening another descriptor.
fn lowest_free(pid: u32) -> u64 {
    let sample = |_| {
        let names = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let used: Vec<u64> =
            names.filter_map(|name| name.file_name().to_str()?.parse().ok()).collect();
        std::thread::sleep(Duration::from_millis(20));
        (0..).find(|number| !used.contains(number)).unwrap()
    };
    (0..150).map(sample).min().unwrap()
}

#[test]
fn descriptors_used_up() {
    let Some(mut trial) = Trial::begin(table::DESCRIPTORS) else { return };
    let pid = trial.mesh.agents.agent("n2").pid();
    let limit = |soft: u64| {
        // As the agent's user: root may lack the privilege to change limits of other users.
        let (pid, limit) = (format!("--pid={pid}"), format!("--nofile={soft}:"));
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "prlimit"];
        feed("setpriv", &[&user[..], &[pid.as_str(), limit.as_str()]].concat(), "");
    };
    // It cannot accept the observer's connections either.
    trial.observer.unasked.insert(2);
    trial.inject(|_| limit(lowest_free(pid)));
    trial.observe_until("a while", |_, elapsed| elapsed > A_WHILE);
    let trial = trial.end(|trial| {
        limit(1024);
        trial.observer.unasked.clear();
    });
    let agent = trial.mesh.agents.agent("n2");
    let own = local(agent, "no_descriptors");
    println!("truth: descriptors: {own} local errors");
    assert!(own >= 3.0, "{}", agent.log());
}

#[test]
fn ports_used_up() {
    let Some(mut trial) = Trial::begin(table::PORTS) else { return };
    // The observer's connections must not use the pod's last ports.
    let host = trial.mesh.network.host(2).namespace.entrance();
    trial.mesh.agents.agent_mut("n2").request_from(host);
    let ports = [61_000_u16, 61_001];
    let taken = trial.inject(|mesh| {
        let pod = &mesh.pods[&2].namespace;
        pod.sysctl("ipv4/ip_local_port_range", "61000 61001");
        let take = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        pod.entrance().within(|| ports.map(take))
    });
    trial.observe_until("a while", |_, elapsed| elapsed > A_WHILE);
    let own = local(trial.mesh.agents.agent("n2"), "no_ports");
    println!("truth: ports: {own} local errors");
    assert!(own >= 3.0, "{}", trial.mesh.agents.agent("n2").log());
    trial.end(|trial| {
        drop(taken);
        trial.mesh.pods[&2].namespace.sysctl("ipv4/ip_local_port_range", "32768 60999");
    });
}
