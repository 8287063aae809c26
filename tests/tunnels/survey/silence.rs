//! Silence is silence: while two nodes rest, no packet passes between them, whatever readers ask of any agent.

use std::net::Ipv4Addr;
use std::time::Duration;

use wylis::survey::Coldness;
use wylis_harness::capture::{Capture, Packet};

use super::run::{FAST, Survey};
use crate::mesh::{TunnelMesh, node};
use crate::network::{Topology, inner};

/// Longer than any pause between two packets of agents that probe once a second.
const GAP: Duration = Duration::from_secs(5);

/// The pauses of at least this time between two packets, each with the host that spoke first afterwards.
fn pauses(packets: &[Packet], least: Duration) -> Vec<(Duration, Ipv4Addr)> {
    let pairs = packets.iter().zip(packets.iter().skip(1));
    let pauses = pairs.map(|(one, next)| (next.at.duration_since(one.at), next.source));
    pauses.filter(|(pause, _)| *pause >= least).collect()
}

#[test]
fn no_packet_passes_while_two_nodes_rest() {
    let settings = [FAST, &[("WYLIS_LARGE_INTERVAL", "2s")]].concat();
    let Some(mesh) = TunnelMesh::new(Topology::of(3), &settings) else { return };
    let host = mesh.network.host(1);
    // All that the tunnel carries: probes, reads, datagrams, ICMP.
    let capture = Capture::start(&host.namespace, host.wireguard.name());
    let survey = Survey::start(&mesh, 1, "n2", &[5000]);
    let mut reads = 0;
    let result = survey.finish_while(|| {
        for number in 1..=3 {
            let agent = mesh.agents.agent(&node(number));
            for path in
                ["/api/v1/cluster", "/api/v1/cluster/n2/n1", "/api/v1/row/n2", "/api/v1/row/n1"]
            {
                reads += usize::from(agent.get(path).is_some());
            }
        }
    });
    for found in [result.outgoing, result.incoming] {
        assert!(matches!(found, Coldness::WarmAt(gap) if gap >= GAP), "{found:?}");
    }
    let surveyed = pauses(&capture.between(inner(1), inner(2)), GAP.mul_f64(0.9));
    println!("survey, silence: {surveyed:?} beside {reads} reads of all agents");
    let speakers: Vec<Ipv4Addr> = surveyed.iter().map(|(_, speaker)| *speaker).collect();
    assert_eq!(speakers, [inner(1), inner(2)], "one rest for each direction");
    assert!(surveyed.iter().all(|(pause, _)| *pause < GAP.mul_f64(1.1)), "{surveyed:?}");
    assert!(reads > 60, "{reads}");
    // The control: pairs that do not rest.
    let other = pauses(&capture.between(inner(1), inner(3)), GAP / 2);
    assert!(other.is_empty(), "{other:?}");
}
