//! What the gate reports of packets that were lost on their way to a prober, from real sockets.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use wylis::name::{Instance, NodeName};
use wylis::probe::{Outcome, Priority, Probe, ProbeKind, Report};
use wylis::prober::{Prober, Settings};
use wylis::token::PairToken;
use wylis_harness::netns::Namespace;

use crate::child::{GateProcess, Options, TIMEOUT};
use crate::memory::kernel_memory;

/// Probes of each kind.
const PROBES: u64 = 3;
/// Probes after them, each of which makes the gate look at two answered sockets.
const CLEAN: u64 = 8;

/// Makes probes of the gate, one after the other, as the agent of `n`; all succeed.
fn probe(address: SocketAddr, count: u64, kind: ProbeKind, token: Option<&str>) {
    let name = NodeName::new("n").unwrap();
    let settings = Settings {
        node: name,
        instance: Instance::new("i").unwrap(),
        interval: Duration::from_secs(10),
        timeout: TIMEOUT,
        listen_port: 1,
    };
    let (sender, reports) = channel();
    let prober = Prober::new(settings, move |report: Report| drop(sender.send(report)));
    for id in 0..count {
        prober.submit(Probe {
            id,
            node: NodeName::new("test-node").unwrap(),
            address,
            due: Instant::now(),
            priority: Priority::Healthy,
            token: token.and_then(PairToken::read),
            kind,
        });
        let report = reports.recv_timeout(TIMEOUT).unwrap();
        assert!(matches!(report.outcome, Outcome::Success { .. }), "{report:?}");
    }
}

/// What the gate reports of probes of which the network loses the first packet that matches, in each
/// connection. The client's port is the destination of packets from the gate.
fn lose(
    label: &str,
    net: u8,
    kind: ProbeKind,
    token: Option<&str>,
    packet: &str,
) -> Option<Vec<String>> {
    let namespace = Namespace::new(label)?;
    let mut gate = namespace.entrance().within(|| GateProcess::start(&Options::new(net)));
    let (port, other) =
        if packet.contains("sport") { ("sport", "dport") } else { ("dport", "sport") };
    let packet = packet.replace(port, &format!("{port} {}", gate.address.port()));
    namespace.nft(&format!(
        "table ip t {{\n set seen {{ type inet_service; flags dynamic; size 1024; }}\n chain in {{\n \
         type filter hook input priority 0;\n {packet} tcp {other} != @seen \
         add @seen {{ tcp {other} }} counter drop\n }}\n}}\n"
    ));
    let address = gate.address;
    namespace.entrance().within(|| {
        probe(address, PROBES, kind, token);
        let dropped = namespace.run("nft", &["list", "ruleset"]);
        assert!(dropped.contains(&format!("counter packets {PROBES} ")), "{dropped}");
    });
    Some(reported(&namespace, &mut gate))
}

/// Ends the loss, and returns what the gate reports once it has looked at all sockets.
fn reported(namespace: &Namespace, gate: &mut GateProcess) -> Vec<String> {
    namespace.entrance().within(|| {
        namespace.nft("delete table ip t\n");
        wylis_harness::wait_until(TIMEOUT, "all sockets are closed", || {
            kernel_memory(gate.address).unacknowledged == 0
        });
        probe(gate.address, CLEAN, ProbeKind::Blank, None);
        gate.retransmitted()
    })
}

const PROVEN: Option<&str> = Some("abcdefghij.0123456789");
const ANSWER: &str = "tcp sport meta length > 100";
const SYN_ACK: &str = "tcp sport tcp flags & (syn | ack) == syn | ack";
const REQUEST: &str = "tcp dport meta length > 100";

#[test]
fn lost_answers_and_syn_acks_are_reported_with_their_sender() {
    let Some(reported) = lose("answer", 90, ProbeKind::Blank, PROVEN, ANSWER) else { return };
    assert_eq!(reported, ["n 1"; 3]);
    let Some(reported) = lose("synack", 91, ProbeKind::Blank, PROVEN, SYN_ACK) else { return };
    assert_eq!(reported.len(), 3, "{reported:?}");
    assert!(reported.iter().all(|line| line == "n 1" || line == "n 2"), "{reported:?}");
}

#[test]
fn requests_that_were_lost_on_their_way_to_the_gate_are_not_reported() {
    let Some(reported) = lose("request", 93, ProbeKind::Blank, PROVEN, REQUEST) else { return };
    assert_eq!(reported, [""; 0]);
}

#[test]
fn resets_that_were_lost_on_their_way_to_the_gate_are_not_reported() {
    let Some(namespace) = Namespace::new("reset") else { return };
    let mut gate = namespace.entrance().within(|| GateProcess::start(&Options::new(92)));
    let (address, port) = (gate.address, gate.address.port());
    namespace.nft(&format!(
        "table ip t {{\n chain in {{\n type filter hook input priority 0;\n \
         tcp sport {port} meta length > 100 counter\n \
         tcp dport {port} tcp flags & rst == rst drop\n }}\n}}\n"
    ));
    namespace.entrance().within(|| probe(address, PROBES, ProbeKind::Blank, PROVEN));
    wylis_harness::wait_until(TIMEOUT, "the gate retransmits its answers", || {
        let rules = namespace.run("nft", &["list", "ruleset"]);
        let (_, count) = rules.split_once("counter packets ").unwrap();
        count.split(' ').next().unwrap().parse::<u64>().unwrap() >= 2 * PROBES
    });
    assert_eq!(reported(&namespace, &mut gate), [""; 0]);
}

#[test]
fn requests_that_prove_nothing_and_large_ones_are_not_reported() {
    for (label, net, kind, token) in [
        ("unproven", 94, ProbeKind::Blank, Some("abcdefghij")),
        ("none", 95, ProbeKind::Blank, None),
        ("large", 96, ProbeKind::Large(wylis::probe::Large::Both), PROVEN),
    ] {
        let Some(reported) = lose(label, net, kind, token, ANSWER) else { return };
        assert_eq!(reported, [""; 0], "{label}");
    }
}
