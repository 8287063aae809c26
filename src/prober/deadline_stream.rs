//! One connection under one deadline: opened, waited for, written to, read from, closed. It decides
//! nothing.
//!
//! It never blocks past the deadline: the socket is non-blocking, and every wait is a ppoll(2) for
//! what is left of the budget. (The socket's own timeouts, SO_RCVTIMEO and SO_SNDTIMEO, run on the
//! kernel's timer wheel, whose slots widen with the wait: 5 s overshot by up to 248 ms, ppoll(2) by
//! 5 ms; and each costs a system call to set.)

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// ppoll(2) overshoots by milliseconds. Who ends later than this after a deadline was kept from
/// running, and saw neither the peer nor the clock.
pub(super) const LATE: Duration = Duration::from_millis(250);

/// Opens a socket and begins to connect; the second value is connect(2)'s own answer. The socket
/// outlives a failed connect, since it holds the kernel's evidence.
pub(super) fn open(target: SocketAddr) -> io::Result<(TcpStream, io::Result<()>)> {
    // `Socket::new` closes it on exec; non-blocking from the start spares four fcntl(2).
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    // Both save packets or time, neither decides: a kernel that refuses still probes.
    // Quick ACKs off before the connect: the handshake's ACK then rides on the request (tcp(7)).
    let _ = socket.set_tcp_quickack(false);
    let _ = socket.set_tcp_nodelay(true);
    let pending = match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        result => result,
    };
    Ok((socket.into(), pending))
}

/// Closes with a reset (SO_LINGER 0, socket(7)): no TIME_WAIT on either side, whoever closes first,
/// since only a side that has seen both FINs enters it. Nothing is lost: the answer has been read,
/// or is not wanted.
pub(super) fn close(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// A socket and the deadline of all that is done with it.
#[derive(Clone, Copy)]
pub(super) struct DeadlineStream<'a> {
    pub(super) stream: &'a TcpStream,
    pub(super) deadline: Instant,
}

impl DeadlineStream<'_> {
    pub(super) fn send(self, mut request: &[u8]) -> io::Result<()> {
        let mut stream = self.stream;
        while !request.is_empty() {
            match stream.write(request) {
                Ok(written) => request = request.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::OUT)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits first: the answer is at least one round trip away. The deadline is absolute, so a peer
    /// that drips its answer gains nothing.
    pub(super) fn read(self, free: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        loop {
            self.wait(PollFlags::IN)?;
            match stream.read(free) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                result => return result,
            }
        }
    }

    /// Waits until the socket is ready, or for as long as the deadline lets (`TimedOut`).
    fn wait(self, events: PollFlags) -> io::Result<()> {
        let ready = self.wait_until(events, self.deadline)?;
        if ready { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
    }

    /// Waits until the socket is ready; `false` when it is not by then.
    pub(super) fn wait_until(self, events: PollFlags, until: Instant) -> io::Result<bool> {
        wait_for(&mut [PollFd::new(self.stream, events)], until)
    }
}

/// Waits until one of them is ready; `false` when none is by then.
pub(super) fn wait_for(sockets: &mut [PollFd<'_>], until: Instant) -> io::Result<bool> {
    loop {
        // Looks once even when nothing is left: what came while we were kept from running counts
        // as having come.
        let left = until.saturating_duration_since(Instant::now());
        // A timeout too long for the kernel's clock is none.
        let timeout = Timespec::try_from(left).ok();
        match poll(sockets, timeout.as_ref()) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
