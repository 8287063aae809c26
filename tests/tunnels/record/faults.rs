//! Faults of nodes, of the path between two nodes, and of an agent's own host.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use super::recorder::Recorder;
use super::{MOST, PAIR, STRETCH, settings};
use crate::faults::{self, Fault};
use crate::mesh::{TunnelMesh, node};
use crate::network::Topology;

/// A mesh after the first probe of every pair; `None` where it cannot be built.
fn mesh(topology: Topology) -> Option<TunnelMesh> {
    let settings = settings(STRETCH);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    TunnelMesh::new(topology, &settings)
}

/// Minutes before, during and after a fault.
type Minutes = (u32, u32, u32);

/// Records a healthy mesh, the fault, and the recovery.
fn record<T>(
    (name, about): (&'static str, &'static str),
    topology: Topology,
    (before, during, after): Minutes,
    fault: impl FnOnce(&mut TunnelMesh) -> T,
    cure: impl FnOnce(&mut TunnelMesh, T),
) {
    let Some(mut mesh) = mesh(topology) else { return };
    let mut recorder = Recorder::begin(name, about, STRETCH);
    recorder.minutes(&mesh.agents, before);
    recorder.mark("fault");
    let fault = fault(&mut mesh);
    recorder.minutes(&mesh.agents, during);
    recorder.mark("cure");
    cure(&mut mesh, fault);
    recorder.minutes(&mesh.agents, after);
    recorder.end();
}

/// Records nft rules on the host of node 1.
fn rules(what: (&'static str, &'static str), minutes: Minutes, rules: &str) {
    let put = |mesh: &mut TunnelMesh| Fault::put(&mesh.network.host(1).namespace, rules);
    record(what, Topology::of(PAIR), minutes, put, |_, fault| drop(fault));
}

#[test]
#[ignore = "make recordings"]
fn recorded_node_killed() {
    record(
        ("node_killed", "Node n4 loses its power; later it is back."),
        Topology::of(MOST),
        (5, 15, 20),
        |mesh| {
            mesh.network.switch.ip("link set p4 down\n");
            mesh.agents.kill("n4")
        },
        |mesh, pod| {
            mesh.network.switch.ip("link set p4 up\n");
            mesh.restart(4, &pod);
        },
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_node_switched_off() {
    record(
        (
            "node_switched_off",
            "Node n4 is shut down in good order, its agent says goodbye, and its Node object stays; later it is back.",
        ),
        Topology::of(MOST),
        (5, 20, 10),
        |mesh| {
            let four = node(4);
            mesh.agents.agent(&four).terminate();
            let ended = mesh.agents.agent_mut(&four).wait(Duration::from_secs(15));
            assert!(ended.is_some_and(|status| status.success()), "{}", mesh.agents.logs());
            let pod = mesh.agents.kill(&four);
            mesh.network.switch.ip("link set p4 down\n");
            pod
        },
        |mesh, pod| {
            mesh.network.switch.ip("link set p4 up\n");
            mesh.restart(4, &pod);
        },
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_tunnel_frozen() {
    let signal = |mesh: &TunnelMesh, signal| mesh.network.host(2).wireguard.signal(signal);
    record(
        (
            "tunnel_frozen",
            "The WireGuard process of node n2 is frozen: no pod there reaches another node, or is reached. Prometheus still sees all agents.",
        ),
        Topology::of(MOST),
        (5, 12, 20),
        |mesh| signal(mesh, libc::SIGSTOP),
        |mesh, ()| signal(mesh, libc::SIGCONT),
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_pair_black_holed() {
    rules(
        ("pair_black_holed", "All packets between nodes n1 and n2 are dropped for 15 minutes."),
        (5, 15, 20),
        &faults::drops(&[(1, 2, ""), (2, 1, "")]),
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_prometheus_restarted_in_an_outage() {
    let rules = faults::drops(&[(1, 2, ""), (2, 1, "")]);
    let Some(mesh) = mesh(Topology::of(PAIR)) else { return };
    let about = "All packets between nodes n1 and n2 are dropped; meanwhile Prometheus is away for 3 minutes.";
    let mut recorder = Recorder::begin("prometheus_restarted_in_an_outage", about, STRETCH);
    recorder.minutes(&mesh.agents, 5);
    recorder.mark("fault");
    let fault = Fault::put(&mesh.network.host(1).namespace, &rules);
    recorder.minutes(&mesh.agents, 8);
    recorder.mark("gap");
    recorder.gap(3);
    recorder.minutes(&mesh.agents, 8);
    recorder.mark("cure");
    drop(fault);
    recorder.minutes(&mesh.agents, 20);
    recorder.end();
}

#[test]
#[ignore = "make recordings"]
fn recorded_firewall_one_way() {
    rules(
        (
            "firewall_one_way",
            "New connections from node n1 to node n2 are dropped, those the other way are not.",
        ),
        (5, 15, 20),
        &faults::drops(&[(1, 2, "tcp dport 9050 tcp flags & (syn | ack) == syn")]),
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_half_refused() {
    let half = "tcp dport 9050 tcp flags & (syn | ack) == syn numgen random mod 2 == 0";
    rules(
        ("half_refused", "Half of the connections from node n1 to node n2 are refused, by chance."),
        (5, 30, 20),
        &faults::rejects(1, 2, half, "tcp reset"),
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_lossy() {
    // At random: every fourth packet would be the same packet of every probe.
    let lost = "tcp dport 9050 numgen random mod 100 < 25";
    rules(
        (
            "lossy",
            "One in four packets of the connections from node n1 to node n2 is lost, by chance.",
        ),
        (5, 30, 20),
        &faults::drops(&[(1, 2, lost)]),
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_lossy_and_flapping() {
    let lost = "numgen random mod 100 < 27";
    rules(
        (
            "lossy_and_flapping",
            "27 % of the packets between nodes n1 and n2 are lost, both ways: the pair is down now and then.",
        ),
        (5, 40, 20),
        &faults::drops(&[(1, 2, lost), (2, 1, lost)]),
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_mtu() {
    let large = "meta length > 1200";
    rules(
        ("mtu", "Packets above 1,200 bytes between nodes n1 and n2 are dropped."),
        (5, 25, 20),
        &faults::drops(&[(1, 2, large), (2, 1, large)]),
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_slow() {
    let delay = |mesh: &TunnelMesh, millis| {
        let cable = mesh.network.cable.as_ref().expect("a slow link was asked for");
        cable.set_delay(Duration::from_millis(millis));
    };
    record(
        ("slow", "After an hour, the link of node n2 takes 100 ms longer each way."),
        Topology { slow_link: Some(2), ..Topology::of(PAIR) },
        (65, 30, 15),
        |mesh| delay(mesh, 100),
        |mesh, ()| delay(mesh, 0),
    );
}

#[test]
#[ignore = "make recordings"]
fn recorded_ports_used_up() {
    let range = |mesh: &TunnelMesh, range| {
        mesh.pods[&2].namespace.sysctl("ipv4/ip_local_port_range", range);
    };
    record(
        ("ports_used_up", "The pod on node n2 has no free port left for its probes."),
        Topology::of(PAIR),
        (5, 40, 30),
        |mesh| {
            // Scrapes must not use the pod's last ports.
            let host = mesh.network.host(2).namespace.entrance();
            mesh.agents.agent_mut("n2").request_from(host);
            range(mesh, "61000 61001");
            let take = |port: u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            mesh.pods[&2].namespace.entrance().within(|| [61_000, 61_001].map(take))
        },
        |mesh, taken| {
            drop(taken);
            range(mesh, "32768 60999");
        },
    );
}
