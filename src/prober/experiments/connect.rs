//! Connections that are opened together, closed as soon as they are established, and how each ended. It decides
//! nothing.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::super::deadline_stream::{DeadlineStream, LATE, wait_for_any};
use super::super::failure::{Step, classify};
use crate::probe::{FailureReason, Outcome};
use crate::tcp_info;

/// How an attempt to connect ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The connection was established after this time.
    Connected(Duration),
    /// An error came from the network.
    Failed {
        /// It says that the port is closed.
        refused: bool,
        /// The sender of the ICMP message that caused it: `None` for a reset, and where the kernel does not tell.
        sender: Option<IpAddr>,
    },
    /// Nothing came.
    TimedOut,
    /// This host did not send, or was late.
    NotSent,
}

/// Connects to all targets, from these ports or any; returns the source port and the ending of each. A SYN without an
/// answer is sent again after 1 s (TCP_TIMEOUT_INIT).
pub(super) fn connect_all(
    targets: impl IntoIterator<Item = (SocketAddr, Option<u16>)>,
    wait: Duration,
) -> Vec<(u16, Ending)> {
    let began = Instant::now();
    let deadline = began + wait;
    let targets = targets.into_iter();
    let mut all: Vec<_> =
        targets.map(|(target, port)| Attempt::open(target, port, deadline)).collect();
    loop {
        let streams = all.iter().filter_map(|attempt| attempt.stream.as_ref());
        let mut sockets: Vec<_> =
            streams.map(|open| PollFd::new(&open.stream, PollFlags::OUT)).collect();
        if sockets.is_empty() || !wait_for_any(&mut sockets, deadline).unwrap_or(false) {
            break;
        }
        let after = began.elapsed();
        let ready: Vec<_> = sockets.iter().map(|socket| !socket.revents().is_empty()).collect();
        let pending = all.iter_mut().filter(|attempt| attempt.stream.is_some());
        pending.zip(ready).filter(|(_, ready)| *ready).for_each(|(one, _)| one.finish(after));
    }
    let is_late = Instant::now().saturating_duration_since(deadline) > LATE;
    let ending = |attempt: Attempt| match attempt.stream {
        Some(_) if is_late => (attempt.port, Ending::NotSent),
        _ => (attempt.port, attempt.ending),
    };
    all.into_iter().map(ending).collect()
}

struct Attempt {
    port: u16,
    /// `None` at its end.
    stream: Option<DeadlineStream>,
    ending: Ending,
}

impl Attempt {
    fn open(target: SocketAddr, port: Option<u16>, deadline: Instant) -> Self {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let opened = DeadlineStream::open_with(target, deadline, &|socket| {
            tcp_info::keep_errors(socket, target.is_ipv4());
            let Some(port) = port else { return Ok(()) };
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(any, port).into())
        });
        let Ok((open, connecting)) = opened else {
            // The port is in use, for example.
            return Self { port: port.unwrap_or(0), stream: None, ending: Ending::NotSent };
        };
        let port = open.stream.local_addr().map_or(0, |address| address.port());
        match connecting {
            Ok(()) => Self { port, stream: Some(open), ending: Ending::TimedOut },
            // A closed port of this host refuses at once.
            Err(error) if is_refused(Step::Open, &error) => {
                Self { port, stream: None, ending: failed(&open, true) }
            }
            Err(_) => Self { port, stream: None, ending: Ending::NotSent },
        }
    }

    fn finish(&mut self, after: Duration) {
        let Some(open) = self.stream.take() else { return };
        self.ending = match open.stream.take_error() {
            Ok(None) => Ending::Connected(after),
            Ok(Some(error)) if error.kind() == ErrorKind::TimedOut => Ending::TimedOut,
            Ok(Some(error)) => failed(&open, is_refused(Step::Connect, &error)),
            Err(_) => Ending::NotSent,
        };
    }
}

fn is_refused(step: Step, error: &io::Error) -> bool {
    classify(step, error) == Outcome::Failure(FailureReason::Refused)
}

fn failed(open: &DeadlineStream, refused: bool) -> Ending {
    Ending::Failed { refused, sender: tcp_info::error_sender(&open.stream) }
}
