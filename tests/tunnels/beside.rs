//! What agents find beside their probes: the host behind a peer, and flows that never get through.

use std::time::{Duration, Instant};

use serde_json::Value;
use wylis_harness::wait_until;

use super::faults::{Fault, drops};
use super::mesh::{TunnelMesh, node};
use super::network::{Topology, pods_of};

const SETTINGS: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1600ms"),
    ("WYLIS_TIMEOUT", "1500ms"),
    ("WYLIS_LARGE_INTERVAL", "0s"),
    ("WYLIS_DRAIN", "1s"),
];
/// An experiment that this busy machine spoils is made again after a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// A rule for what hosts are asked, counted as `asked`.
fn of_questions(verdict: &str) -> String {
    format!(
        "counter asked {{ }}
chain host {{
  type filter hook input priority filter; policy accept;
  iifname \"eth0\" tcp dport 9050 counter name asked {verdict}
}}"
    )
}

/// The state of the host behind a peer, and when it was found.
fn host(mesh: &TunnelMesh, source: u8, target: u8) -> Option<(String, f64)> {
    let peer = mesh.agents.agent(&node(source)).peer(&node(target));
    let state = peer["host"]["state"].as_str()?;
    Some((state.to_owned(), peer["host"]["at"].as_f64().unwrap()))
}

#[test]
fn a_host_that_lives_is_told_from_one_that_is_dead_and_one_that_is_filtered() {
    let (mut filtered, mut rejecting) = (None, None);
    let mesh = TunnelMesh::with_hosts(Topology::of(6), SETTINGS, |mesh| {
        let network = &mesh.network;
        filtered = Some(Fault::put(&network.host(4).namespace, &of_questions("drop")));
        let reject = of_questions("reject with icmp type admin-prohibited");
        rejecting = Some(Fault::put(&network.host(5).namespace, &reject));
    });
    let (Some(mesh), Some(filtered), Some(rejecting)) = (mesh, filtered, rejecting) else { return };
    let state = |target| host(&mesh, 1, target).map(|(state, _)| state);
    wait_until(PATIENCE, "a baseline of all hosts", || {
        let known = [2, 3, 5, 6].iter().all(|target| state(*target).as_deref() == Some("answers"));
        known && filtered.packets("asked") >= 2 && rejecting.packets("asked") >= 1
    });
    assert_eq!(state(4), None, "it never answered");

    let began = Instant::now();
    // Dead; without its pod network; both filtered ones; filtered from now on.
    mesh.network.switch.ip("link set p2 down\n");
    (3..=6).for_each(|number| mesh.connect_pod(number, false));
    let late = Fault::put(&mesh.network.host(6).namespace, &of_questions("drop"));
    let expected = [(2, "silent"), (3, "answers"), (5, "answers"), (6, "silent")];
    let down = |target: u8| mesh.agents.agent("n1").peer(&node(target))["verdict"] == "down";
    wait_until(PATIENCE, "verdicts and states of hosts", || {
        let told = expected.iter().all(|(target, word)| state(*target).as_deref() == Some(*word));
        told && (2..=6).all(down)
    });
    println!("tunnels: hosts of five peers that are down known after {:.1?}", began.elapsed());
    assert_eq!(state(4), None, "it never answered");
    assert!(late.packets("asked") > 0);
    // n2 itself is cut off: it reaches no host, and blames each.
    wait_until(PATIENCE, "the view of the node that is cut off", || {
        host(&mesh, 2, 3).is_some_and(|(state, _)| state == "silent")
    });

    let before = host(&mesh, 1, 2).unwrap().1;
    mesh.network.switch.ip("link set p2 up\n");
    (3..=6).for_each(|number| mesh.connect_pod(number, true));
    drop(late);
    for target in 2..=6 {
        mesh.agents.wait_for_verdict("n1", &node(target), "up");
    }
    // What was found during the outage is gone.
    assert!(host(&mesh, 1, 2).is_none_or(|(state, at)| state == "answers" && at > before));
}

/// Loses 30 % of the packets of connections from one node to another, in each direction.
fn loss(source: u8, target: u8) -> String {
    let (from, to) = (pods_of(source), pods_of(target));
    format!(
        "chain path {{
  type filter hook forward priority filter; policy accept;
  ip saddr {from} ip daddr {to} tcp dport 9050 numgen random mod 100 < 30 drop
  ip saddr {to} ip daddr {from} tcp sport 9050 numgen random mod 100 < 30 drop
}}"
    )
}

#[test]
#[ignore = "slow: make test-long"]
fn flows_that_never_get_through_are_told_from_loss_at_random() {
    let Some(mesh) = TunnelMesh::new(Topology::of(3), SETTINGS) else { return };
    for pod in mesh.pods.values() {
        // 32 even ports, which the kernel prefers for connections: so that 16 of them are a fair sample.
        pod.namespace.sysctl("ipv4/ip_local_port_range", "40000 40063");
    }
    let host = |number| &mesh.network.host(number).namespace;
    let began = Instant::now();
    let _half = Fault::put(host(1), &drops(&[(1, 2, "tcp sport & 3 == 0")]));
    let _quarter = Fault::put(host(2), &drops(&[(2, 3, "tcp sport & 7 == 0")]));
    let _lossy = Fault::put(host(3), &loss(3, 1));
    let peer = |source: u8, target: u8| mesh.agents.agent(&node(source)).peer(&node(target));
    let dead = |source, target| -> Option<(u64, u64)> {
        let flows: Value = peer(source, target)["flows"].clone();
        Some((flows["dead"].as_u64()?, flows["tried"].as_u64()?))
    };
    let mut was_flaky = false;
    let mut found = (None, None);
    wait_until(PATIENCE, "dead flows", || {
        was_flaky |= peer(3, 1)["verdict"] == "flaky";
        assert_eq!(dead(3, 1), None, "{}", mesh.agents.logs());
        found = (found.0.or(dead(1, 2)), found.1.or(dead(2, 3)));
        found.0.is_some() && found.1.is_some()
    });
    println!(
        "tunnels: 1 of 2: {:?}, 1 of 4: {:?}, after {:.1?}",
        found.0,
        found.1,
        began.elapsed()
    );
    let (half_found, quarter_found) = (found.0.unwrap(), found.1.unwrap());
    assert!((4..=12).contains(&half_found.0) && half_found.1 == 16, "{half_found:?}");
    assert!((1..=8).contains(&quarter_found.0) && quarter_found.1 == 16, "{quarter_found:?}");
    // Long enough for its flows to be repeated.
    let end = Instant::now() + Duration::from_secs(15);
    wait_until(PATIENCE, "the lossy path is flaky for a while", || {
        was_flaky |= peer(3, 1)["verdict"] == "flaky";
        assert_eq!(dead(3, 1), None, "{}", mesh.agents.logs());
        was_flaky && Instant::now() > end
    });
}
