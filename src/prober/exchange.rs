//! One probe over one new connection, under one deadline.
//!
//! It never reuses a connection, never retries, and never blocks past the deadline: the socket is
//! non-blocking and every wait is a ppoll(2) for what is left of the budget. (The socket's own
//! timeouts, SO_RCVTIMEO and SO_SNDTIMEO, run on the kernel's timer wheel, whose slots widen with
//! the wait: 5 s overshot by up to 248 ms, ppoll(2) by 5 ms; and each costs a system call to set.)

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::Settings;
use super::answer::{Due, Parsed, parse};
use super::failure::{Step, classify};
use super::half_open::Watch;
use super::tcp_info::{self, Info};
use crate::name::NodeName;
use crate::probe::{
    Answer, FailureReason, KernelView, LocalError, Outcome, Probe, ProbeKind, Timings,
};
use crate::wire::{KeepAlive, LARGE, MAX_ANSWER};

/// ppoll(2) overshoots by milliseconds. Who ends a probe later than this after its deadline was kept
/// from running, and saw neither the peer nor the clock.
const LATE: Duration = Duration::from_millis(250);

/// Less than any agent waits for a request once it has the connection.
const PEERS_PATIENCE: Duration = Duration::from_secs(4);
/// When to look for the SYNs of others, and how often: between our own ones, which go out after 0, 1
/// and 3 s (TCP_TIMEOUT_INIT), so that no answer to them waits for a look.
const FIRST_LOOK: Duration = Duration::from_millis(1500);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A large probe has this long at most, and less where the timeout is shorter: a path that carries
/// nothing of it through three retransmits (0.2, 0.6 and 1.4 s) has told enough.
const LARGE_WITHIN: Duration = Duration::from_secs(3);

/// Makes one probe that began at `started`, and says how it ended and what the kernel saw.
pub(super) fn perform(
    settings: &Settings,
    half_open: &Watch,
    probe: &Probe,
    started: Instant,
) -> (Outcome, Option<KernelView>) {
    let budget = match probe.kind {
        ProbeKind::Large => settings.timeout.min(LARGE_WITHIN),
        ProbeKind::Blank | ProbeKind::Goodbye { .. } => settings.timeout,
    };
    // The sum overflows for no timeout that a person could mean.
    let deadline = started.checked_add(budget).unwrap_or(started);
    let (stream, pending) = match open(probe.address) {
        Ok(opened) => opened,
        Err(error) => return (classify(Step::Open, &error), None),
    };
    let due = if probe.kind == ProbeKind::Large { Due::Large } else { Due::Blank };
    let opened = Instant::now();
    let attempt = Attempt { stream: &stream, half_open, started, opened, deadline, due };
    let mut handshake = None;
    let outcome = match attempt.run(pending, &request(settings, probe), &probe.node, &mut handshake)
    {
        Ok((timings, answer)) => Outcome::Success { timings, answer },
        Err(outcome) => outcome,
    };
    let outcome = unless_late(outcome, Instant::now().saturating_duration_since(deadline));
    if outcome == Outcome::Failure(FailureReason::ConnectTimeout) {
        half_open.look();
    }
    let kernel = tcp_info::read(&stream).map(|end| tcp_info::view(handshake, end));
    close(stream);
    (outcome, kernel)
}

/// A success must come before the deadline, and a failure must not be our own sleep.
fn unless_late(outcome: Outcome, overdue: Duration) -> Outcome {
    match outcome {
        Outcome::Success { .. } if !overdue.is_zero() => Outcome::Local(LocalError::Late),
        Outcome::Failure(_) if overdue > LATE => Outcome::Local(LocalError::Late),
        other => other,
    }
}

fn request(settings: &Settings, probe: &Probe) -> String {
    let (goodbye, size) = match probe.kind {
        ProbeKind::Blank => (None, None),
        ProbeKind::Large => (None, Some(LARGE)),
        ProbeKind::Goodbye { drain } => (Some(drain), None),
    };
    let said = KeepAlive {
        node: settings.node.clone(),
        instance: Some(settings.instance.clone()),
        interval: Some(settings.interval),
        goodbye,
        size,
    };
    said.render(probe.address)
}

/// Opens a socket and begins to connect; the second value is connect(2)'s own answer. The socket
/// outlives a failed connect, since it holds the kernel's evidence.
fn open(target: SocketAddr) -> io::Result<(TcpStream, io::Result<()>)> {
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
fn close(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

struct Attempt<'a> {
    stream: &'a TcpStream,
    half_open: &'a Watch,
    started: Instant,
    /// When the first SYN went out.
    opened: Instant,
    deadline: Instant,
    due: Due,
}

impl Attempt<'_> {
    /// Connects, sends, reads; `handshake` is the kernel's view at the moment of establishment.
    fn run(
        &self,
        pending: io::Result<()>,
        request: &str,
        meant: &NodeName,
        handshake: &mut Option<Info>,
    ) -> Result<(Timings, Answer), Outcome> {
        pending.map_err(|error| classify(Step::Open, &error))?;
        let opening = self.opened.saturating_duration_since(self.started);
        self.established()
            .map_err(|error| self.unless_delayed(classify(Step::Connect, &error), opening))?;
        let established = Instant::now();
        *handshake = tcp_info::read(self.stream);
        self.send(request.as_bytes()).map_err(|error| classify(Step::Exchange, &error))?;
        let sent = Instant::now();
        let noticed = handshake.map(Info::since_last_ack).unwrap_or_default();
        let delay = opening + noticed + sent.saturating_duration_since(established);
        let received = self.receive().map_err(|outcome| self.unless_delayed(outcome, delay))?;
        let (node, answer) = received;
        let read = Instant::now();
        if node != *meant {
            return Err(Outcome::Failure(FailureReason::WrongPeer));
        }
        let timings = Timings {
            connect: established.saturating_duration_since(self.started),
            response: read.saturating_duration_since(sent),
            total: read.saturating_duration_since(self.started),
        };
        Ok((timings, answer))
    }

    /// A failure is not the peer's when `delay` of the budget passed before our SYN or our request
    /// went out: it had less time than we meant it to have, and may have given up on us.
    fn unless_delayed(&self, outcome: Outcome, delay: Duration) -> Outcome {
        let budget = self.deadline.saturating_duration_since(self.started);
        if delay > (budget / 2).min(PEERS_PATIENCE) {
            Outcome::Local(LocalError::Late)
        } else {
            outcome
        }
    }

    /// Waits for the handshake's end (connect(2), EINPROGRESS). While that is overdue, looks who
    /// fares likewise on the way to us.
    fn established(&self) -> io::Result<()> {
        let mut look = self.started + FIRST_LOOK;
        while !self.wait_until(PollFlags::OUT, look.min(self.deadline))? {
            if look >= self.deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            self.half_open.look();
            look += LOOK_EVERY;
        }
        match self.stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn send(&self, mut request: &[u8]) -> io::Result<()> {
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

    /// Reads until the answer is whole or wrong; its head into [`MAX_ANSWER`] octets, its content
    /// into nothing.
    fn receive(&self) -> Result<(NodeName, Answer), Outcome> {
        let mut buffer = [0; MAX_ANSWER];
        let mut filled = 0;
        loop {
            let free = buffer.get_mut(filled..).unwrap_or_default();
            let count = self.read(free).map_err(|error| classify(Step::Exchange, &error))?;
            if count == 0 {
                return Err(Outcome::Failure(FailureReason::Closed));
            }
            filled += count;
            match parse(buffer.get(..filled).unwrap_or_default(), self.due) {
                Parsed::Incomplete => {}
                Parsed::Bad => return Err(Outcome::Failure(FailureReason::BadResponse)),
                Parsed::Whole { node, answer, left } => {
                    self.discard(left, &mut buffer)?;
                    return Ok((node, answer));
                }
            }
        }
    }

    fn discard(&self, mut left: usize, buffer: &mut [u8]) -> Result<(), Outcome> {
        while left > 0 {
            let count = self.read(buffer).map_err(|error| classify(Step::Exchange, &error))?;
            if count == 0 {
                return Err(Outcome::Failure(FailureReason::Closed));
            }
            let rest = left.checked_sub(count);
            left = rest.ok_or(Outcome::Failure(FailureReason::BadResponse))?;
        }
        Ok(())
    }

    /// Waits first: the answer is at least one round trip away. The deadline is absolute, so a peer
    /// that drips its answer gains nothing.
    fn read(&self, free: &mut [u8]) -> io::Result<usize> {
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
    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let ready = self.wait_until(events, self.deadline)?;
        if ready { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
    }

    /// Waits until the socket is ready; `false` when it is not by then.
    fn wait_until(&self, events: PollFlags, until: Instant) -> io::Result<bool> {
        loop {
            // Looks once even when nothing is left: what came while we were kept from running counts
            // as having come.
            let left = until.saturating_duration_since(Instant::now());
            // A timeout too long for the kernel's clock is none.
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(self.stream, events)], timeout.as_ref()) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_we_kept_waiting_is_not_to_blame() {
        let (stream, _) = open("127.64.4.1:9".parse().unwrap()).unwrap();
        let (half_open, now) = (Watch::new(9050), Instant::now());
        let of = |seconds, delay| {
            let deadline = now + Duration::from_secs(seconds);
            let (stream, half_open, due) = (&stream, &half_open, Due::Blank);
            let attempt = Attempt { stream, half_open, started: now, opened: now, deadline, due };
            let reset = Outcome::Failure(FailureReason::Reset);
            attempt.unless_delayed(reset.clone(), Duration::from_millis(delay)) == reset
        };
        assert!(of(5, 300), "a slow board is late at every probe, and a frozen peer is frozen");
        assert!(of(5, 2500) && !of(5, 2501), "half of the budget");
        assert!(of(60, 4000) && !of(60, 4001), "the peer's own patience");
    }

    #[test]
    fn a_probe_that_we_slept_through_says_nothing_of_the_peer() {
        let failure = Outcome::Failure(FailureReason::ResponseTimeout);
        let late = Outcome::Local(LocalError::Late);
        assert_eq!(unless_late(failure.clone(), Duration::ZERO), failure);
        assert_eq!(unless_late(failure.clone(), Duration::from_millis(5)), failure);
        assert_eq!(unless_late(failure, Duration::from_secs(1)), late);
        let timings = Timings {
            connect: Duration::ZERO,
            response: Duration::ZERO,
            total: Duration::from_secs(7),
        };
        let success = Outcome::Success { timings, answer: Answer::default() };
        assert_eq!(unless_late(success.clone(), Duration::ZERO), success);
        assert_eq!(unless_late(success, Duration::from_millis(1)), late);
    }
}
