//! Whether this host has a route to any peer: without one, an address that has none is no fault of its peer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

/// Addresses that are tried, spread evenly over all peers: each costs a look-up in the kernel's table, and
/// routes are rarely of one peer each.
const MAX_TRIED: usize = 64;

/// Addresses of peers.
#[derive(Default)]
pub(super) struct Routes(Mutex<Arc<[SocketAddr]>>);

impl Routes {
    /// Replaces the peers.
    pub(super) fn set_peers(&self, peers: &[SocketAddr]) {
        let step = peers.len().div_ceil(MAX_TRIED).max(1);
        let tried = peers.iter().step_by(step).copied().collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tried;
    }

    /// Whether there is no route to any of the peers that are tried. `false` without peers, and if the kernel
    /// gives no socket to find out.
    pub(super) fn has_none(&self) -> bool {
        let tried = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        !tried.is_empty() && tried.iter().all(|address| is_without_route(*address, open(*address)))
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0))
}

/// Looks up the route: connect(2) of a datagram socket sends no packet (udp(7)). A kernel without IPv6 has no
/// route of that family; a socket that is missing for any other reason proves nothing.
fn is_without_route(address: SocketAddr, socket: io::Result<UdpSocket>) -> bool {
    match socket {
        Ok(socket) => socket.connect(address).is_err(),
        Err(error) => error.raw_os_error() == Some(libc::EAFNOSUPPORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_the_kernel_refuses_proves_no_missing_route() {
        let address = "203.0.113.5:9050".parse().unwrap();
        let refused = |code| is_without_route(address, Err(io::Error::from_raw_os_error(code)));
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::EADDRINUSE] {
            assert!(!refused(code), "errno {code}");
        }
        assert!(refused(libc::EAFNOSUPPORT), "a kernel without IPv6");
    }
}
