//! Network faults as nft rules. Each is a table of its own in one namespace, removed when dropped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wylis_harness::netns::{self, Entrance, Namespace};

use super::network::pods_of;

/// Rules in effect.
#[derive(Debug)]
pub(crate) struct Fault {
    inside: Entrance,
    table: String,
}

impl Fault {
    /// Loads the content of an `inet` table into a namespace.
    pub(crate) fn put(namespace: &Namespace, content: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let fault = Self { inside: namespace.entrance(), table: format!("fault{number}") };
        netns::nft(&fault.inside, &format!("table inet {} {{\n{content}\n}}\n", fault.table));
        fault
    }

    /// The packets of a named counter.
    pub(crate) fn packets(&self, counter: &str) -> u64 {
        let arguments = ["list", "counter", "inet", &self.table, counter];
        let text = self.inside.within(|| netns::feed("nft", &arguments, ""));
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words.next().and_then(|word| word.parse().ok()).expect("a counter shows its packets")
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        let rules = format!("delete table inet {}\n", self.table);
        netns::nft(&self.inside, &rules);
    }
}

/// The cold path: after this silence in one direction, the next packet of a pair of nodes is lost in that
/// direction, counted as `cold_drops`. For every host.
pub(crate) fn cold_path(after: Duration) -> String {
    const NODES: &str = "ip saddr & 255.255.255.0 . ip daddr & 255.255.255.0";
    let after = after.as_millis();
    format!(
        "set warm {{ type ipv4_addr . ipv4_addr; flags dynamic,timeout; timeout {after}ms; size 1024; }}
counter cold_drops {{ }}
chain path {{
  type filter hook forward priority filter; policy accept;
  iifname != \"cni0\" accept
  ip daddr != 10.244.0.0/16 accept
  {NODES} @warm update @warm {{ {NODES} timeout {after}ms }} accept
  update @warm {{ {NODES} timeout {after}ms }} counter name cold_drops drop
}}"
    )
}

/// A filter with state: after this silence in both directions, the next packet of this node's pods is lost, and one
/// to them is not. For that node's host.
pub(crate) fn cold_side(node: u8, after: Duration) -> String {
    let (pods, after) = (pods_of(node), after.as_millis());
    format!(
        "set warm {{ type ipv4_addr; flags dynamic,timeout; timeout {after}ms; size 1024; }}
counter cold_drops {{ }}
chain path {{
  type filter hook forward priority filter; policy accept;
  ip saddr 10.244.0.0/16 ip daddr {pods} update @warm {{ ip saddr & 255.255.255.0 timeout {after}ms }} accept
  ip saddr != {pods} accept
  ip daddr != 10.244.0.0/16 accept
  ip daddr & 255.255.255.0 @warm update @warm {{ ip daddr & 255.255.255.0 timeout {after}ms }} accept
  update @warm {{ ip daddr & 255.255.255.0 timeout {after}ms }} counter name cold_drops drop
}}"
    )
}

/// Drops the first of the requests for a link address that follow each other within 3 s: a whole table.
pub(crate) const LOST_ARP: &str = "table arp lost {
  set tried { type ipv4_addr; flags dynamic,timeout; timeout 3s; size 1024; }
  chain out {
    type filter hook output priority filter; policy accept;
    arp operation != request accept
    arp daddr ip @tried accept
    add @tried { arp daddr ip timeout 3s } counter drop
  }
}
";

/// Drops the first packet of each WireGuard handshake that the host starts, counted as `lost`. A second
/// one within a minute is the retry, and passes. For every host.
pub(crate) fn lost_handshake() -> String {
    "set tried { type ipv4_addr; flags dynamic,timeout; timeout 60s; size 1024; }
counter lost { }
chain out {
  type filter hook output priority filter; policy accept;
  udp dport != 51820 accept
  udp length != 156 accept
  @th,64,8 != 1 accept
  ip daddr @tried accept
  add @tried { ip daddr timeout 60s } counter name lost drop
}"
    .to_owned()
}

/// A router that drops packets to the tunnel's port outside known flows, counted as `lost`.
pub(crate) const NO_WAY_IN: &str = "counter lost { }
chain in {
  type filter hook input priority filter; policy accept;
  iifname \"outside\" udp dport 51820 counter name lost drop
}";

/// Matches packets from one node's pods to another's.
fn from_to(source: u8, target: u8) -> String {
    format!("ip saddr {} ip daddr {}", pods_of(source), pods_of(target))
}

fn forward(rules: &str) -> String {
    format!("chain path {{\n  type filter hook forward priority filter; policy accept;\n{rules}}}")
}

/// Drops matching packets from one node to another; for the host of either node.
pub(crate) fn drops(ways: &[(u8, u8, &str)]) -> String {
    let rules = ways.iter().map(|(source, target, matching)| {
        format!("  {} {matching} counter drop\n", from_to(*source, *target))
    });
    forward(&rules.collect::<String>())
}

/// Rejects matching packets with `way`.
pub(crate) fn rejects(source: u8, target: u8, matching: &str, way: &str) -> String {
    let path = from_to(source, target);
    forward(&format!("  {path} {matching} counter reject with {way}\n"))
}

/// Drops the first SYN of each connection.
pub(crate) fn first_syn(source: u8, target: u8) -> String {
    let path = from_to(source, target);
    let chain = forward(&format!("  {path} tcp flags & (syn | ack) == syn jump first\n"));
    format!(
        "set seen {{ type ipv4_addr . inet_service; flags dynamic,timeout; timeout 30s; size 4096; }}
chain first {{
  ip saddr . tcp sport @seen accept
  add @seen {{ ip saddr . tcp sport timeout 30s }} counter drop
}}
{chain}"
    )
}

/// Drops every fourth packet of the clients on `source`. Packets of servers do not count: the rhythm of
/// probes could put every loss on the same side. `missed` counts the lost SYNs and requests, which the
/// client retransmits, but no bare ACK or reset.
pub(crate) fn one_in_four(source: u8, target: u8) -> String {
    let path = from_to(source, target);
    let chain = forward(&format!("  {path} tcp dport 9050 numgen inc mod 4 == 0 jump lost\n"));
    format!(
        "counter missed {{ }}
chain lost {{
  tcp flags & (syn | psh) != 0 counter name missed
  drop
}}
{chain}"
    )
}
