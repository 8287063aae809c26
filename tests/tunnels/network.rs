//! The network: a switch, its hosts, tunnels between the hosts, and the pod network on top.
//!
//! | part | addresses |
//! |---|---|
//! | underlay, behind the switch | 198.18.0.N, the switch itself at 198.18.0.254 |
//! | host 1 behind a NAT | 192.0.2.2, its router at 192.0.2.1 and 198.18.0.1 |
//! | inside WireGuard | 10.99.0.N |
//! | pods of host N | 10.244.N.0/24, the host itself at 10.244.N.1, the workload at 10.244.N.200 |
//! | with IPv6 | the same numbers in fd00:198:18::/64 and fd00:10:244:N::/64 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::wireguard::{self, Peer, WireGuard};
use wylis_harness::device::{Cable, IpInIp};
use wylis_harness::netns::{Namespace, feed};
use wylis_harness::{TempDir, skip, wait_until};

/// How pods of different hosts reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlay {
    /// Ethernet frames in UDP, as in flannel.
    Vxlan,
    /// IP protocol 4, as in Calico.
    IpInIp,
    /// None: WireGuard itself routes the pods' prefixes.
    Routed,
}

/// The addresses of the pods; IPv6 needs [`Overlay::Routed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    /// IPv6 first, IPv4 second.
    Dual,
    V6,
}

/// The network to build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topology {
    pub(crate) size: u8,
    pub(crate) overlay: Overlay,
    pub(crate) family: Family,
    /// The host that all paths between the others lead through; needs [`Overlay::Routed`].
    pub(crate) hub: Option<u8>,
    /// Host 1 is behind a router with NAT.
    pub(crate) nat: bool,
    /// The host whose link is a [`Cable`].
    pub(crate) slow_link: Option<u8>,
}

impl Topology {
    pub(crate) const fn of(size: u8) -> Self {
        let (overlay, family) = (Overlay::Vxlan, Family::V4);
        Self { size, overlay, family, hub: None, nat: false, slow_link: None }
    }

    /// A star around host 1.
    pub(crate) const fn star(size: u8) -> Self {
        Self { overlay: Overlay::Routed, hub: Some(1), ..Self::of(size) }
    }

    /// The address of the switch for the pods.
    pub(crate) fn switch(self) -> IpAddr {
        if self.family == Family::V6 { underlay_v6(254).into() } else { SWITCH.into() }
    }

    /// Whether two hosts have a tunnel of their own.
    fn joins(self, one: u8, other: u8) -> bool {
        one != other && self.hub.is_none_or(|hub| hub == one || hub == other)
    }
}

/// One pod: a namespace with an address.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) address: IpAddr,
    /// Its other address, in a dual-stack network.
    pub(crate) second: Option<IpAddr>,
}

#[derive(Debug)]
pub(crate) struct Host {
    number: u8,
    next_pod: u8,
    pub(crate) wireguard: WireGuard,
    pub(crate) workload: Pod,
    pub(crate) namespace: Namespace,
}

/// The whole network; removed when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) cable: Option<Cable>,
    tunnels: Vec<IpInIp>,
    hosts: Vec<Host>,
    pub(crate) router: Option<Namespace>,
    pub(crate) switch: Namespace,
    topology: Topology,
    dir: TempDir,
}

/// The switch's own address, reachable from pods too.
pub(crate) const SWITCH: Ipv4Addr = underlay(254);
/// The last octet of the workload's address.
const WORKLOAD: u8 = 200;
/// The last octets of agents' pods are above this.
const FIRST_POD: u8 = 10;

pub(crate) const fn underlay(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, number)
}

pub(crate) const fn inner(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, number)
}

/// The prefix of a host's pods.
pub(crate) fn pods_of(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

const fn underlay_v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x198, 0x18, 0, 0, 0, 0, number as u16)
}

const fn pod_v6(number: u8, last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, number as u16, 0, 0, 0, last as u16)
}

/// The prefix of a host's pods in IPv6.
fn pods_v6_of(number: u8) -> String {
    format!("{}/64", pod_v6(number, 0))
}

/// The Ethernet address of a host's end of the VXLAN.
fn overlay_mac(number: u8) -> String {
    format!("02:00:0a:f4:{number:02x}:00")
}

/// Whether the network can be built here; reports the reason if not.
pub(crate) fn able() -> bool {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    let reason = REASON.get_or_init(|| {
        let works = |program: &str, argument: &str| {
            let mut command = Command::new(program);
            command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let tools = [
            ("wireguard-go", "--version", "wireguard-go"),
            ("wg", "--version", "wireguard-tools"),
            ("setpriv", "--version", "util-linux"),
            ("bridge", "-V", "iproute2"),
        ];
        let missing = tools.iter().find(|(program, argument, _)| !works(program, argument));
        if let Some((program, _, package)) = missing {
            return Some(format!("no {program}: needs {package}"));
        }
        let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
        tun.err().map(|error| format!("no /dev/net/tun: {error}"))
    });
    if let Some(reason) = reason {
        skip(reason);
    }
    // Reports its own reason.
    reason.is_none() && Namespace::new("trial").is_some()
}

impl Network {
    /// Builds the network, or reports why not and returns `None`.
    pub(crate) fn new(topology: Topology) -> Option<Self> {
        if !able() {
            return None;
        }
        let dir = TempDir::new("network");
        let switch = Namespace::new("sw")?;
        // A fixed address, as CNI plugins set it: otherwise it changes with the bridge's ports.
        switch.ip(&format!(
            "link add br0 address 02:00:c6:12:00:fe type bridge\naddr add {SWITCH}/24 dev br0\nlink set br0 up\n"
        ));
        prepare(&switch);
        let mut network = Self {
            cable: None,
            tunnels: Vec::new(),
            hosts: Vec::new(),
            router: None,
            switch,
            topology,
            dir,
        };
        for number in 1..=topology.size {
            network.add_host(number, topology)?;
        }
        network.join_hosts(topology);
        if topology.overlay == Overlay::Routed {
            network.route_pods();
        }
        Some(network)
    }

    pub(crate) fn host(&self, number: u8) -> &Host {
        &self.hosts[usize::from(number) - 1]
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter()
    }

    /// Makes every pair of hosts establish its WireGuard session. Two handshakes that start at the same
    /// moment may both fail and retry after 5 s.
    pub(crate) fn shake_hands(&self) {
        let mut next = Instant::now();
        wait_until(Duration::from_secs(30), "every tunnel has a session", || {
            // Again after a while, since the first datagram may be lost while the network is set up.
            if Instant::now() >= next {
                self.greet();
                next += Duration::from_secs(6);
            }
            self.hosts.iter().all(|host| {
                let joined = |other: &&Host| self.topology.joins(host.number, other.number);
                host.wireguard.sessions() == self.hosts.iter().filter(joined).count()
            })
        });
    }

    /// Sends a datagram through every tunnel, from one end.
    fn greet(&self) {
        for (at, host) in self.hosts.iter().enumerate() {
            let later = self.hosts[at + 1..].iter().map(|other| inner(other.number));
            host.namespace.entrance().within(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                // The discard port, without a listener.
                later.for_each(|inner| drop(socket.send_to(b"", (inner, 9))));
            });
        }
    }

    /// Another host, as hosts that know its endpoint reach it.
    pub(crate) fn peer(&self, number: u8) -> Peer<'_> {
        let at = SocketAddr::new(underlay(number).into(), wireguard::PORT);
        Peer { end: &self.host(number).wireguard, endpoint: Some(at), inner: inner(number) }
    }

    /// Makes a pod on a host, at an unused address.
    pub(crate) fn pod(&mut self, number: u8) -> Pod {
        let topology = self.topology;
        let host = &mut self.hosts[usize::from(number) - 1];
        host.next_pod += 1;
        let last = host.next_pod;
        pod(&host.namespace, number, last, topology).expect("a namespace")
    }

    /// Adds a host with its link, pod bridge and workload; [`Self::join_hosts`] adds the tunnels.
    fn add_host(&mut self, number: u8, topology: Topology) -> Option<()> {
        let namespace = Namespace::new(&format!("h{number}"))?;
        let log = self.dir.path().join(format!("wireguard{number}.log"));
        let wireguard = WireGuard::start(&namespace, &log);
        let (host, switch) = (namespace.name(), self.switch.name());
        if topology.nat && number == 1 {
            let router = Namespace::new("nat")?;
            router.ip(&format!(
                "link add inside type veth peer name eth0 netns {host}\n\
                 link add outside type veth peer name p1 netns {switch}\n\
                 addr add 192.0.2.1/24 dev inside\naddr add {}/24 dev outside\n\
                 link set inside up\nlink set outside up\n\
                 route add {} via 192.0.2.2\n",
                underlay(1),
                pods_of(1)
            ));
            router.nft(MASQUERADE);
            prepare(&router);
            namespace.ip(
                "addr add 192.0.2.2/24 dev eth0\nlink set eth0 up\nroute add default via 192.0.2.1\n",
            );
            self.router = Some(router);
        } else {
            if topology.slow_link == Some(number) {
                let port = format!("p{number}");
                self.cable = Some(Cable::plug((&namespace, "eth0"), (&self.switch, &port)));
            } else {
                namespace
                    .ip(&format!("link add eth0 type veth peer name p{number} netns {switch}\n"));
            }
            let address = underlay(number);
            namespace.ip(&format!("addr add {address}/24 dev eth0\nlink set eth0 up\n"));
        }
        self.switch.ip(&format!(
            "link set p{number} master br0 up\nroute add {} via {}\n",
            pods_of(number),
            underlay(number)
        ));
        namespace.ip(&format!(
            "link add cni0 address 02:00:0a:f4:{number:02x}:01 type bridge\n\
             addr add 10.244.{number}.1/24 dev cni0\nlink set cni0 up\n"
        ));
        prepare(&namespace);
        if topology.family != Family::V4 {
            self.add_ipv6(&namespace, number);
        }
        let workload = pod(&namespace, number, WORKLOAD, topology)?;
        self.hosts.push(Host { number, next_pod: FIRST_POD, wireguard, workload, namespace });
        Some(())
    }

    /// IPv6 addresses of a host, and the switch's route to its pods.
    fn add_ipv6(&self, host: &Namespace, number: u8) {
        let own = underlay_v6(number);
        host.ip(&format!(
            "addr add {own}/64 dev eth0 nodad\naddr add {}/64 dev cni0 nodad\n",
            pod_v6(number, 1)
        ));
        if number == 1 {
            self.switch.ip(&format!("addr add {}/64 dev br0 nodad\n", underlay_v6(254)));
        }
        self.switch.ip(&format!("route add {} via {own}\n", pods_v6_of(number)));
    }

    /// Lets the tunnels carry the pods' packets as they are, and removes those that a star lacks.
    fn route_pods(&self) {
        let topology = self.topology;
        for host in &self.hosts {
            let device = host.wireguard.name();
            for other in self.hosts.iter().filter(|other| other.number != host.number) {
                let (own, number) = (host.number, other.number);
                if !topology.joins(own, number) {
                    host.wireguard.remove(&other.wireguard);
                } else if topology.hub == Some(number) {
                    let all = "10.99.0.0/24,10.244.0.0/16,fd00:10:244::/48";
                    host.wireguard.allow(&other.wireguard, all);
                } else {
                    let (pods, pods_v6) = (pods_of(number), pods_v6_of(number));
                    let prefixes = format!("{}/32,{pods},{pods_v6}", inner(number));
                    host.wireguard.allow(&other.wireguard, &prefixes);
                }
                host.namespace.ip(&format!("route add {} dev {device}\n", pods_of(number)));
                if topology.family != Family::V4 {
                    let pods = pods_v6_of(number);
                    host.namespace.ip(&format!("route add {pods} dev {device}\n"));
                }
            }
        }
    }

    /// Tunnels and routes between all hosts.
    fn join_hosts(&mut self, topology: Topology) {
        for host in &self.hosts {
            let others = || self.hosts.iter().filter(|other| other.number != host.number);
            let peers: Vec<Peer<'_>> = others()
                .map(|other| {
                    let hidden = topology.nat && other.number == 1;
                    let peer = self.peer(other.number);
                    Peer { endpoint: peer.endpoint.filter(|_| !hidden), ..peer }
                })
                .collect();
            host.wireguard.configure(&peers);
            let (device, own) = (host.wireguard.name(), host.number);
            host.namespace.ip(&format!(
                "addr add {}/24 dev {device}\nlink set {device} mtu 1420 up\n",
                inner(own)
            ));
            let numbers: Vec<u8> = others().map(|other| other.number).collect();
            match topology.overlay {
                Overlay::Vxlan => join_by_vxlan(&host.namespace, device, own, &numbers),
                Overlay::IpInIp => {
                    let other_end = |pod: Ipv4Addr| inner(pod.octets()[2]);
                    self.tunnels.push(IpInIp::open(
                        &host.namespace,
                        "ipip0",
                        inner(own),
                        other_end,
                    ));
                    let mut lines = "link set ipip0 mtu 1400 up\n".to_owned();
                    for other in numbers {
                        lines.push_str(&format!("route add {} dev ipip0\n", pods_of(other)));
                    }
                    host.namespace.ip(&lines);
                }
                Overlay::Routed => {}
            }
        }
    }
}

impl Overlay {
    /// The pod MTU inside the tunnel's 1,420 bytes.
    const fn mtu(self) -> u32 {
        match self {
            Self::Vxlan => 1370,
            Self::IpInIp => 1400,
            Self::Routed => 1420,
        }
    }
}

/// The NAT of a home router.
const MASQUERADE: &str = "table ip nat {
  chain out {
    type nat hook postrouting priority srcnat;
    oifname \"outside\" masquerade
  }
}
";

/// Sets what new namespaces inherit differently from machine to machine.
fn prepare(namespace: &Namespace) {
    namespace.sysctl("ipv4/ip_forward", "1");
    namespace.sysctl("ipv6/conf/all/forwarding", "1");
    for name in ["ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"] {
        namespace.sysctl(name, "0");
    }
    // The file exists only where the machine filters bridged packets.
    let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let _ = namespace.entrance().within(|| std::fs::write(path, "0"));
}

fn pod(host: &Namespace, number: u8, last: u8, topology: Topology) -> Option<Pod> {
    let namespace = Namespace::new(&format!("h{number}p{last}"))?;
    let (v4, v6) = (Ipv4Addr::new(10, 244, number, last), pod_v6(number, last));
    let mtu = topology.overlay.mtu();
    host.ip(&format!(
        "link add pod{last} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}\n\
         link set pod{last} master cni0 up\n",
        namespace.name()
    ));
    namespace.ip("link set eth0 up\n");
    if topology.family != Family::V6 {
        namespace
            .ip(&format!("addr add {v4}/24 dev eth0\nroute add default via 10.244.{number}.1\n"));
    }
    if topology.family != Family::V4 {
        let router = pod_v6(number, 1);
        namespace.ip(&format!("addr add {v6}/64 dev eth0 nodad\nroute add default via {router}\n"));
    }
    let (address, second) = match topology.family {
        Family::V4 => (v4.into(), None),
        Family::Dual => (v6.into(), Some(v4.into())),
        Family::V6 => (v6.into(), None),
    };
    Some(Pod { namespace, address, second })
}

fn join_by_vxlan(host: &Namespace, device: &str, own: u8, others: &[u8]) {
    let mtu = Overlay::Vxlan.mtu();
    let mut lines = format!(
        "link add flannel.1 mtu {mtu} address {} type vxlan id 1 local {} dstport 8472 nolearning dev {device}\n\
         addr add 10.244.{own}.0/32 dev flannel.1\nlink set flannel.1 up\n",
        overlay_mac(own),
        inner(own)
    );
    let mut forwarding = String::new();
    for other in others {
        let mac = overlay_mac(*other);
        lines.push_str(&format!(
            "neigh add 10.244.{other}.0 lladdr {mac} dev flannel.1 nud permanent\n\
             route add {} via 10.244.{other}.0 dev flannel.1 onlink\n",
            pods_of(*other)
        ));
        forwarding.push_str(&format!("fdb append {mac} dev flannel.1 dst {}\n", inner(*other)));
    }
    host.ip(&lines);
    host.entrance().within(|| feed("bridge", &["-batch", "-"], &forwarding));
}
