//! How an agent stops.

use std::time::{Duration, Instant};

use wylis_harness::mesh::Mesh;
use wylis_harness::{http, wait_until};

use super::{FAST, binary};

#[test]
fn sigterm_drains_notifies_the_peers_and_exits_zero() {
    // No probe is due meanwhile: only the goodbye can reach the peers.
    let mut mesh = Mesh::of(3, &binary(), &[("WYLIS_INTERVAL", "10m"), ("WYLIS_DRAIN", "3s")]);
    let address = mesh.agent("n1").address;
    let begun = Instant::now();
    mesh.begin_delete("n1");
    wait_until(Duration::from_secs(2), "readiness ends", || {
        http::get(address, "/readyz").is_ok_and(|answer| answer.status == 503)
    });
    for other in ["n2", "n3"] {
        wait_until(Duration::from_secs(2), "the goodbye arrives", || {
            mesh.agent(other).peer("n1")["verdict"] == "draining"
        });
    }
    let answer = http::get(address, "/keepalive").unwrap();
    assert_eq!((answer.status, answer.header("Wylis-Draining")), (204, Some("1")));
    assert_eq!(http::get(address, "/healthz").unwrap().status, 200, "draining is healthy");
    let status = mesh.finish_delete("n1", Duration::from_secs(20)).unwrap();
    assert!(status.success(), "{status}\n{}", mesh.logs());
    assert!(begun.elapsed() >= Duration::from_secs(3), "it ended before the drain");
    wait_until(Duration::from_secs(60), "n1 leaves", || mesh.agent("n2").peer("n1").is_null());
    assert!(mesh.agent("n2").metrics().of_node("n1").is_empty(), "a series remains");
    assert_eq!(mesh.sum("wylis_probe_failures_total", &[]), 0.0, "{}", mesh.logs());
}

#[test]
fn a_second_signal_ends_the_agent_at_once() {
    let mut mesh = Mesh::of(2, &binary(), &[("WYLIS_DRAIN", "1m")]);
    mesh.begin_delete("n1");
    let address = mesh.agent("n1").address;
    wait_until(Duration::from_secs(5), "the drain begins", || {
        http::get(address, "/readyz").is_ok_and(|answer| answer.status == 503)
    });
    // Two signals close together merge into one: repeat it later.
    let mut status = None;
    wait_until(Duration::from_secs(10), "a later signal ends it", || {
        mesh.agent("n1").terminate();
        status = mesh.finish_delete("n1", Duration::from_millis(300));
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(3), "{}", mesh.logs());
}

#[test]
fn invalid_settings_are_reported_and_nothing_starts() {
    let output = std::process::Command::new(binary())
        .env_clear()
        .args(["--interval", "10", "--drain=1y"])
        .env("WYLIS_TIMEOUT", "0s")
        .env("WYLIS_COLOUR", "red")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    for part in [
        "--interval = \"10\"",
        "--drain = \"1y\"",
        "WYLIS_TIMEOUT = \"0s\"",
        "WYLIS_COLOUR",
        "WYLIS_NODE_NAME",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_port_in_use_is_reported_with_exit_code_one() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let taken = mesh.agent("n1").address.to_string();
    let output = std::process::Command::new(binary())
        .env_clear()
        .args(["--node-name", "x", "--peers", "y=127.0.0.1:1", "--listen", &taken])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&taken) && text.contains("in use"), "{text}");
}
