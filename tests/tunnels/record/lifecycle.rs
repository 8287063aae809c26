//! Situations without a network fault: nodes and agents start and stop, lists are wrong or late,
//! Prometheus is away. Agents run on loopback addresses.

use std::time::Duration;

use wylis_harness::api::TestPod;
use wylis_harness::manifest;
use wylis_harness::mesh::Mesh;

use super::recorder::Recorder;
use super::{MOST, PAIR, STRETCH, settings};
use crate::binary;

/// A mesh without agents.
fn empty(stretch: u32) -> Mesh {
    empty_with(stretch, &[])
}

/// The same with more environment.
fn empty_with(stretch: u32, environment: &[(&str, &str)]) -> Mesh {
    let settings = settings(stretch);
    let settings = settings.iter().map(|(name, value)| (*name, value.as_str()));
    let all: Vec<_> = settings.chain(environment.iter().copied()).collect();
    Mesh::new(&binary(), &all)
}

/// A mesh of `nodes` nodes, after the first probe of every pair.
fn mesh(nodes: u8, stretch: u32) -> Mesh {
    let mut mesh = empty(stretch);
    (1..=nodes).for_each(|number| mesh.add(&format!("n{number}")));
    mesh.wait_for_all_pairs();
    mesh
}

#[test]
#[ignore = "make recordings"]
fn recorded_healthy() {
    let mesh = mesh(PAIR, STRETCH);
    let mut recorder = Recorder::begin("healthy", "All is well.", STRETCH);
    recorder.minutes(&mesh, 40);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_single_node() {
    let mesh = mesh(1, STRETCH);
    let mut recorder = Recorder::begin("single_node", "A cluster of one node.", STRETCH);
    recorder.minutes(&mesh, 40);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_two_nodes_one_killed() {
    let mut mesh = mesh(2, STRETCH);
    let about = "Of two nodes, n2 loses its power.";
    let mut recorder = Recorder::begin("two_nodes_one_killed", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("fault");
    let pod = mesh.kill("n2");
    recorder.minutes(&mesh, 15);
    recorder.mark("cure");
    mesh.restart_in_place("n2", &pod);
    recorder.minutes(&mesh, 20);
    recorder.end();
}

/// Deletes the nodes' pods, and scrapes their agents while they drain.
fn delete(recorder: &mut Recorder, mesh: &mut Mesh, nodes: &[String]) {
    nodes.iter().for_each(|node| mesh.begin_delete(node));
    for node in nodes {
        recorder.until(mesh, "the agent ends in time", |mesh| {
            let status = mesh.finish_delete(node, Duration::ZERO);
            assert!(status.is_none_or(|status| status.success()), "{node}: {status:?}");
            status.is_some()
        });
    }
}

#[test]
#[ignore = "make recordings"]
fn recorded_rolling_update() {
    let mut mesh = mesh(MOST, STRETCH);
    let about = "A rolling update of all agents, as the manifest has it: each gets its SIGTERM.";
    let mut recorder = Recorder::begin("rolling_update", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("update");
    for node in mesh.names() {
        delete(&mut recorder, &mut mesh, std::slice::from_ref(&node));
        mesh.add(&node);
        let ready = std::time::Instant::now() + manifest::min_ready();
        recorder.until(&mut mesh, "the successor is probed by all", |mesh| {
            std::time::Instant::now() > ready && mesh.unprobed_pairs().is_empty()
        });
    }
    recorder.mark("updated");
    recorder.minutes(&mesh, 20);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_agent_crashing() {
    /// Scrapes without an answer: the kubelet's back-off grows to five minutes.
    const GONE: [u32; 9] = [1, 1, 2, 3, 5, 10, 10, 10, 10];
    let mut mesh = mesh(MOST, STRETCH);
    let about = "The agent on n4 crashes whenever it has run for half a minute.";
    let mut recorder = Recorder::begin("agent_crashing", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("fault");
    for (count, gone) in GONE.iter().enumerate() {
        let pod = mesh.kill("n4");
        recorder.scrapes(&mesh, *gone);
        if count + 1 == GONE.len() {
            recorder.mark("cure");
        }
        mesh.restart_in_place("n4", &pod);
        recorder.scrapes(&mesh, 1);
    }
    recorder.minutes(&mesh, 20);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_door_not_held() {
    /// Shorter than a scrape's pause and the timeout of 20 slots, longer than three intervals.
    const SUSPENDED: u32 = 2;
    let mut mesh = empty_with(STRETCH, &[("WYLIS_FAILURE_THRESHOLD", "20")]);
    (1..=PAIR).for_each(|number| mesh.add(&format!("n{number}")));
    mesh.wait_for_all_pairs();
    let about = "The agent on n1 is suspended for a minute; 20 failures in a row make a peer down.";
    let mut recorder = Recorder::begin("door_not_held", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("fault");
    mesh.agent("n1").signal(libc::SIGSTOP);
    recorder.scrapes(&mesh, SUSPENDED);
    mesh.agent("n1").signal(libc::SIGCONT);
    recorder.minutes(&mesh, 25);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_node_deleted() {
    let mut mesh = mesh(MOST, STRETCH);
    let about = "The Node object of n4 is deleted, and with it its pod, which gets no SIGTERM.";
    let mut recorder = Recorder::begin("node_deleted", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("deleted");
    let pod = mesh.kill("n4");
    mesh.pods.remove(&pod);
    recorder.minutes(&mesh, 30);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_pod_deleted() {
    let mut mesh = mesh(MOST, STRETCH);
    let about = "The pod on n4 is deleted, and its successor comes.";
    let mut recorder = Recorder::begin("pod_deleted", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("deleted");
    delete(&mut recorder, &mut mesh, &["n4".to_owned()]);
    recorder.minutes(&mesh, 1);
    mesh.add("n4");
    recorder.minutes(&mesh, 30);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_uninstalled() {
    let mut mesh = mesh(PAIR, STRETCH);
    let about = "The DaemonSet is deleted.";
    let mut recorder = Recorder::begin("uninstalled", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("fault");
    let nodes = mesh.names();
    delete(&mut recorder, &mut mesh, &nodes);
    recorder.minutes(&mesh, 25);
    recorder.end();
}

/// Records an outage of the API server of `away` minutes.
fn api_server_away(name: &'static str, about: &'static str, away: u32) {
    // The pauses between retries are not stretched: up to one minute.
    let stretch = STRETCH / 2;
    let mut mesh = mesh(PAIR, stretch);
    let mut recorder = Recorder::begin(name, about, stretch);
    recorder.minutes(&mesh, 5);
    recorder.mark("fault");
    mesh.api.stop();
    recorder.minutes(&mesh, away);
    recorder.mark("cure");
    mesh.api.restart();
    recorder.minutes(&mesh, 20);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_api_server_away() {
    api_server_away("api_server_away", "The API server is away for 35 minutes.", 35);
}

#[test]
#[ignore = "make recordings"]
fn recorded_api_server_restarted() {
    api_server_away("api_server_restarted", "The API server is away for 8 minutes.", 8);
}

#[test]
#[ignore = "make recordings"]
fn recorded_agent_restarted() {
    let mut mesh = mesh(MOST, STRETCH);
    let about = "The agent on n4 crashes, and is back after a minute and a half.";
    let mut recorder = Recorder::begin("agent_restarted", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("fault");
    let pod = mesh.kill("n4");
    recorder.scrapes(&mesh, 3);
    recorder.mark("cure");
    mesh.restart_in_place("n4", &pod);
    recorder.minutes(&mesh, 25);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_prometheus_restarted() {
    let mesh = mesh(PAIR, STRETCH);
    let about = "All is well; Prometheus is away for 3 minutes, and later for 10.";
    let mut recorder = Recorder::begin("prometheus_restarted", about, STRETCH);
    for gap in [3, 10] {
        recorder.minutes(&mesh, 10);
        recorder.mark("gap");
        recorder.gap(gap);
    }
    recorder.minutes(&mesh, 25);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_agent_pending() {
    let mesh = mesh(PAIR, STRETCH);
    let about = "A new node's pod is pending for 25 minutes, and then goes.";
    let mut recorder = Recorder::begin("agent_pending", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("fault");
    let mut pod = TestPod::new("wylis-pending", "n4", "127.0.0.4");
    pod.ips.clear();
    pod.phase = "Pending".to_owned();
    pod.ready = false;
    mesh.pods.put(pod);
    recorder.minutes(&mesh, 25);
    recorder.mark("cure");
    mesh.pods.remove("wylis-pending");
    recorder.minutes(&mesh, 10);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_agent_not_probing() {
    let mut mesh = empty(STRETCH);
    (1..PAIR).for_each(|number| mesh.add(&format!("n{number}")));
    // Only its own entry.
    mesh.add_with("n3", &[("WYLIS_PEERS", "n3=127.0.0.3:9050")]);
    let about = "The agent on n3 has a fixed list of its own, without any other node.";
    let mut recorder = Recorder::begin("agent_not_probing", about, STRETCH);
    recorder.minutes(&mesh, 40);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_peer_missing_in_one_list() {
    let mut mesh = empty(STRETCH);
    let file = mesh.dir().join("peers");
    let name = file.display().to_string();
    mesh.add("n1");
    mesh.add_with("n2", &[("WYLIS_PEERS_FILE", name.as_str())]);
    mesh.add("n3");
    let entry = |mesh: &Mesh, node: &str| format!("{node}={}\n", mesh.agent(node).address);
    let (first, third) = (entry(&mesh, "n1"), entry(&mesh, "n3"));
    std::fs::write(&file, format!("{first}{third}")).unwrap();
    mesh.wait_for_all_pairs();
    let about = "The agent on n2 has a fixed list of its own, from which n1 is taken out.";
    let mut recorder = Recorder::begin("peer_missing_in_one_list", about, STRETCH);
    recorder.minutes(&mesh, 5);
    recorder.mark("fault");
    std::fs::write(&file, &third).unwrap();
    recorder.minutes(&mesh, 20);
    recorder.mark("cure");
    std::fs::write(&file, format!("{first}{third}")).unwrap();
    recorder.minutes(&mesh, 10);
    recorder.end();
}
