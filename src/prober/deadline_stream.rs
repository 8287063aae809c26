//! A TCP connection with one deadline: connects, waits, sends, reads, closes. It decides nothing.
//!
//! It never blocks past the deadline: the socket is non-blocking, and every wait is a ppoll(2) for
//! the rest of the budget. (The socket's own timeouts, SO_RCVTIMEO and SO_SNDTIMEO, run on the
//! kernel's timer wheel, whose slots widen with the wait: 5 s overshot by up to 248 ms, ppoll(2) by
//! 5 ms; and each costs a system call to set.)

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// ppoll(2) overshoots by milliseconds. An exchange that ends later than this after its deadline was
/// delayed by this host, and proves nothing about the peer.
pub(super) const LATE: Duration = Duration::from_millis(250);

/// A socket and the deadline of everything done with it.
///
/// Closes with a reset (SO_LINGER 0, socket(7)): no TIME_WAIT on either side, whichever closes first,
/// since only a side that has seen both FINs enters it. Nothing is lost: the answer has been read,
/// or is not wanted.
pub(super) struct DeadlineStream {
    pub(super) stream: TcpStream,
    pub(super) deadline: Instant,
}

impl DeadlineStream {
    /// Opens a socket and starts to connect; the second value is the result of connect(2). The
    /// socket outlives a failed connect, because it holds the kernel's evidence.
    pub(super) fn open(
        target: SocketAddr,
        deadline: Instant,
    ) -> io::Result<(Self, io::Result<()>)> {
        Self::open_with(target, deadline, &|_| Ok(()))
    }

    /// As [`Self::open`], on a socket that is prepared before it connects.
    pub(super) fn open_with(
        target: SocketAddr,
        deadline: Instant,
        prepare: &dyn Fn(&Socket) -> io::Result<()>,
    ) -> io::Result<(Self, io::Result<()>)> {
        // `Socket::new` sets close-on-exec; non-blocking from the start saves four fcntl(2).
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
        // Both options only save packets or time: without them the probe still works.
        // Quick ACKs off before the connect: the handshake's ACK then rides on the request (tcp(7)).
        let _ = socket.set_tcp_quickack(false);
        let _ = socket.set_tcp_nodelay(true);
        prepare(&socket)?;
        let connecting = match socket.connect(&SockAddr::from(target)) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
            result => result,
        };
        Ok((Self { stream: socket.into(), deadline }, connecting))
    }

    /// Waits for the end of the handshake, until the deadline (connect(2), EINPROGRESS).
    pub(super) fn finish_connect(&self) -> io::Result<()> {
        self.wait(PollFlags::OUT)?;
        self.stream.take_error()?.map_or(Ok(()), Err)
    }

    pub(super) fn send(&self, mut request: &[u8]) -> io::Result<()> {
        let mut stream = &self.stream;
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

    /// Has the kernel acknowledge what was received at once.
    pub(super) fn acknowledge(&self) {
        // Without it, the peer does not learn that its retransmit was needed.
        let _ = SockRef::from(&self.stream).set_tcp_quickack(true);
    }

    /// Waits first: the answer is at least one round trip away. The deadline is absolute, so a peer
    /// that drips its answer gains no time.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = &self.stream;
        loop {
            self.wait(PollFlags::IN)?;
            match stream.read(buffer) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                result => return result,
            }
        }
    }

    /// Waits until the socket is ready, or the deadline has passed (`TimedOut`).
    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let ready = self.wait_until(events, self.deadline)?;
        if ready { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
    }

    /// Waits until the socket is ready; `false` if it is not ready by `until`.
    pub(super) fn wait_until(&self, events: PollFlags, until: Instant) -> io::Result<bool> {
        wait_for_any(&mut [PollFd::new(&self.stream, events)], until)
    }
}

impl Drop for DeadlineStream {
    fn drop(&mut self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// Waits until one of the sockets is ready; `false` if none is ready by `until`.
pub(super) fn wait_for_any(sockets: &mut [PollFd<'_>], until: Instant) -> io::Result<bool> {
    loop {
        // Polls once even when no time is left: data that arrived while this thread did not run
        // counts as in time.
        let left = until.saturating_duration_since(Instant::now());
        // A timeout too long for the kernel's clock means no timeout.
        let timeout = Timespec::try_from(left).ok();
        match poll(sockets, timeout.as_ref()) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
