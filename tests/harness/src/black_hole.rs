//! A port that drops every SYN, like a peer behind a broken path. Needs no root.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

/// A port that answers no SYN, because its queue of one connection is full.
pub struct BlackHole {
    /// The port number.
    pub port: u16,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens one on a free port.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn open() -> Self {
        Self::open_at((Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// Opens one at an address.
    ///
    /// # Panics
    /// When the address is in use.
    #[must_use]
    pub fn open_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        // SAFETY: a valid listening socket; listening again only changes the length of its queue.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let port = listener.local_addr().unwrap().port();
        // A connection to the unspecified address reaches this host.
        let target = SocketAddr::new(address.ip(), port);
        let connect = |_| TcpStream::connect_timeout(&target, Duration::from_millis(300)).ok();
        let queue = (0..4).map_while(connect).collect();
        Self { port, _listener: listener, _queue: queue }
    }
}
