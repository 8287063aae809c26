//! Which addresses may be probed. Pure.
//!
//! A list from the API server holds what can be written into the status of a pod: it must not aim probes
//! at this host, its link, a metadata service, a group of hosts or the API server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::label::label_set;

/// Metadata services outside of the link-local ranges: they give credentials to a request from the node.
const METADATA: [IpAddr; 5] = [
    // AWS: "Access instance metadata for an EC2 instance", IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Google Cloud: "VM metadata", metadata server of IPv6-only instances.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Scaleway: "Using instance metadata", IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    // Alibaba Cloud: "ECS instance metadata".
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure: "What is IP address 168.63.129.16?", WireServer.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];
/// The prefix of IPv6 addresses that a NAT64 translates to the IPv4 address at their end (RFC 6052).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

label_set! {
    /// Why an address is not probed.
    pub enum AddressClass {
        /// Of this host, whatever its addresses (RFC 1122, 3.2.1.3, and RFC 4291, 2.5.2).
        Unspecified = "unspecified",
        /// Of a group of hosts.
        Multicast = "multicast",
        /// Of all hosts of the link.
        Broadcast = "broadcast",
        /// Of this host.
        Loopback = "loopback",
        /// Of this link.
        LinkLocal = "link-local",
        /// Of a metadata service.
        Metadata = "a metadata service's",
        /// Where the API server listens.
        ApiServer = "the API server's",
        /// At a port where no peer listens.
        OtherPort = "at another port",
    }
}

/// Which addresses of a list may be probed.
#[derive(Debug, Clone)]
pub enum AddressRule {
    /// A fixed list, which may name any single host: this one and others on the link, too.
    Fixed,
    /// Pods.
    Pods {
        /// The peers listen on loopback addresses, as on one machine.
        loopback: bool,
        /// Where the API server listens, as far as that is known. On a control-plane node its address may be
        /// that of an agent, too, at another port.
        api_server: Vec<SocketAddr>,
        /// Where the peers listen.
        port: u16,
        /// Where the hosts behind them are asked for a sign of life.
        host_port: u16,
    },
}

impl AddressClass {
    /// The class of an address by itself; `None` for one of another host.
    fn of(ip: IpAddr) -> Option<Self> {
        let is_this_network = matches!(ip, IpAddr::V4(ip) if ip.octets().starts_with(&[0]));
        let is_link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        [
            (Self::Unspecified, ip.is_unspecified() || is_this_network),
            (Self::Multicast, ip.is_multicast()),
            (Self::Broadcast, ip == Ipv4Addr::BROADCAST),
            (Self::Loopback, ip.is_loopback()),
            (Self::LinkLocal, is_link_local),
            (Self::Metadata, METADATA.contains(&ip)),
        ]
        .into_iter()
        .find_map(|(class, holds)| holds.then_some(class))
    }

    /// Whether it belongs to no single host, so that no peer can have it.
    const fn is_no_host(self) -> bool {
        matches!(self, Self::Unspecified | Self::Multicast | Self::Broadcast)
    }
}

impl AddressRule {
    /// The rule for pods. Only the agent's own listen address permits loopback addresses: nothing that an
    /// API server sends does.
    #[must_use]
    pub fn pods(listen: Option<SocketAddr>, (api_host, api_port): (&str, u16), port: u16) -> Self {
        let api_server = api_host.trim_matches(['[', ']']).parse::<IpAddr>();
        Self::Pods {
            loopback: listen.is_some_and(|listen| effective(listen).ip().is_loopback()),
            api_server: api_server.map(|ip| effective((ip, api_port).into())).into_iter().collect(),
            port,
            host_port: port,
        }
    }

    /// The same, with hosts asked at this port.
    #[must_use]
    pub fn with_host_port(self, host_port: u16) -> Self {
        match self {
            Self::Fixed => Self::Fixed,
            Self::Pods { loopback, api_server, port, .. } => {
                Self::Pods { loopback, api_server, port, host_port }
            }
        }
    }

    /// The same with these addresses of the API server, if it is given by name.
    #[must_use]
    pub fn with_api_server(&self, addresses: &[SocketAddr]) -> Self {
        let mut rule = self.clone();
        if let Self::Pods { api_server, .. } = &mut rule {
            api_server.extend(addresses.iter().copied().map(effective));
        }
        rule
    }

    /// Why `address` is not probed; `None` if it may be.
    #[must_use]
    pub fn refusal(&self, address: SocketAddr) -> Option<AddressClass> {
        match self {
            Self::Pods { api_server, port, .. }
                if *port != address.port() && !api_server.contains(&effective(address)) =>
            {
                Some(AddressClass::OtherPort)
            }
            _ => self.refusal_at_any_port(address),
        }
    }

    /// Whether the host of a peer may be asked for a sign of life.
    #[must_use]
    pub fn allows_host(&self, host: IpAddr) -> bool {
        let port = match self {
            Self::Fixed => 0,
            Self::Pods { host_port, .. } => *host_port,
        };
        self.refusal_at_any_port(SocketAddr::new(host, port)).is_none()
    }

    fn refusal_at_any_port(&self, address: SocketAddr) -> Option<AddressClass> {
        let address = effective(address);
        let class = AddressClass::of(address.ip());
        match self {
            Self::Fixed => class.filter(|class| class.is_no_host()),
            Self::Pods { api_server, .. } if api_server.contains(&address) => {
                Some(AddressClass::ApiServer)
            }
            Self::Pods { loopback: true, .. } => {
                class.filter(|class| *class != AddressClass::Loopback)
            }
            Self::Pods { .. } => class,
        }
    }
}

/// The address that packets reach: an IPv4 address may be written as an IPv6 one.
fn effective(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V6(ip) if ip.segments().starts_with(&NAT64) => {
            let [.., a, b, c, d] = ip.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 9050;
    const API_PORT: u16 = 443;
    /// Addresses of each class, IPv4 addresses in IPv6 form included.
    const CLASSES: [(AddressClass, &[&str]); 6] = [
        (AddressClass::Unspecified, &["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"]),
        (AddressClass::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1", "::ffff:224.0.0.1"]),
        (AddressClass::Broadcast, &["255.255.255.255", "::ffff:255.255.255.255"]),
        (
            AddressClass::Loopback,
            &["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"],
        ),
        (
            AddressClass::LinkLocal,
            &[
                "169.254.169.254",
                "fe80::1",
                "febf::1",
                "::ffff:169.254.169.254",
                "64:ff9b::a9fe:a9fe",
            ],
        ),
        (
            AddressClass::Metadata,
            &[
                "fd00:ec2::254",
                "fd20:ce::254",
                "fd00:42::42",
                "100.100.100.200",
                "168.63.129.16",
                "::ffff:a83f:8110",
            ],
        ),
    ];
    const OF_A_HOST: [&str; 14] = [
        "1.1.1.1",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.201",
        "168.63.129.17",
        "172.16.0.1",
        "192.0.2.1",
        "198.18.171.2",
        "240.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "fd00:ec2::253",
        "fd00::1",
        "2001:db8::1",
    ];

    fn at(ip: &str, port: u16) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), port)
    }

    fn pods(listen: Option<&str>, api: &str) -> AddressRule {
        AddressRule::pods(listen.map(|ip| at(ip, PORT)), (api, API_PORT), PORT)
    }

    fn refused(rule: &AddressRule) -> Vec<AddressClass> {
        let classes = CLASSES.iter().filter(|(class, ips)| {
            let refusals = ips.iter().map(|ip| rule.refusal(at(ip, PORT)));
            let refusals: Vec<_> = refusals.collect();
            let same = refusals.iter().all(|refusal| *refusal == refusals[0]);
            assert!(same && refusals[0].is_none_or(|found| found == *class), "{refusals:?}");
            refusals[0].is_some()
        });
        classes.map(|(class, _)| *class).collect()
    }

    #[test]
    fn a_pod_has_an_address_of_another_host() {
        use AddressClass::*;
        let all = [Unspecified, Multicast, Broadcast, Loopback, LinkLocal, Metadata];
        for listen in [None, Some("10.0.0.1"), Some("::"), Some("0.0.0.0")] {
            assert_eq!(refused(&pods(listen, "10.96.0.1")), all, "{listen:?}");
        }
        for ip in OF_A_HOST {
            assert_eq!(pods(None, "10.96.0.1").refusal(at(ip, PORT)), None, "{ip}");
        }
    }

    #[test]
    fn only_the_agents_own_listen_address_permits_loopback() {
        use AddressClass::*;
        for listen in ["127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            let refused = refused(&pods(Some(listen), "10.96.0.1"));
            let expected = [Unspecified, Multicast, Broadcast, LinkLocal, Metadata];
            assert_eq!(refused, expected, "{listen}");
        }
    }

    #[test]
    fn the_api_server_is_no_peer() {
        // Only an agent that listens at the API server's own port could be confused with it.
        let rule = |listen, host| AddressRule::pods(listen, (host, PORT), PORT);
        for host in ["10.96.0.1", "::ffff:10.96.0.1", "[::ffff:10.96.0.1]"] {
            for ip in ["10.96.0.1", "::ffff:10.96.0.1", "64:ff9b::a60:1"] {
                let refusal = rule(None, host).refusal(at(ip, PORT));
                assert_eq!(refusal, Some(AddressClass::ApiServer), "{host} {ip}");
            }
        }
        let listen = Some(at("127.0.0.1", PORT));
        let refusal = rule(listen, "127.0.0.1").refusal(at("127.0.0.1", PORT));
        assert_eq!(refusal, Some(AddressClass::ApiServer));
        let named = rule(None, "api.example.org");
        assert_eq!(named.refusal(at("10.96.0.1", PORT)), None);
        let resolved = named.with_api_server(&[at("::ffff:10.96.0.1", PORT)]);
        assert_eq!(resolved.refusal(at("10.96.0.1", PORT)), Some(AddressClass::ApiServer));
    }

    #[test]
    fn an_agent_on_the_node_of_the_api_server_is_a_peer() {
        for host in ["192.0.2.1", "api.example.org"] {
            let rule = pods(None, host).with_api_server(&[at("192.0.2.1", API_PORT)]);
            assert_eq!(rule.refusal(at("192.0.2.1", PORT)), None, "{host}");
        }
    }

    #[test]
    fn a_host_is_another_one_and_not_where_the_api_server_listens() {
        for (ips, allowed) in
            CLASSES.map(|(_, ips)| (ips, false)).into_iter().chain([(&OF_A_HOST[..], true)])
        {
            for ip in ips {
                let ip = ip.parse().unwrap();
                assert_eq!(pods(None, "10.96.0.1").allows_host(ip), allowed, "{ip}");
            }
        }
        let node = "192.0.2.1".parse().unwrap();
        let rule = pods(None, "192.0.2.1");
        assert!(rule.allows_host(node), "a control-plane node, at another port");
        assert!(!rule.with_host_port(API_PORT).allows_host(node));
        let loopback = pods(Some("127.0.0.1"), "10.96.0.1");
        assert!(loopback.allows_host("127.0.0.2".parse().unwrap()));
        assert!(AddressRule::Fixed.allows_host("127.0.0.2".parse().unwrap()));
        assert!(!AddressRule::Fixed.allows_host("224.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_pod_listens_at_the_port_of_all_peers() {
        let refusal = pods(None, "10.96.0.1").refusal(at("10.0.0.1", 10_250));
        assert_eq!(refusal, Some(AddressClass::OtherPort));
    }

    #[test]
    fn a_fixed_list_names_any_single_host() {
        use AddressClass::*;
        assert_eq!(refused(&AddressRule::Fixed), [Unspecified, Multicast, Broadcast]);
        assert_eq!(AddressRule::Fixed.refusal(at("10.0.0.1", 1)), None);
    }
}
