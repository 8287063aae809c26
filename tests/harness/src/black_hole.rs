//! A port that swallows every SYN, without root: what a peer behind a broken path looks like.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

/// A port that answers no SYN: its queue of one connection is full. No root is needed for it.
pub struct BlackHole {
    /// Its number.
    pub port: u16,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens one on a free port.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn open() -> Self {
        Self::open_at((Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// Opens one there.
    ///
    /// # Panics
    /// When somebody else listens there.
    #[must_use]
    pub fn open_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        // SAFETY: a socket that listens; to listen again changes the length of its queue.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let port = listener.local_addr().unwrap().port();
        // Whoever connects to "any address" reaches this host.
        let target = SocketAddr::new(address.ip(), port);
        let connect = |_| TcpStream::connect_timeout(&target, Duration::from_millis(300)).ok();
        let queue = (0..4).map_while(connect).collect();
        Self { port, _listener: listener, _queue: queue }
    }
}
