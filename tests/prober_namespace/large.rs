//! Large probes over paths that lose full-size segments, each way, and past a router that lowers the MTU.

use std::process::Child;
use std::time::Duration;

use super::{Link, Observed, PEER_V4, PEER_V6, remove, run};

const TIMEOUT: Duration = Duration::from_secs(20);
const KINDS: [&str; 4] = ["blank", "both", "request", "answer"];

/// The answer of a peer: blank, or as long as it was asked to be. Where one digit more in the length of the content
/// leaves no such size, it has a byte more.
pub(super) fn answer_to(request: &str) -> String {
    const BLANK: &str = "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\n\r\n";
    let size = request.lines().find_map(|line| line.strip_prefix("Wylis-Size: "));
    let Some(size) = size.map(|size| size.parse::<usize>().unwrap()) else { return BLANK.into() };
    let answer = |content: usize| {
        let head =
            format!("HTTP/1.1 200 OK\r\nWylis-Node: n1\r\nContent-Length: {content}\r\n\r\n");
        head + &".".repeat(content)
    };
    let least = size.saturating_sub(answer(0).len() + 4);
    (least..).map(answer).find(|answer| answer.len() >= size).unwrap()
}

/// The outcome of one probe of each kind, in the order of [`KINDS`].
fn outcomes(link: &Link, target: &str) -> Vec<Observed> {
    let probe = |kind: &&str| {
        link.probe_of_kind(target, 1, TIMEOUT, &format!("sequential {kind}")).remove(0)
    };
    KINDS.iter().map(probe).collect()
}

#[test]
fn full_size_segments_fill_the_mtu_of_the_path_each_in_its_direction() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    link.rules(
        "table inet t {
           counter inward { }
           counter outward { }
           counter above { }
           chain i { type filter hook input priority filter;
             tcp dport 9050 meta length 1500 counter name inward
             tcp dport 9050 meta length > 1500 counter name above
           }
           chain o { type filter hook output priority filter;
             tcp sport 9050 meta length 1500 counter name outward
             tcp sport 9050 meta length > 1500 counter name above
           }
         }\n",
    );
    for target in [PEER_V4, PEER_V6] {
        let before = ["inward", "outward"].map(|counter| link.packets(counter));
        for observed in outcomes(&link, target) {
            assert_eq!((observed.outcome.as_str(), observed.retransmits), ("success", Some(0)));
        }
        let after = ["inward", "outward"].map(|counter| link.packets(counter));
        assert_eq!([after[0] - before[0], after[1] - before[1]], [2, 2], "{target}");
    }
    assert_eq!(link.packets("above"), 0, "one segment, no more");
}

#[test]
fn a_direction_that_swallows_full_size_segments_fails_the_probes_that_fill_them() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    for (hook, failing) in [("input", ["both", "request"]), ("output", ["both", "answer"])] {
        link.rules(&format!(
            "table inet t {{
               chain c {{ type filter hook {hook} priority filter;
                 meta l4proto tcp meta length > 1200 drop
               }}
             }}\n"
        ));
        for (kind, observed) in KINDS.iter().zip(outcomes(&link, PEER_V4)) {
            let expected = if failing.contains(kind) { "response_timeout" } else { "success" };
            assert_eq!(observed.outcome, expected, "{hook} {kind}: {observed:?}");
        }
        link.rules("delete table inet t\n");
    }
}

#[test]
fn a_lost_full_size_segment_shows_as_a_retransmit_of_the_request_or_a_late_answer() {
    let Some(link) = Link::new().map(Link::serve) else { return };
    for (hook, port) in [("input", "sport"), ("output", "dport")] {
        let address = if hook == "input" { "saddr" } else { "daddr" };
        let flow = format!("ip {address} . tcp {port}");
        link.rules(&format!(
            "table inet t {{
               set seen {{ type ipv4_addr . inet_service; flags dynamic; size 1024; }}
               chain c {{ type filter hook {hook} priority filter;
                 meta l4proto tcp meta length > 1000 {flow} != @seen add @seen {{ {flow} }} drop
               }}
             }}\n"
        ));
        let [blank, both, request, answer] = outcomes(&link, PEER_V4).try_into().unwrap();
        for observed in [&blank, &both, &request, &answer] {
            assert_eq!(observed.outcome, "success", "{hook}: {observed:?}");
        }
        assert_eq!(blank.request_retransmits, 0, "{hook}");
        let late = |observed: &Observed| observed.took >= Duration::from_millis(200);
        if hook == "input" {
            assert!(both.request_retransmits > 0 && request.request_retransmits > 0, "{request:?}");
            assert!(answer.request_retransmits == 0, "{answer:?}");
        } else {
            assert!(late(&both) && late(&answer), "{both:?} {answer:?}");
            assert_eq!(request.request_retransmits, 0, "{request:?}");
        }
        link.rules("delete table inet t\n");
    }
}

/// A link whose peer is a router, with the true peer behind it.
pub(super) struct Routed {
    pub(super) link: Link,
    far: String,
    server: Child,
}

pub(super) const FAR_V4: &str = "198.18.1.2:9050";
pub(super) const FAR_V6: &str = "[fd00:19::2]:9050";

impl Routed {
    pub(super) fn new() -> Option<Self> {
        let link = Link::new()?;
        let far = format!("{}c", link.peer.trim_end_matches('b'));
        let (near, router) = (&link.prober, &link.peer);
        run(&format!("ip netns add {far}"));
        run(&format!("ip link add far0 netns {router} type veth peer name eth0 netns {far}"));
        for (name, device, host) in [(router, "far0", 1), (&far, "eth0", 2)] {
            run(&format!("ip -n {name} addr add 198.18.1.{host}/24 dev {device}"));
            run(&format!("ip -n {name} addr add fd00:19::{host}/64 dev {device} nodad"));
            run(&format!("ip -n {name} link set lo up"));
            run(&format!("ip -n {name} link set {device} up"));
        }
        run(&format!("ip -n {near} route add default via 198.18.0.2"));
        run(&format!("ip -n {near} route add default via fd00:18::2"));
        run(&format!("ip -n {far} route add default via 198.18.1.1"));
        run(&format!("ip -n {far} route add default via fd00:19::1"));
        for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            run(&format!("ip netns exec {router} sysctl -qw {setting}"));
        }
        let server = link.serve_in(&far);
        Some(Self { link, far, server })
    }

    pub(super) fn set_mtu(&self, mtu: u32) {
        run(&format!("ip -n {} link set far0 mtu {mtu}", self.link.peer));
    }

    /// The path MTU that a large probe of this kind learns.
    fn path_mtu(&self, target: &str, kind: &str) -> u32 {
        let how = format!("sequential {kind}");
        let observed = self.link.probe_of_kind(target, 1, TIMEOUT, &how).remove(0);
        assert_eq!(observed.outcome, "success", "{target} {kind}: {observed:?}");
        observed.path_mtu
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        remove(&self.far);
    }
}

#[test]
fn a_path_mtu_that_a_router_lowered_is_learned_and_its_healing_is_not_left_to_the_cache() {
    let Some(routed) = Routed::new() else { return };
    for target in [FAR_V4, FAR_V6] {
        assert_eq!(routed.path_mtu(target, "both"), 1500);
        routed.set_mtu(1300);
        assert_eq!(routed.path_mtu(target, "request"), 1300, "the router answers a full segment");
        assert_eq!(routed.path_mtu(target, "request:1500"), 1300, "and does so again");
        routed.set_mtu(1500);
        assert_eq!(routed.path_mtu(target, "request"), 1300, "the kernel's cache");
        assert_eq!(routed.path_mtu(target, "request:1500"), 1500, "the path itself");
        // Where a policy drops UDP, nothing is known.
        let rules = "add table inet t
                     add chain inet t f { type filter hook forward priority filter; }
                     add rule inet t f meta l4proto udp drop\n";
        routed.link.rules(rules);
        assert_eq!(routed.path_mtu(target, "request:1500"), 0, "neither");
        routed.link.rules("delete table inet t\n");
    }
}
