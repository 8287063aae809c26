//! What the gate reports of packets that were lost on their way to a prober, from real sockets.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use wylis::name::{Instance, NodeName};
use wylis::probe::{Outcome, Priority, Probe, ProbeKind, Report};
use wylis::prober::{Prober, Settings};
use wylis::token::PairToken;
use wylis_harness::netns::Namespace;

use crate::child::{GateProcess, Options, TIMEOUT};
use crate::client::kernel_sockets;

/// Probes of each kind.
const PROBES: u64 = 3;
/// Probes after them, each of which makes the gate look at two answered sockets.
const CLEAN: u64 = 8;
/// TCP_LISTEN (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// Makes probes of the gate, one after the other, as the agent of `n`; all succeed.
fn probe(gate: &GateProcess, count: u64, kind: ProbeKind, token: Option<&str>) {
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
            address: gate.address,
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
    namespace.entrance().within(|| {
        probe(&gate, PROBES, kind, token);
        let dropped = namespace.run("nft", &["list", "ruleset"]);
        assert!(dropped.contains(&format!("counter packets {PROBES} ")), "{dropped}");
        namespace.nft("delete table ip t\n");
        wylis_harness::wait_until(TIMEOUT, "all sockets are closed", || {
            kernel_sockets(gate.address).iter().all(|fields| fields[3] == LISTEN)
        });
        probe(&gate, CLEAN, ProbeKind::Blank, None);
        Some(gate.retransmitted())
    })
}

const PROVEN: Option<&str> = Some("abcdefghij.0123456789");
const ANSWER: &str = "tcp sport meta length > 100";
const SYN_ACK: &str = "tcp sport tcp flags & (syn | ack) == syn | ack";
const RESET: &str = "tcp dport tcp flags & rst == rst";
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
fn packets_that_were_lost_on_their_way_to_the_gate_are_not_reported() {
    for (label, net, packet) in [("reset", 92, RESET), ("request", 93, REQUEST)] {
        let Some(reported) = lose(label, net, ProbeKind::Blank, PROVEN, packet) else { return };
        assert_eq!(reported, [""; 0], "{label}");
    }
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
