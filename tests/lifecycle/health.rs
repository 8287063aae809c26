//! What the health route tells: of the agent's own loops, and of nobody else.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use wylis_harness::mesh::{Mesh, Net};
use wylis_harness::process::Agent;
use wylis_harness::{TempDir, http, wait_until};

use super::mixed::fixed;
use super::{FAST, binary};

#[test]
fn the_health_route_asks_neither_peers_nor_the_api_server() {
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

/// Waits until the health route calls that loop stuck. A loop owes a sign of life after its longest
/// sleep and half a minute's or a minute's patience.
fn is_stuck(agent: &Agent, name: &str) {
    wait_until(Duration::from_secs(120), &format!("{name} is called stuck"), || !is_healthy(agent));
    let (status, told) = agent.get("/healthz").unwrap();
    assert_eq!(status, 503);
    assert!(told.starts_with(&format!("{name} stuck for ")), "{told:?}");
    // Whether it is started again is the kubelet's affair: its peers hear nothing of it.
    assert_eq!(http::get(agent.address, "/keepalive").unwrap().status, 204);
}

#[test]
fn a_loop_that_hangs_is_called_stuck_until_it_goes_on() {
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
    // Whoever opens a pipe waits for its other end, as for a network file system that hangs.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(&pipe, &file).unwrap();
    // The agent's own loop runs in the main thread.
    let held = loops.hold_thread(loops.pid());
    is_stuck(&loops, "agent");
    is_stuck(&lists, "discovery");
    drop(held);
    std::fs::write(&file, &list).unwrap();
    std::fs::write(&other, &list).unwrap();
    std::fs::rename(&other, &file).unwrap();
    for agent in [&loops, &lists] {
        wait_until(Duration::from_secs(30), "it is healthy again", || is_healthy(agent));
    }
}
