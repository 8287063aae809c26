//! A port that swallows every SYN, without root: what a peer behind a broken path looks like.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::time::Duration;

/// A port that answers no SYN: its queue of one connection is full. No root is needed for it.
pub struct BlackHole {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens it on that port of every address of this host.
    ///
    /// # Panics
    /// When the port is in use.
    #[must_use]
    pub fn open(port: u16) -> Self {
        // SAFETY: plain socket calls; the descriptor goes into the listener, which closes it.
        let listener = unsafe {
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
            assert!(socket >= 0);
            TcpListener::from_raw_fd(socket)
        };
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: port.to_be(),
            sin_addr: libc::in_addr { s_addr: 0 },
            sin_zero: [0; 8],
        };
        // SAFETY: the address outlives the call and has the length that is told.
        let bound = unsafe {
            let length = u32::try_from(size_of_val(&address)).unwrap();
            libc::bind(listener.as_raw_fd(), std::ptr::from_ref(&address).cast(), length)
        };
        assert_eq!(bound, 0, "port {port} is in use");
        // SAFETY: a bound socket.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connect = |_| TcpStream::connect_timeout(&target, Duration::from_millis(300)).ok();
        let queue = (0..4).map_while(connect).collect();
        Self { _listener: listener, _queue: queue }
    }
}
