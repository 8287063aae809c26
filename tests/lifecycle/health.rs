//! The health route reports the agent's own loops, and nothing else.

use std::net::SocketAddr;
use std::process::Command;
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

#[test]
fn a_hung_loop_is_reported_as_stuck_until_it_continues() {
    let (dir, net) = (TempDir::new("hang"), Net::new());
    let at = |last| SocketAddr::new(net.host(last), 9050);
    let [file, pipe, other] = ["peers", "pipe", "other"].map(|name| dir.path().join(name));
    let list = format!("n2={}\n", at(2));
    std::fs::write(&file, &list).unwrap();
    let name = file.display().to_string();
    let lists = fixed(&dir, "n1", at(1), ("WYLIS_PEERS_FILE", &name), &[]);
    let loops = fixed(&dir, "n2", at(2), ("WYLIS_PEERS", &format!("n1={}", at(1))), &[]);
    for (agent, peer) in [(&lists, "n2"), (&loops, "n1")] {
        wait_until(Duration::from_secs(20), peer, || {
            agent.peer(peer)["successes"].as_u64() >= Some(1)
        });
        assert!(is_healthy(agent));
    }
    // Opening a pipe blocks until its other end opens, as on a hung network file system.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(&pipe, &file).unwrap();
    // The agent's loop runs in the main thread.
    let held = loops.hold_thread(loops.pid());
    wait_for_stuck(&loops, "agent");
    wait_for_stuck(&lists, "discovery");
    drop(held);
    std::fs::write(&file, &list).unwrap();
    std::fs::write(&other, &list).unwrap();
    std::fs::rename(&other, &file).unwrap();
    for agent in [&loops, &lists] {
        wait_until(Duration::from_secs(30), "it is healthy again", || is_healthy(agent));
    }
}
