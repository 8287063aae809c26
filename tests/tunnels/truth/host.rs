//! Faults of the agent's own host: it must accuse nobody.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use wylis_harness::netns::feed;
use wylis_harness::process::Agent;
use wylis_harness::skip;

use super::INTERVAL;
use super::table;
use super::trial::Trial;
use crate::quota::Quota;

/// Many slots of every peer, and longer than anybody may be silent before that is told.
const A_WHILE: Duration = INTERVAL.saturating_mul(9);

/// What the agent of B counted against itself; 0 when it does not answer.
fn local(agent: &Agent, reason: &str) -> f64 {
    agent.metrics().sum("wylis_local_errors_total", &[&format!("reason=\"{reason}\"")])
}

#[test]
fn agent_starved_of_cpu() {
    let Some(mut trial) = Trial::begin(table::STARVED) else { return };
    trial.watch.blind.insert(2);
    let quota = trial.inject(|cluster| Quota::starve(cluster.mesh.agent("n2").pid()));
    let quota = match quota {
        Ok(quota) => quota,
        Err(reason) => return skip(&format!("no quota of CPU: {reason}")),
    };
    trial.until("a while", |_, elapsed| elapsed > A_WHILE);
    let trial = trial.end(|trial| {
        drop(quota);
        trial.watch.blind.clear();
    });
    let agent = trial.cluster.mesh.agent("n2");
    let metrics = agent.metrics();
    let skipped = metrics.sum("wylis_probes_skipped_total", &[]);
    let late = metrics.sum("wylis_schedule_delay_seconds_count", &[])
        - metrics.sum("wylis_schedule_delay_seconds_bucket", &["le=\"0.5\""]);
    let own = local(agent, "late");
    println!("truth: starved: {skipped} slots skipped, {late} later than 0.5 s, {own} local");
    assert!(skipped + late > 0.0, "lateness or skips tell: {}", agent.log());
}

/// The lowest number that no descriptor of the process has, over some looks: with it as the limit,
/// the process cannot open another.
fn lowest_free(pid: u32) -> u64 {
    let look = |_| {
        let names = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let used: Vec<u64> =
            names.filter_map(|name| name.file_name().to_str()?.parse().ok()).collect();
        std::thread::sleep(Duration::from_millis(20));
        (0..).find(|number| !used.contains(number)).unwrap()
    };
    (0..50).map(look).min().unwrap()
}

#[test]
fn descriptors_used_up() {
    let Some(mut trial) = Trial::begin(table::DESCRIPTORS) else { return };
    let pid = trial.cluster.mesh.agent("n2").pid();
    let limit = |soft: u64| {
        // As the agent's own user: root may lack the privilege to change the limits of others.
        let (pid, limit) = (format!("--pid={pid}"), format!("--nofile={soft}:"));
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "prlimit"];
        feed("setpriv", &[&user[..], &[pid.as_str(), limit.as_str()]].concat(), "");
    };
    // It cannot accept who looks either.
    trial.watch.blind.insert(2);
    trial.inject(|_| limit(lowest_free(pid)));
    trial.until("a while", |_, elapsed| elapsed > A_WHILE);
    let trial = trial.end(|trial| {
        limit(1024);
        trial.watch.blind.clear();
    });
    let agent = trial.cluster.mesh.agent("n2");
    let own = local(agent, "no_descriptors");
    println!("truth: descriptors: {own} local errors");
    assert!(own >= 3.0, "{}", agent.log());
}

#[test]
fn ports_used_up() {
    let Some(mut trial) = Trial::begin(table::PORTS) else { return };
    // Who looks needs a port as well, and must not take one there.
    let host = trial.cluster.network.host(2).namespace.entrance();
    trial.cluster.mesh.agent_mut("n2").ask_from(host);
    let ports = [61_000_u16, 61_001];
    let taken = trial.inject(|cluster| {
        let pod = &cluster.pods[&2].namespace;
        pod.sysctl("ipv4/ip_local_port_range", "61000 61001");
        let take = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        pod.entrance().within(|| ports.map(take))
    });
    trial.until("a while", |_, elapsed| elapsed > A_WHILE);
    let own = local(trial.cluster.mesh.agent("n2"), "no_ports");
    println!("truth: ports: {own} local errors");
    assert!(own >= 3.0, "{}", trial.cluster.mesh.agent("n2").log());
    trial.end(|trial| {
        drop(taken);
        trial.cluster.pods[&2].namespace.sysctl("ipv4/ip_local_port_range", "32768 60999");
    });
}
