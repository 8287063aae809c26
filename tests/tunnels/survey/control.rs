//! The paths themselves, with a plain TCP client and without agents.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::paths::{ColdPath, Toll};
use crate::network::{Network, Overlay};
use crate::workload::Link;

/// Longer than any path's toll.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a connection over a lossy path may take to count as made at once.
const AT_ONCE: Duration = Duration::from_millis(400);
/// For how long a path without a rule is tried.
const NEVER: Duration = Duration::from_secs(3);

/// A connection over a warm path takes less than this, and over a cold one more: on a busy machine too.
fn soon(toll: Toll) -> Duration {
    match toll {
        Toll::Held(time) if time < Duration::from_secs(1) => time.mul_f64(0.8),
        _ => Duration::from_millis(900),
    }
}

/// Connects from host 1 and from host 2 until neither suffers: host 1 first, which opens a NAT.
fn warm(links: &[Link; 2], soon: Duration) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !links.iter().all(|link| link.connect(PATIENCE).is_some_and(|took| took < soon)) {
        assert!(Instant::now() < deadline, "the path does not become warm");
    }
}

/// Whether a connection fared as a path with this toll says.
fn paid(toll: Toll, took: Option<Duration>) -> bool {
    match (toll, took) {
        (Toll::Lost, Some(took)) => took >= Duration::from_millis(950),
        (Toll::Held(time), Some(took)) => took >= time && took < time + Duration::from_secs(1),
        (Toll::Barred, None) => true,
        _ => false,
    }
}

/// The first connection of each host after silence: a tenth shorter than the path bears, and a tenth longer.
fn follows_its_rule(path: &ColdPath) {
    let Some(network) = Network::new(path.topology) else { return };
    network.shake_hands();
    let links = [Link::new(&network, 1, 2), Link::new(&network, 2, 1)];
    let laid = path.lay(&network);
    let soon = soon(path.toll);
    let silence = path.after.iter().flatten().next().copied().unwrap_or(NEVER);
    for (link, after) in links.iter().zip(path.after) {
        for (gap, is_cold) in
            [(silence.mul_f64(0.9), false), (silence.mul_f64(1.1), after.is_some())]
        {
            warm(&links, soon);
            std::thread::sleep(gap);
            let took = link.connect(PATIENCE.min(path.limit()));
            println!("survey, control: {:?} after {gap:.1?}: {took:.1?}", path.toll);
            let fared =
                if is_cold { paid(path.toll, took) } else { took.is_some_and(|t| t < soon) };
            assert!(fared, "{gap:?}, cold: {is_cold}, took {took:?}");
        }
    }
    drop(laid);
}

#[test]
fn a_path_goes_cold_both_ways() {
    follows_its_rule(&ColdPath::both_ways(Overlay::Vxlan, Duration::from_secs(3)));
}

#[test]
#[ignore = "as its survey: make test-long"]
fn slow_path_goes_cold_both_ways_in_ip_in_ip() {
    follows_its_rule(&ColdPath::both_ways(Overlay::IpInIp, Duration::from_secs(3)));
}

#[test]
#[ignore = "as its survey: make test-long"]
fn slow_path_goes_cold_one_way() {
    follows_its_rule(&ColdPath::ONE_WAY);
}

#[test]
fn a_path_goes_cold_for_one_side() {
    follows_its_rule(&ColdPath::ONE_SIDE);
}

#[test]
fn a_nat_bars_the_outside() {
    follows_its_rule(&ColdPath::NAT);
}

#[test]
#[ignore = "as its survey: make test-long"]
fn slow_handshake_is_late() {
    follows_its_rule(&ColdPath::HANDSHAKE);
}

#[test]
fn a_neighbour_is_resolved_late() {
    follows_its_rule(&ColdPath::NEIGHBOUR);
}

#[test]
fn a_path_without_a_rule_stays_warm() {
    follows_its_rule(&ColdPath::WARM);
}

#[test]
fn a_lossy_path_loses_without_silence() {
    let Some(network) = Network::new(ColdPath::LOSSY.topology) else { return };
    network.shake_hands();
    let server = &network.host(2).workload;
    let target = SocketAddr::new(server.address, 8001);
    // It need not accept: the last packet of a handshake may be lost as well.
    let listener = server.namespace.entrance().within(|| TcpListener::bind(target).unwrap());
    let client = network.host(1).workload.namespace.entrance();
    let laid = ColdPath::LOSSY.lay(&network);
    let connect = || client.within(|| TcpStream::connect_timeout(&target, AT_ONCE));
    let lost = (0..20).filter(|_| connect().is_err()).count();
    // Half of them, on average.
    println!("survey, control: {lost} of 20 connections over a lossy path were not made at once");
    assert!(lost >= 4, "{lost}");
    drop((laid, listener));
}
