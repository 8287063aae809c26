//! The listener: when it is watched, how many connections are accepted in a row, and the pause while
//! descriptors are short. Knows no client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::poll::{Interest, Poll, Token};

/// Connections accepted in a row during a burst, before other events are handled.
const MAX_BATCH: usize = 32;
/// Pause after `accept` found no descriptor: short beside a lost packet, and no load.
const PAUSE: Duration = Duration::from_millis(50);
/// A shortage is over after this time without a failure; one that comes and goes is logged once.
const RECOVERY: Duration = Duration::from_secs(10);

pub(super) struct Acceptor {
    listener: TcpListener,
    watched: bool,
    /// The end of the current pause.
    pub(super) retry_at: Option<Instant>,
    /// The last failure for want of descriptors, until the shortage is over.
    shortage: Option<Instant>,
    /// How many connections to accept in a row.
    pub(super) batch: usize,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener, poll: &Poll) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        poll.add(&listener, Token::Listener, Interest::Read)?;
        Ok(Self { listener, watched: true, retry_at: None, shortage: None, batch: 1 })
    }

    /// Accepts one connection, and returns it with the client's address. `Ok(None)` if it failed before it
    /// was accepted.
    pub(super) fn accept(&mut self, now: Instant) -> Result<Option<(OwnedFd, IpAddr)>, Errno> {
        match acceptfrom_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((socket, address)) => {
                if self.shortage.is_some_and(|last| now.duration_since(last) > RECOVERY) {
                    self.shortage = None;
                    log::info!("accepting connections again");
                }
                // A client without an address cannot exist.
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                let address = address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip());
                Ok(Some((socket, address)))
            }
            Err(error) if is_of_the_connection(error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The batch was full, so more connections may wait: takes more next time.
    pub(super) fn grow_batch(&mut self) {
        self.batch = (self.batch * 2).min(MAX_BATCH);
    }

    /// Stops watching for a while: connections wait in the backlog, which is better for a peer than
    /// a reset.
    pub(super) fn pause(&mut self, error: Errno, poll: &Poll, now: Instant) -> Result<(), Errno> {
        if self.shortage.replace(now).is_none() {
            log::warn!("accept: {error}; new connections wait in the backlog");
        }
        self.retry_at = Some(now + PAUSE);
        self.watch(false, poll)
    }

    /// Watches the listener, or stops watching it.
    pub(super) fn watch(&mut self, watched: bool, poll: &Poll) -> Result<(), Errno> {
        if watched {
            self.retry_at = None;
        }
        if std::mem::replace(&mut self.watched, watched) == watched {
            return Ok(());
        }
        let interest = if watched { Interest::Read } else { Interest::Nothing };
        poll.modify(&self.listener, Token::Listener, interest)
    }
}

/// Errors of the connection or the network rather than of the listener (accept(2)).
fn is_of_the_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::CONNRESET
            | Errno::TIMEDOUT
            | Errno::PERM
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
    )
}
