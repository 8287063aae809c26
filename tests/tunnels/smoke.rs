//! The lab itself: it comes up, in both styles, and is what it claims to be.

use std::time::{Duration, Instant};

use wylis_harness::wait_until;

use super::cluster::{Cluster, node};
use super::faults::Fault;
use super::network::{Plan, Style};

const FAST: &[(&str, &str)] = &[("WYLIS_INTERVAL", "1s"), ("WYLIS_DRAIN", "1s")];

/// Counts what leaves a host: into the tunnel, encrypted, and past the tunnel.
fn wire(style: Style, tunnel: &str) -> String {
    let encapsulated = match style {
        Style::Vxlan => "udp dport 8472",
        Style::IpInIp => "ip protocol 4",
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

fn comes_up(size: u8, style: Style) {
    let begun = Instant::now();
    let Some(cluster) = Cluster::new(Plan { style, ..Plan::of(size) }, FAST) else { return };
    let took = begun.elapsed();
    let host = cluster.network.host(1);
    let wire = Fault::put(&host.namespace, &wire(style, host.wireguard.name()));
    println!("lab: {size} nodes by {style:?} up and every pair probed after {took:.1?}");
    for number in 1..=size {
        let agent = cluster.mesh.agent(&node(number));
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        assert!(status.contains("\nUid:\t65534\t65534\t"), "{status}");
        for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(status.contains(&format!("\n{set}:\t0000000000000000\n")), "{status}");
        }
    }
    let mtu = if style == Style::Vxlan { 1370 } else { 1400 };
    let peer = cluster.mesh.agent("n1").peer("n2");
    assert_eq!(peer["path_mtu_bytes"], mtu, "{peer}");
    assert_eq!(cluster.mesh.sum("wylis_probe_failures_total", &[]), 0.0, "{}", cluster.mesh.logs());
    assert_eq!(cluster.mesh.sum("wylis_local_errors_total", &[]), 0.0, "{}", cluster.mesh.logs());
    assert!(took < Duration::from_secs(30), "{took:?}");
    for counter in ["encapsulated", "encrypted"] {
        wait_until(Duration::from_secs(10), counter, || wire.packets(counter) > 0);
    }
    assert_eq!(wire.packets("bare"), 0, "no probe leaves the host outside of the tunnel");
}

#[test]
fn three_nodes_come_up_by_vxlan() {
    comes_up(3, Style::Vxlan);
}

#[test]
fn three_nodes_come_up_by_ip_in_ip() {
    comes_up(3, Style::IpInIp);
}

#[test]
fn eight_nodes_come_up() {
    comes_up(8, Style::Vxlan);
}
