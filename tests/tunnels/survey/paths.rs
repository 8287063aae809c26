//! Paths between hosts 1 and 2 whose first packet after silence suffers, by rule.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wylis_harness::device::Weather;
use wylis_harness::netns::{Entrance, feed};

use crate::faults::{self, Fault};
use crate::network::{Network, Overlay, Topology, underlay};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// What the first connection after too long a silence suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toll {
    /// Its first packet is lost; a retransmit passes after a second or more.
    Lost,
    /// Its packets are queued for so long, and then delivered.
    Held(Duration),
    /// All are lost until the other side sends.
    Barred,
}

/// A path, and the rule that it follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColdPath {
    pub(crate) topology: Topology,
    /// The silence after which it is cold for the first packet of host 1, and of host 2; `None`: never.
    pub(crate) after: [Option<Duration>; 2],
    pub(crate) toll: Toll,
    lay: fn(&Network, Duration) -> Laid,
}

/// What makes a path cold; removed when dropped.
pub(crate) type Laid = Vec<Box<dyn Any + Send>>;

const TWO: Topology = Topology::of(2);
const IP_IN_IP: Topology = Topology { overlay: Overlay::IpInIp, ..TWO };

impl ColdPath {
    /// Each direction on its own loses the first packet after silence.
    pub(crate) const fn both_ways(overlay: Overlay, after: Duration) -> Self {
        let topology = Topology { overlay, ..TWO };
        let after = [Some(after), Some(after)];
        Self {
            topology,
            after,
            toll: Toll::Lost,
            lay: |network, after| on_every_host(network, &faults::cold_path(after)),
        }
    }

    /// Only packets of host 1 are lost, whether it speaks first or answers.
    pub(crate) const ONE_WAY: Self = Self {
        topology: IP_IN_IP,
        after: [Some(seconds(3)), Some(seconds(3))],
        toll: Toll::Lost,
        lay: |network, after| {
            vec![Box::new(Fault::put(&network.host(1).namespace, &faults::cold_path(after)))]
        },
    };

    /// A filter with state: host 1's first packet after silence is lost, host 2's is not and opens both ways.
    pub(crate) const ONE_SIDE: Self = Self {
        topology: IP_IN_IP,
        after: [Some(seconds(3)), None],
        toll: Toll::Lost,
        lay: |network, after| {
            vec![Box::new(Fault::put(&network.host(1).namespace, &faults::cold_side(1, after)))]
        },
    };

    /// Host 1 is behind a NAT that forgets: host 2 does not reach it until it has sent.
    pub(crate) const NAT: Self = Self {
        topology: Topology { nat: true, ..TWO },
        after: [None, Some(seconds(4))],
        toll: Toll::Barred,
        lay: |network, after| {
            let router = network.router.as_ref().expect("a router was asked for");
            for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
                router.sysctl(&format!("netfilter/{name}"), &after.as_secs().to_string());
            }
            vec![Box::new(Fault::put(router, faults::NO_WAY_IN))]
        },
    };

    /// An expired session whose handshake is lost once, in small: the link queues what is sent after silence for
    /// the 5 s until WireGuard's next attempt. `long` has the true one.
    pub(crate) const HANDSHAKE: Self = Self {
        topology: Topology { slow_link: Some(2), ..TWO },
        after: [Some(seconds(4)), Some(seconds(4))],
        toll: Toll::Held(seconds(5)),
        lay: |network, after| {
            let cable = network.cable.as_ref().expect("a cable was asked for");
            cable.set(Weather { held: Some((after, seconds(5))), ..Weather::default() });
            Vec::new()
        },
    };

    /// Host 1 forgets the other's link address, and its first request for it is lost.
    pub(crate) const NEIGHBOUR: Self = Self {
        topology: TWO,
        after: [Some(seconds(4)), Some(seconds(4))],
        toll: Toll::Held(RESOLUTION),
        lay: |network, after| vec![Box::new(Collector::start(network, after))],
    };

    /// Nothing is ever lost.
    pub(crate) const WARM: Self =
        Self { topology: TWO, after: [None, None], toll: Toll::Lost, lay: |_, _| Vec::new() };

    /// 30 % of all packets are lost each way, idle or not.
    pub(crate) const LOSSY: Self = Self {
        lay: |network, _| {
            let lost = "numgen random mod 100 < 30";
            let rules = faults::drops(&[(1, 2, lost), (2, 1, lost)]);
            vec![Box::new(Fault::put(&network.host(1).namespace, &rules))]
        },
        ..Self::WARM
    };

    /// The same rule over another overlay.
    pub(crate) const fn over(self, overlay: Overlay) -> Self {
        Self { topology: Topology { overlay, ..self.topology }, ..self }
    }

    /// The longest time that a control waits: WireGuard's own keepalive opens a NAT 10 s after its last packet.
    pub(crate) fn limit(&self) -> Duration {
        if self.toll == Toll::Barred { seconds(3) } else { Duration::MAX }
    }

    /// Makes the path cold from now on.
    pub(crate) fn lay(&self, network: &Network) -> Laid {
        let after = self.after.iter().flatten().next();
        (self.lay)(network, after.copied().unwrap_or_default())
    }
}

fn on_every_host(network: &Network, rules: &str) -> Laid {
    let put = |rules| move |host: &crate::network::Host| Fault::put(&host.namespace, rules);
    network.hosts().map(put(rules)).map(|fault| Box::new(fault) as Box<dyn Any + Send>).collect()
}

/// From the lost request for a link address to the next.
const RESOLUTION: Duration = Duration::from_millis(500);
/// How exactly the collector sees the end of a silence.
const LOOK: Duration = Duration::from_millis(20);

/// Forgets host 2's link address on host 1 after silence of the tunnel, as the kernel does on hosts with more than
/// 128 neighbours.
struct Collector {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn start(network: &Network, after: Duration) -> Self {
        let host = network.host(1);
        host.namespace
            .sysctl("ipv4/neigh/eth0/retrans_time_ms", &RESOLUTION.as_millis().to_string());
        host.namespace.nft(faults::LOST_ARP);
        // Host 2 would ask for host 1's address once its own entry is stale, and host 1 learn from the question.
        let hour = Duration::from_secs(3600).as_millis().to_string();
        network.host(2).namespace.sysctl("ipv4/neigh/eth0/base_reachable_time_ms", &hour);
        let (inside, tunnel) = (host.namespace.entrance(), host.wireguard.name().to_owned());
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || collect(&inside, &tunnel, after, &stopped));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn collect(inside: &Entrance, tunnel: &str, after: Duration, stop: &AtomicBool) {
    inside.within(|| {
        let (mut seen, mut since, mut is_known) = (String::new(), Instant::now(), true);
        while !stop.load(Ordering::Relaxed) {
            let counters = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let counters = counters.lines().find(|line| line.contains(tunnel)).unwrap_or_default();
            if counters != seen {
                (seen, since, is_known) = (counters.to_owned(), Instant::now(), true);
            } else if is_known && since.elapsed() >= after {
                let forget = format!("neigh del {} dev eth0\n", underlay(2));
                feed("ip", &["-force", "-batch", "-"], &forget);
                is_known = false;
            }
            std::thread::sleep(LOOK);
        }
    });
}
