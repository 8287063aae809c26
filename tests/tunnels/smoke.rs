//! The network itself: it comes up with both overlays, and its traffic is tunnelled and encrypted.

use std::time::{Duration, Instant};

use wylis_harness::wait_until;

use super::faults::Fault;
use super::mesh::{TunnelMesh, node};
use super::network::{Overlay, Topology};

const FAST: &[(&str, &str)] = &[("WYLIS_INTERVAL", "1s"), ("WYLIS_DRAIN", "1s")];

/// Counts the packets that leave a host: into the tunnel, encrypted, and outside the tunnel.
fn wire(overlay: Overlay, tunnel: &str) -> String {
    let encapsulated = match overlay {
        Overlay::Vxlan => "udp dport 8472",
        Overlay::IpInIp => "ip protocol 4",
        Overlay::Routed => "tcp dport 9050",
    };
    format!(
        "counter encapsulated {{ }}
counter encrypted {{ }}
counter bare {{ }}
chain out {{
  type filter hook postrouting priority filter; policy accept;
  oifname \"{tunnel}\" {encapsulated} counter name encapsulated
  oifname \"eth0\" udp dport 51820 counter name encrypted
  oifname \"eth0\" tcp dport 9050 counter name bare
  oifname \"eth0\" {encapsulated} counter name bare
}}"
    )
}

fn comes_up(size: u8, overlay: Overlay) {
    let begun = Instant::now();
    let Some(mesh) = TunnelMesh::new(Topology { overlay, ..Topology::of(size) }, FAST) else {
        return;
    };
    let took = begun.elapsed();
    let host = mesh.network.host(1);
    let wire = Fault::put(&host.namespace, &wire(overlay, host.wireguard.name()));
    println!("tunnels: {size} nodes with {overlay:?}: every pair probed after {took:.1?}");
    for number in 1..=size {
        let agent = mesh.agents.agent(&node(number));
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        assert!(status.contains("\nUid:\t65534\t65534\t"), "{status}");
        for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(status.contains(&format!("\n{set}:\t0000000000000000\n")), "{status}");
        }
    }
    let mtu = if overlay == Overlay::Vxlan { 1370 } else { 1400 };
    let peer = mesh.agents.agent("n1").peer("n2");
    assert_eq!(peer["path_mtu_bytes"], mtu, "{peer}");
    assert_eq!(mesh.agents.sum("wylis_probe_failures_total", &[]), 0.0, "{}", mesh.agents.logs());
    assert_eq!(mesh.agents.sum("wylis_local_errors_total", &[]), 0.0, "{}", mesh.agents.logs());
    assert!(took < Duration::from_secs(30), "{took:?}");
    for counter in ["encapsulated", "encrypted"] {
        wait_until(Duration::from_secs(10), counter, || wire.packets(counter) > 0);
    }
    assert_eq!(wire.packets("bare"), 0, "a probe left the host outside the tunnel");
}

#[test]
fn three_nodes_come_up_with_vxlan() {
    comes_up(3, Overlay::Vxlan);
}

#[test]
fn three_nodes_come_up_with_ip_in_ip() {
    comes_up(3, Overlay::IpInIp);
}

#[test]
fn eight_nodes_come_up() {
    comes_up(8, Overlay::Vxlan);
}
