//! Paths that lose packets after silence, without Wylis and with it.
//!
//! docs/the-door.md has the figures; `cargo test --test tunnels door -- --nocapture` prints them.

use std::time::Duration;

use super::faults::{self, Fault};
use super::mesh::TunnelMesh;
use super::network::{Overlay, Topology, able};
use super::workload::{Link, Tally};

const AGENTS: &[(&str, &str)] = &[("WYLIS_INTERVAL", "1s"), ("WYLIS_TIMEOUT", "5s")];
/// The kernel retransmits a SYN after 1, 3 and 7 s; a connection not open by then has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The measurements on one mesh.
#[derive(Debug)]
pub(crate) struct Run {
    /// One for each ordered pair.
    pub(crate) pairs: Vec<((u8, u8), Tally)>,
    /// Packets lost before the first connection, and after the last.
    pub(crate) drops: (u64, u64),
}

impl Run {
    pub(crate) fn total(&self) -> Tally {
        Tally::sum(self.pairs.iter().map(|(_, tally)| tally))
    }
}

/// Calls `act` for each value at the same time, and returns the results.
pub(crate) fn at_once<A: Send, T: Send, const N: usize>(
    all: [A; N],
    act: impl Fn(A) -> T + Sync,
) -> [T; N] {
    let act = &act;
    std::thread::scope(|scope| {
        all.map(|one| scope.spawn(move || act(one)))
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Runs meshes at the same time; `None` when one cannot be built.
pub(crate) fn side_by_side<const N: usize, T: Send>(
    meshes: [Box<dyn FnOnce() -> Option<T> + Send + '_>; N],
) -> Option<[T; N]> {
    let results = at_once(meshes, |mesh| mesh());
    let results: Option<Vec<T>> = results.into_iter().collect();
    results.and_then(|results| <[T; N]>::try_from(results).ok())
}

fn drops(faults: &[Fault], counter: &str) -> u64 {
    faults.iter().map(|fault| fault.packets(counter)).sum()
}

/// Applies the fault to every host, and then adds agents if `agents`.
pub(crate) fn faulty(
    topology: Topology,
    fault: &str,
    agents: bool,
) -> Option<(Vec<Fault>, TunnelMesh)> {
    let mut mesh = TunnelMesh::without_agents(topology, AGENTS)?;
    let hosts = mesh.network.hosts();
    let faults = hosts.map(|host| Fault::put(&host.namespace, fault)).collect();
    if agents {
        (1..=topology.size).for_each(|number| mesh.add(number));
        mesh.agents.wait_for_all_pairs();
    }
    Some((faults, mesh))
}

// ---- The cold path

const COLD_AFTER: Duration = Duration::from_secs(3);
/// The silence of a pair between two connections.
const SILENCE: Duration = Duration::from_secs(4);
const CONNECTIONS: u32 = 20;

/// One node of each pair connects to the other every 4 s, with no other traffic between the two.
fn cold_path(overlay: Overlay, pairs: [(u8, u8); 3], agents: bool) -> Option<Run> {
    let topology = Topology { overlay, ..Topology::of(3) };
    let (faults, mesh) = faulty(topology, &faults::cold_path(COLD_AFTER), agents)?;
    let before = drops(&faults, "cold_drops");
    let run_pair = |(source, target): (u8, u8)| {
        let link = Link::new(&mesh.network, source, target);
        let mut tally = Tally::default();
        for _ in 0..CONNECTIONS {
            tally.add(link.connect(PATIENCE));
            std::thread::sleep(SILENCE);
        }
        ((source, target), tally)
    };
    let pairs = at_once(pairs, run_pair);
    Some(Run { pairs: pairs.into(), drops: (before, drops(&faults, "cold_drops")) })
}

#[test]
fn a_cold_path_is_kept_warm() {
    if !able() {
        return;
    }
    const UP: [(u8, u8); 3] = [(1, 2), (1, 3), (2, 3)];
    const DOWN: [(u8, u8); 3] = [(2, 1), (3, 1), (3, 2)];
    // One mesh for each direction: a connection warms both directions, so two clients on one pair
    // would help each other.
    let Some([control_up, control_down, treated_up, treated_down]) = side_by_side([
        Box::new(|| cold_path(Overlay::Vxlan, UP, false)),
        Box::new(|| cold_path(Overlay::IpInIp, DOWN, false)),
        Box::new(|| cold_path(Overlay::Vxlan, UP, true)),
        Box::new(|| cold_path(Overlay::IpInIp, DOWN, true)),
    ]) else {
        return;
    };
    for (overlay, control, treated) in [
        (Overlay::Vxlan, &control_up, &treated_up),
        (Overlay::IpInIp, &control_down, &treated_down),
    ] {
        println!(
            "door, cold path with {overlay:?}, without Wylis: {}, {} packets dropped; with Wylis: {}, \
             {} packets dropped while warming up, {} afterwards",
            control.total(),
            control.drops.1,
            treated.total(),
            treated.drops.0,
            treated.drops.1 - treated.drops.0
        );
        for (pair, tally) in &control.pairs {
            let suffered = tally.slow + tally.failed;
            assert_eq!((tally.connections, suffered), (CONNECTIONS, CONNECTIONS), "{pair:?}");
        }
        // The SYN and its SYN-ACK.
        let at_least = u64::from(control.total().connections) * 2;
        assert!(control.drops.1 >= at_least, "{control:?}");
        for (pair, tally) in &treated.pairs {
            let suffered = tally.slow + tally.failed;
            assert_eq!((tally.connections, suffered), (CONNECTIONS, 0), "{pair:?}: {tally}");
        }
        assert!(treated.drops.0 > 0, "the rule never matched");
        assert_eq!(treated.drops.0, treated.drops.1, "{treated:?}");
    }
}

// ---- A lost handshake

/// Each pair's first connection over a WireGuard session whose first handshake packet is lost.
fn lost_handshake(agents: bool) -> Option<Run> {
    let (faults, mesh) = faulty(Topology::of(3), &faults::lost_handshake(), agents)?;
    let before = drops(&faults, "lost");
    // The first connection of either node establishes the session of both.
    let pairs = [(1, 2), (2, 3), (3, 1)];
    let first = |(source, target): (u8, u8)| {
        let link = Link::new(&mesh.network, source, target);
        let mut tally = Tally::default();
        tally.add(link.connect(PATIENCE));
        ((source, target), tally)
    };
    let pairs = at_once(pairs, first);
    Some(Run { pairs: pairs.into(), drops: (before, drops(&faults, "lost")) })
}

#[test]
fn a_lost_handshake_delays_a_probe_and_no_workload() {
    if !able() {
        return;
    }
    let Some([control, treated]) =
        side_by_side([Box::new(|| lost_handshake(false)), Box::new(|| lost_handshake(true))])
    else {
        return;
    };
    println!(
        "door, lost handshake, without Wylis: {}, {} handshake packets dropped; with Wylis: {}, {} \
         dropped before, {} afterwards",
        control.total(),
        control.drops.1,
        treated.total(),
        treated.drops.0,
        treated.drops.1 - treated.drops.0
    );
    assert_eq!((control.total().connections, control.total().slow), (3, 3), "{control:?}");
    assert_eq!(control.drops, (0, 3), "one for each pair");
    let total = treated.total();
    assert_eq!((total.connections, total.slow, total.failed), (3, 0, 0), "{treated:?}");
    assert!(treated.drops.0 >= 3, "no loss for each pair before: {treated:?}");
    assert_eq!(treated.drops.0, treated.drops.1);
}

// ---- A NAT that forgets

/// The silence: longer than the NAT's timeout, shorter than WireGuard's own keepalive of 10 s.
const FORGOTTEN: Duration = Duration::from_secs(6);
const ROUNDS: u32 = 10;

/// Node 1 behind the NAT opens the flow, 6 s of silence follow, then the others connect to it.
fn forgetful_nat(agents: bool) -> Option<(Tally, Run)> {
    let topology = Topology { nat: true, ..Topology::of(3) };
    let mut mesh = TunnelMesh::without_agents(topology, AGENTS)?;
    let router = mesh.network.router.as_ref().expect("a router was asked for");
    router.sysctl("netfilter/nf_conntrack_udp_timeout", "4");
    router.sysctl("netfilter/nf_conntrack_udp_timeout_stream", "4");
    let gate = Fault::put(router, faults::NO_WAY_IN);
    if agents {
        (1..=topology.size).for_each(|number| mesh.add(number));
        mesh.agents.wait_for_all_pairs();
    }
    let network = &mesh.network;
    let before = gate.packets("lost");
    let outward = [2, 3].map(|other| Link::new(network, 1, other));
    let inward = [2, 3].map(|other| ((other, 1), Link::new(network, other, 1)));
    let mut opened = Tally::default();
    let mut pairs = inward.each_ref().map(|(pair, _)| (*pair, Tally::default()));
    for _ in 0..ROUNDS {
        outward.iter().for_each(|link| opened.add(link.connect(PATIENCE)));
        std::thread::sleep(FORGOTTEN);
        // All at once, with a limit before WireGuard's keepalive reopens the flow.
        let limit = Duration::from_secs(3);
        let took = at_once(inward.each_ref(), |(_, link)| link.connect(limit));
        pairs.iter_mut().zip(took).for_each(|((_, tally), took)| tally.add(took));
    }
    Some((opened, Run { pairs: pairs.into(), drops: (before, gate.packets("lost")) }))
}

#[test]
fn a_nat_that_forgets_idle_flows_is_kept_open() {
    if !able() {
        return;
    }
    let Some([(_, control), (outward, treated)]) =
        side_by_side([Box::new(|| forgetful_nat(false)), Box::new(|| forgetful_nat(true))])
    else {
        return;
    };
    println!(
        "door, NAT with 4 s, without Wylis: {}, {} packets dropped; with Wylis: {}, {} packets \
         dropped",
        control.total(),
        control.drops.1 - control.drops.0,
        treated.total(),
        treated.drops.1 - treated.drops.0
    );
    for (pair, tally) in &control.pairs {
        assert_eq!((tally.connections, tally.failed), (ROUNDS, ROUNDS), "{pair:?}");
    }
    assert!(control.drops.1 > 0, "{control:?}");
    for (pair, tally) in &treated.pairs {
        let suffered = tally.slow + tally.failed;
        assert_eq!((tally.connections, suffered), (ROUNDS, 0), "{pair:?}: {tally}");
    }
    assert_eq!((outward.slow, outward.failed), (0, 0), "{outward}");
    assert_eq!(treated.drops.0, treated.drops.1, "{treated:?}");
}
