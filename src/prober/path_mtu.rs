//! Asks the path itself whether it carries a packet of a size, whatever the kernel's cache says. A TCP
//! connection cannot: its segments are cut to the cached path MTU for as long as the cache holds it, ten
//! minutes after the last word of a router.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

/// Datagrams that are sent at most: one may be lost.
const ATTEMPTS: u32 = 2;
/// Longest wait for the response to each: a round trip with room.
const WAIT: Duration = Duration::from_secs(1);

/// Sends a datagram of `packet` bytes, IP header included, with DF set and regardless of the cache, to the UDP
/// port of the target's number. No agent listens there, so the peer's kernel reports a closed port: the packet
/// arrived. A router that cannot forward it reports that instead. `None` without either, as where a policy
/// drops UDP; also if the report comes sooner than the peer, half a `round_trip` away, can have caused it, since
/// a firewall on the way may reject in the same words.
pub(super) fn carries(target: SocketAddr, packet: u32, round_trip: Duration) -> Option<bool> {
    let socket = open(target).ok()?;
    let headers = if target.is_ipv4() { 28 } else { 48 };
    let datagram = vec![b'x'; usize::try_from(packet.checked_sub(headers)?).ok()?];
    for _ in 0..ATTEMPTS {
        let sent = Instant::now();
        let response = socket.send(&datagram).and_then(|_| socket.recv(&mut [0; 1]));
        let error = response.err()?;
        match error.kind() {
            ErrorKind::ConnectionRefused => {
                return (sent.elapsed() >= round_trip / 2).then_some(true);
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
            _ if error.raw_os_error() == Some(libc::EMSGSIZE) => return Some(false),
            _ => return None,
        }
    }
    None
}

fn open(target: SocketAddr) -> io::Result<UdpSocket> {
    let any = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    match target {
        SocketAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
        SocketAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?,
    }
    socket.set_read_timeout(Some(WAIT))?;
    socket.connect(target)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_port_proves_that_the_packet_arrived() {
        let listening = UdpSocket::bind("127.64.4.1:0").unwrap();
        let target = listening.local_addr().unwrap();
        assert_eq!(carries(target, 1500, Duration::ZERO), None, "no report");
        drop(listening);
        assert_eq!(carries(target, 1500, Duration::ZERO), Some(true));
        assert_eq!(carries(target, 1500, Duration::from_secs(60)), None, "too soon for the peer");
        assert_eq!(carries(target, 27, Duration::ZERO), None, "no datagram is so short");
    }

    #[test]
    fn a_packet_above_the_mtu_of_the_interface_is_not_carried() {
        // The loopback's is 65,536, the longest datagram of UDP is shorter: over IPv6 this one is too long.
        let target = "127.64.4.2:9".parse().unwrap();
        assert_eq!(carries(target, 70_000, Duration::ZERO), Some(false));
    }
}
