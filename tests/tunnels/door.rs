//! The door is held: paths that lose packets when they were silent, without Wylis and with it.
//!
//! The figures are in docs/the-door.md; `cargo test --test tunnels door -- --nocapture` prints them.

use std::time::Duration;

use super::cluster::Cluster;
use super::faults::{self, Fault};
use super::network::{Plan, Style, able};
use super::workload::{Link, Tally};

const AGENTS: &[(&str, &str)] = &[("WYLIS_INTERVAL", "1s"), ("WYLIS_TIMEOUT", "5s")];
/// The kernel sends a SYN again after 1, 3 and 7 s: whoever is not connected then has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What one lab measured.
#[derive(Debug)]
pub(crate) struct Run {
    /// One for each ordered pair.
    pub(crate) pairs: Vec<((u8, u8), Tally)>,
    /// Packets lost before the first connection, and until after the last.
    pub(crate) drops: (u64, u64),
}

impl Run {
    pub(crate) fn total(&self) -> Tally {
        Tally::sum(self.pairs.iter().map(|(_, tally)| tally))
    }
}

/// Does something with each at the same time, and gives what came of it.
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

/// Runs labs side by side; `None` when one could not be built.
pub(crate) fn side_by_side<const N: usize, T: Send>(
    labs: [Box<dyn FnOnce() -> Option<T> + Send + '_>; N],
) -> Option<[T; N]> {
    let results = at_once(labs, |lab| lab());
    let results: Option<Vec<T>> = results.into_iter().collect();
    results.and_then(|results| <[T; N]>::try_from(results).ok())
}

fn drops(faults: &[Fault], counter: &str) -> u64 {
    faults.iter().map(|fault| fault.packets(counter)).sum()
}

/// Every host of a lab gets the fault, and then, if so, its agents.
pub(crate) fn faulty(plan: Plan, fault: &str, agents: bool) -> Option<(Vec<Fault>, Cluster)> {
    let mut cluster = Cluster::without_agents(plan, AGENTS)?;
    let hosts = cluster.network.hosts();
    let faults = hosts.map(|host| Fault::put(&host.namespace, fault)).collect();
    if agents {
        (1..=plan.size).for_each(|number| cluster.add(number));
        cluster.mesh.wait_for_all_pairs();
    }
    Some((faults, cluster))
}

// ---- The cold path

/// How long a pair is silent between two connections.
const SILENCE: Duration = Duration::from_secs(4);
const CONNECTIONS: u32 = 20;

/// One node of each pair connects to the other, and nobody else uses that pair of nodes: a
/// connection, 4 s of silence, the next one.
fn cold_path(style: Style, pairs: [(u8, u8); 3], agents: bool) -> Option<Run> {
    let plan = Plan { style, ..Plan::of(3) };
    let (faults, cluster) = faulty(plan, &faults::cold_path(), agents)?;
    let before = drops(&faults, "cold_drops");
    let run_pair = |(source, target): (u8, u8)| {
        let link = Link::new(&cluster.network, source, target);
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
fn a_path_that_drops_packets_when_cold_is_kept_warm() {
    if !able() {
        return;
    }
    const UP: [(u8, u8); 3] = [(1, 2), (1, 3), (2, 3)];
    const DOWN: [(u8, u8); 3] = [(2, 1), (3, 1), (3, 2)];
    // One lab for each direction of the pairs: a connection warms both, so that two clients on one
    // pair would help one another.
    let Some([control_up, control_down, treated_up, treated_down]) = side_by_side([
        Box::new(|| cold_path(Style::Vxlan, UP, false)),
        Box::new(|| cold_path(Style::IpInIp, DOWN, false)),
        Box::new(|| cold_path(Style::Vxlan, UP, true)),
        Box::new(|| cold_path(Style::IpInIp, DOWN, true)),
    ]) else {
        return;
    };
    for (style, control, treated) in
        [(Style::Vxlan, &control_up, &treated_up), (Style::IpInIp, &control_down, &treated_down)]
    {
        println!(
            "door, cold path by {style:?}, without Wylis: {}, {} packets dropped; with Wylis: {}, \
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
        // The SYN and its answer.
        let at_least = u64::from(control.total().connections) * 2;
        assert!(control.drops.1 >= at_least, "{control:?}");
        for (pair, tally) in &treated.pairs {
            let suffered = tally.slow + tally.failed;
            assert_eq!((tally.connections, suffered), (CONNECTIONS, 0), "{pair:?}: {tally}");
        }
        assert!(treated.drops.0 > 0, "the rule was in force");
        assert_eq!(treated.drops.0, treated.drops.1, "{treated:?}");
    }
}

// ---- A lost handshake

/// Each pair's first connections, over WireGuard sessions whose first handshake packet is lost.
fn lost_handshake(agents: bool) -> Option<Run> {
    let (faults, cluster) = faulty(Plan::of(3), &faults::lost_handshake(), agents)?;
    let before = drops(&faults, "lost");
    // The first connection of either node makes the session of both.
    let pairs = [(1, 2), (2, 3), (3, 1)];
    let first = |(source, target): (u8, u8)| {
        let link = Link::new(&cluster.network, source, target);
        let mut tally = Tally::default();
        tally.add(link.connect(PATIENCE));
        ((source, target), tally)
    };
    let pairs = at_once(pairs, first);
    Some(Run { pairs: pairs.into(), drops: (before, drops(&faults, "lost")) })
}

#[test]
fn a_lost_handshake_is_suffered_by_a_probe_and_not_by_a_workload() {
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
    assert!(treated.drops.0 >= 3, "each pair had its loss before: {treated:?}");
    assert_eq!(treated.drops.0, treated.drops.1);
}

// ---- A NAT that forgets

/// After this much silence the NAT has forgotten; before WireGuard's own keepalive after 10 s.
const FORGOTTEN: Duration = Duration::from_secs(6);
const ROUNDS: u32 = 10;

/// Node 1 behind the NAT opens the flow, all are silent for 6 s, then the others connect to it.
fn forgetful_nat(agents: bool) -> Option<(Tally, Run)> {
    let plan = Plan { nat: true, ..Plan::of(3) };
    let mut cluster = Cluster::without_agents(plan, AGENTS)?;
    let router = cluster.network.router.as_ref().expect("a router was asked for");
    router.sysctl("netfilter/nf_conntrack_udp_timeout", "4");
    router.sysctl("netfilter/nf_conntrack_udp_timeout_stream", "4");
    let gate = Fault::put(router, faults::NO_WAY_IN);
    if agents {
        (1..=plan.size).for_each(|number| cluster.add(number));
        cluster.mesh.wait_for_all_pairs();
    }
    let network = &cluster.network;
    let before = gate.packets("lost");
    let outward = [2, 3].map(|other| Link::new(network, 1, other));
    let inward = [2, 3].map(|other| ((other, 1), Link::new(network, other, 1)));
    let mut opened = Tally::default();
    let mut pairs = inward.each_ref().map(|(pair, _)| (*pair, Tally::default()));
    for _ in 0..ROUNDS {
        outward.iter().for_each(|link| opened.add(link.connect(PATIENCE)));
        std::thread::sleep(FORGOTTEN);
        // Side by side, and given up before WireGuard's keepalive opens the way.
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
