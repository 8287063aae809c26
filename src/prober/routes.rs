//! Whether this host has a route to any peer: without one, an address that has none is no fault of its peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Addresses that are tried, spread evenly over all peers: each costs a look-up in the kernel's table, and
/// routes are rarely of one peer each.
const MAX_TRIED: usize = 64;

/// Addresses of peers.
#[derive(Default)]
pub(super) struct Routes(Mutex<Vec<SocketAddr>>);

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
        !tried.is_empty() && tried.into_iter().all(|address| !may_have_route(address))
    }
}

/// Looks up the route: connect(2) of a datagram socket sends no packet (udp(7)).
fn may_have_route(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect(address).is_ok())
}
