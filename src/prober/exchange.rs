//! One probe over one new connection, under one deadline. It never reuses a connection, and never
//! retries.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::Settings;
use super::answer::{Expected, Parsed, parse};
use super::deadline_stream::{DeadlineStream, LATE};
use super::failure::{Step, classify, is_missing_route};
use super::half_open::HalfOpenWatch;
use super::path_mtu;
use super::routes::Routes;
use crate::name::NodeName;
use crate::probe::{
    Answer, FailureReason, KernelView, Large, LocalError, Outcome, Probe, ProbeKind, Timings,
};
use crate::tcp_info::{self, Info};
use crate::wire::{self, KEEPALIVE_PATH, KeepAlive, MAX_ANSWER, MAX_SEGMENT};

/// Longest delay on this host after which a failure is still the peer's: less than the time for which
/// the peer's gate waits for a request.
const MAX_DELAY: Duration = Duration::from_secs(4);
/// When to scan for incoming SYNs, and how often: between the probe's own SYNs, which are sent after 0,
/// 1 and 3 s (TCP_TIMEOUT_INIT), so that no answer to them waits for a scan.
const FIRST_SCAN: Duration = Duration::from_millis(1500);
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Longest timeout of a large probe: a path that delivers nothing through three retransmits (0.2, 0.6
/// and 1.4 s) has proved enough.
const MAX_LARGE_TIMEOUT: Duration = Duration::from_secs(3);

/// The kernel's first timeout of a SYN and of a SYN-ACK (TCP_TIMEOUT_INIT).
const SYN_TIMEOUT: Duration = Duration::from_secs(1);
/// The kernel's shortest timeout of data, beyond the round trip (TCP_RTO_MIN).
const MIN_RETRANSMIT_TIMEOUT: Duration = Duration::from_millis(200);

const BAD_RESPONSE: Outcome = Outcome::Failure(FailureReason::BadResponse);
const TOO_LATE: Outcome = Outcome::Local(LocalError::Late);

/// Makes one probe that started at `started`; returns its outcome and the kernel's view.
pub(super) fn perform(
    settings: &Settings,
    (half_open, routes): (&HalfOpenWatch, &Routes),
    probe: &Probe,
    started: Instant,
) -> (Outcome, Option<KernelView>) {
    let (budget, expected) = match probe.kind {
        ProbeKind::Large(_) => (settings.timeout.min(MAX_LARGE_TIMEOUT), Expected::Large),
        ProbeKind::Blank | ProbeKind::Check | ProbeKind::Goodbye { .. } => {
            (settings.timeout, Expected::Blank)
        }
    };
    let address = probe.address;
    let request = &|handshake| request(settings, probe, handshake);
    let (half_open, routes) = (Some(half_open), Some(routes));
    let attempt = Attempt { address, request, expected, budget, started, half_open, routes };
    let (result, kernel) = attempt.run();
    let outcome = match result {
        Ok((node, ..)) if node != probe.node => Outcome::Failure(FailureReason::WrongPeer),
        Ok((_, timings, answer)) => Outcome::Success { timings, answer },
        Err(outcome) => outcome,
    };
    let kernel = kernel.map(|kernel| ask_path(probe, &outcome, kernel));
    (outcome, kernel)
}

/// Where the cache has a smaller path MTU than there was, a full-size segment of TCP proves nothing. A peer that
/// did not answer is not asked: nothing is learned of it.
fn ask_path(probe: &Probe, outcome: &Outcome, kernel: KernelView) -> KernelView {
    let (ProbeKind::Large(Large::Request { packet: Some(packet) }), Outcome::Success { .. }) =
        (probe.kind, outcome)
    else {
        return kernel;
    };
    let known = |cached: u32| match kernel
        .rtt
        .and_then(|rtt| path_mtu::carries(probe.address, packet, rtt))
    {
        Some(true) => Some(packet),
        Some(false) => Some(cached),
        None => None,
    };
    let path_mtu = match kernel.path_mtu {
        Some(cached) if cached < packet => known(cached),
        other => other,
    };
    KernelView { path_mtu, ..kernel }
}

/// The request of a probe, on a connection of which the kernel says this after the handshake.
fn request(settings: &Settings, probe: &Probe, handshake: Option<Info>) -> Request {
    let incoming = handshake.map_or(MAX_SEGMENT, Info::incoming_segment).min(MAX_SEGMENT);
    let (goodbye, size, padded) = match probe.kind {
        ProbeKind::Blank | ProbeKind::Check => (None, None, false),
        ProbeKind::Large(Large::Both) => (None, Some(incoming), true),
        // An answer of no size: it is as short as can be, and the request is not counted.
        ProbeKind::Large(Large::Request { .. }) => (None, Some(0), true),
        ProbeKind::Large(Large::Answer) => (None, Some(incoming), false),
        ProbeKind::Goodbye { drain } => (Some(drain), None, false),
    };
    let request = KeepAlive {
        node: settings.node.clone(),
        instance: Some(settings.instance.clone()),
        interval: Some(settings.interval),
        goodbye,
        token: probe.token,
        size,
    };
    let mut text = request.render(probe.address);
    if padded {
        wire::pad(&mut text, handshake.map_or(MAX_SEGMENT, Info::outgoing_segment));
    }
    Request { text, answer: size.unwrap_or_default() }
}

/// The answering node, the timings and the answer, or why there is none; and the kernel's view.
pub type ProbeResult = (Result<(NodeName, Timings, Answer), Outcome>, Option<KernelView>);

/// Sends one blank request, and accepts the answer of any node. It is a HEAD request that names no sender, so
/// that the peer counts it for no node.
pub fn probe_once(address: SocketAddr, budget: Duration) -> ProbeResult {
    let request = &|_: Option<Info>| Request { text: unnamed_request(address), answer: 0 };
    let (expected, started) = (Expected::Blank, Instant::now());
    Attempt { address, request, expected, budget, started, half_open: None, routes: None }.run()
}

/// A blank request that names no sender.
pub(super) fn unnamed_request(address: SocketAddr) -> String {
    format!("HEAD {KEEPALIVE_PATH} HTTP/1.1\r\nHost: {address}\r\n\r\n")
}

/// What is sent.
struct Request {
    text: String,
    /// The least bytes of the answer.
    answer: usize,
}

/// One request and its answer.
struct Attempt<'a> {
    address: SocketAddr,
    /// Renders the request, once the connection is established.
    request: &'a dyn Fn(Option<Info>) -> Request,
    expected: Expected,
    budget: Duration,
    started: Instant,
    half_open: Option<&'a HalfOpenWatch>,
    /// `None` if no peers are known.
    routes: Option<&'a Routes>,
}

impl Attempt<'_> {
    fn run(&self) -> ProbeResult {
        // No timeout that the settings accept overflows.
        let deadline = self.started.checked_add(self.budget).unwrap_or(self.started);
        let (stream, connecting) = match DeadlineStream::open(self.address, deadline) {
            Ok(opened) => opened,
            Err(error) => return (Err(classify(Step::Open, &error)), None),
        };
        // The time before the first SYN was sent.
        let opening = self.started.elapsed();
        let mut handshake = None;
        let result = connecting
            .map_err(|error| self.classify_open(&error))
            .and_then(|()| self.exchange(&stream, opening, &mut handshake));
        let result = unless_late(result, Instant::now().saturating_duration_since(deadline));
        if result == Err(Outcome::Failure(FailureReason::ConnectTimeout)) {
            self.half_open.inspect(|watch| watch.scan());
        }
        let timings = result.as_ref().ok().map(|(_, timings, _)| *timings);
        let kernel = tcp_info::read(&stream.stream).map(|end| KernelView {
            source_port: stream.stream.local_addr().ok().map(|address| address.port()),
            ..tcp_info::view(handshake, end).bounded_by(timings)
        });
        (result, kernel)
    }

    /// A missing route is the peer's only if there is one to another peer.
    fn classify_open(&self, error: &io::Error) -> Outcome {
        if is_missing_route(error) && self.routes.is_some_and(Routes::has_none) {
            return Outcome::Local(LocalError::NoRoute);
        }
        classify(Step::Open, error)
    }

    /// Connects, sends, receives; `handshake` becomes the kernel's view right after the handshake, and the time
    /// until then.
    fn exchange(
        &self,
        stream: &DeadlineStream,
        opening: Duration,
        handshake: &mut Option<(Info, Duration)>,
    ) -> Result<(NodeName, Timings, Answer), Outcome> {
        let unless_delayed = |outcome, delay| unless_delayed(outcome, delay, self.budget);
        self.finish_connect(stream)
            .map_err(|error| unless_delayed(classify(Step::Connect, &error), opening))?;
        let established = Instant::now();
        let connect = established - self.started;
        *handshake = tcp_info::read(&stream.stream).map(|info| (info, connect));
        let Request { text, answer: least } = (self.request)(handshake.map(|(info, _)| info));
        stream.send(text.as_bytes()).map_err(|error| classify(Step::Exchange, &error))?;
        let sent = Instant::now();
        let since_ack = handshake.map(|(info, _)| info.since_last_ack()).unwrap_or_default();
        let delay = opening + since_ack + (sent - established);
        let (node, answer) = receive(stream, self.expected, least)
            .map_err(|outcome| unless_delayed(outcome, delay))?;
        let received = Instant::now();
        let timings =
            Timings { connect, response: received - established, total: received - self.started };
        if is_late(timings) {
            stream.acknowledge();
        }
        Ok((node, timings, answer))
    }

    /// Waits for the end of the handshake (connect(2), EINPROGRESS); meanwhile scans for SYNs of
    /// peers whose handshake does not complete either.
    fn finish_connect(&self, stream: &DeadlineStream) -> io::Result<()> {
        let mut scan = self.started + FIRST_SCAN;
        while !stream.wait_until(PollFlags::OUT, scan.min(stream.deadline))? {
            if scan >= stream.deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            self.half_open.inspect(|watch| watch.scan());
            scan += SCAN_INTERVAL;
        }
        stream.stream.take_error()?.map_or(Ok(()), Err)
    }
}

/// Reads until the answer is complete or bad: its head into [`MAX_ANSWER`] bytes, its content into nothing. It
/// has `least` bytes at least.
pub(super) fn receive(
    stream: &DeadlineStream,
    expected: Expected,
    least: usize,
) -> Result<(NodeName, Answer), Outcome> {
    let mut buffer = [0; MAX_ANSWER];
    let mut filled = 0;
    loop {
        filled += read(stream, buffer.get_mut(filled..).unwrap_or_default())?;
        match parse(buffer.get(..filled).unwrap_or_default(), expected) {
            Parsed::Incomplete => {}
            Parsed::Bad | Parsed::OtherStatus(_) | Parsed::TooLarge => {
                return Err(BAD_RESPONSE);
            }
            Parsed::Complete { node, answer, mut remaining, .. } => {
                if filled + remaining < least {
                    return Err(BAD_RESPONSE);
                }
                while remaining > 0 {
                    let count = read(stream, &mut buffer)?;
                    remaining = remaining.checked_sub(count).ok_or(BAD_RESPONSE)?;
                }
                return Ok((node, answer));
            }
        }
    }
}

fn read(stream: &DeadlineStream, buffer: &mut [u8]) -> Result<usize, Outcome> {
    match stream.read(buffer) {
        Ok(0) => Err(Outcome::Failure(FailureReason::Closed)),
        Ok(count) => Ok(count),
        Err(error) => Err(classify(Step::Exchange, &error)),
    }
}

/// Whether the peer's kernel may have sent something twice: then the answer is acknowledged before the
/// reset, so that the peer can tell the loss of its own packets from that of the reset. An acknowledgement
/// of each answer would be one packet more in each probe.
fn is_late(timings: Timings) -> bool {
    timings.connect >= SYN_TIMEOUT || timings.response >= timings.connect + MIN_RETRANSMIT_TIMEOUT
}

/// A success must come before the deadline, and a failure must not be this host's own delay.
fn unless_late<T>(result: Result<T, Outcome>, overdue: Duration) -> Result<T, Outcome> {
    match result {
        Ok(_) if !overdue.is_zero() => Err(TOO_LATE),
        Err(Outcome::Failure(_)) if overdue > LATE => Err(TOO_LATE),
        other => other,
    }
}

/// A failure is not the peer's if this host delayed the SYN or the request by `delay`, a large part of
/// the budget: the peer had less time than intended, and may have given up.
fn unless_delayed(outcome: Outcome, delay: Duration, budget: Duration) -> Outcome {
    if delay > (budget / 2).min(MAX_DELAY) { TOO_LATE } else { outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_after_a_long_delay_on_this_host_is_not_the_peers() {
        let reset = Outcome::Failure(FailureReason::Reset);
        let is_peers = |budget, delay| {
            let (budget, delay) = (Duration::from_secs(budget), Duration::from_millis(delay));
            unless_delayed(reset.clone(), delay, budget) == reset
        };
        assert!(
            is_peers(5, 300),
            "a slow board is late at every probe, and a frozen peer is frozen"
        );
        assert!(is_peers(5, 2500) && !is_peers(5, 2501), "half of the budget");
        assert!(is_peers(60, 4000) && !is_peers(60, 4001), "the peer's own timeout");
    }

    #[test]
    fn only_a_path_that_carried_the_probe_is_asked_for_more() {
        let port = std::net::UdpSocket::bind("127.64.4.3:0").unwrap();
        port.set_nonblocking(true).unwrap();
        let probe = Probe {
            id: 1,
            node: NodeName::new("n1").unwrap(),
            address: port.local_addr().unwrap(),
            due: Instant::now(),
            priority: crate::probe::Priority::Suspect,
            token: None,
            kind: ProbeKind::Large(Large::Request { packet: Some(1500) }),
        };
        let (path_mtu, rtt) = (Some(1400), Some(Duration::from_millis(1)));
        let kernel = KernelView { path_mtu, rtt, ..KernelView::default() };
        let asked = |outcome: &Outcome| {
            let after = ask_path(&probe, outcome, kernel);
            (after.path_mtu, port.recv(&mut [0; 1500]).is_ok())
        };
        assert_eq!(asked(&Outcome::Failure(FailureReason::ResponseTimeout)), (path_mtu, false));
        let zero = Duration::ZERO;
        let timings = Timings { connect: zero, response: zero, total: zero };
        let success = Outcome::Success { timings, answer: Answer::default() };
        assert_eq!(asked(&success), (None, true), "no answer: not known");
    }

    #[test]
    fn a_result_that_came_too_late_is_a_local_error() {
        let failure = Outcome::Failure(FailureReason::ResponseTimeout);
        let late = Err(Outcome::Local(LocalError::Late));
        let failed = |overdue| unless_late::<()>(Err(failure.clone()), overdue);
        assert_eq!(failed(Duration::ZERO), Err(failure.clone()));
        assert_eq!(failed(Duration::from_millis(5)), Err(failure.clone()));
        assert_eq!(failed(Duration::from_secs(1)), late);
        assert_eq!(unless_late(Ok(()), Duration::ZERO), Ok(()));
        assert_eq!(unless_late(Ok(()), Duration::from_millis(1)), late);
    }
}
