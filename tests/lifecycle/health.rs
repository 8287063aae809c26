//! The health route reports the agent's own loops, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use wylis_harness::mesh::{Mesh, Net};
use wylis_harness::process::Agent;
use wylis_harness::{TempDir, http, wait_until};

use super::mixed::fixed;
use super::{FAST, binary};

#[test]
fn the_health_route_depends_on_neither_peers_nor_the_api_server() {
    let mut mesh = Mesh::of(2, &binary(), FAST);
    mesh.api.stop();
    mesh.kill("n2");
    mesh.wait_for_verdict("n1", "n2", "down");
    let (status, text) = mesh.agent("n1").get("/healthz").unwrap();
    assert_eq!((status, text.as_str()), (200, "ok\n"));
}

fn is_healthy(agent: &Agent) -> bool {
    agent.get("/healthz").is_some_and(|(status, _)| status == 200)
}

/// Waits until the health route reports the loop as stuck: its longest sleep plus 30 or 60 s without a
/// heartbeat.
fn wait_for_stuck(agent: &Agent, name: &str) {
    wait_until(Duration::from_secs(120), &format!("{name} is reported as stuck"), || {
        !is_healthy(agent)
    });
    let (status, text) = agent.get("/healthz").unwrap();
    assert_eq!(status, 503);
    assert!(text.starts_with(&format!("{name} stuck for ")), "{text:?}");
    // The kubelet decides on a restart; peers still get answers.
    assert_eq!(http::get(agent.address, "/keepalive").unwrap().status, 204);
}

/// The id of the thread with this name.
fn thread(agent: &Agent, name: &str) -> u32 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().flatten();
    let is_named = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let task = tasks.into_iter().find(is_named).unwrap();
    task.file_name().to_str().unwrap().parse().unwrap()
}

#[test]
fn a_hung_loop_is_reported_as_stuck_until_it_continues() {
    let (dir, net) = (TempDir::new("hang"), Net::new());
    let at = |last| SocketAddr::new(net.host(last), 9050);
    let lists = fixed(&dir, "n1", at(1), ("WYLIS_PEERS", &format!("n2={}", at(2))), &[]);
    let loops = fixed(&dir, "n2", at(2), ("WYLIS_PEERS", &format!("n1={}", at(1))), &[]);
    for (agent, peer) in [(&lists, "n2"), (&loops, "n1")] {
        wait_until(Duration::from_secs(20), peer, || {
            agent.peer(peer)["successes"].as_u64() >= Some(1)
        });
        assert!(is_healthy(agent));
    }
    // As if its list were on a hung network file system; the agent's loop runs in the main thread.
    let held = [lists.hold_thread(thread(&lists, "discovery")), loops.hold_thread(loops.pid())];
    wait_for_stuck(&loops, "agent");
    wait_for_stuck(&lists, "discovery");
    drop(held);
    for agent in [&loops, &lists] {
        wait_until(Duration::from_secs(30), "it is healthy again", || is_healthy(agent));
    }
}
