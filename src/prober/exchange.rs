//! One probe over one new connection, under one deadline. It never reuses a connection, and never
//! retries.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::Settings;
use super::answer::{Expected, Parsed, parse};
use super::deadline_stream::{DeadlineStream, LATE, close, open};
use super::failure::{Step, classify};
use super::half_open::HalfOpenWatch;
use super::tcp_info::{self, Info};
use crate::name::NodeName;
use crate::probe::{
    Answer, FailureReason, KernelView, LocalError, Outcome, Probe, ProbeKind, Timings,
};
use crate::wire::{KEEPALIVE_PATH, KeepAlive, LARGE, MAX_ANSWER};

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
    half_open: &HalfOpenWatch,
    probe: &Probe,
    started: Instant,
) -> (Outcome, Option<KernelView>) {
    let (budget, expected) = match probe.kind {
        ProbeKind::Large => (settings.timeout.min(LARGE_WITHIN), Expected::Large),
        ProbeKind::Blank | ProbeKind::Goodbye { .. } => (settings.timeout, Expected::Blank),
    };
    let request = request(settings, probe);
    let asked = Asked { address: probe.address, request: &request, expected, budget };
    let (result, kernel) = ask(asked, Some(half_open), started);
    let outcome = match result {
        Ok((node, ..)) if node != probe.node => Outcome::Failure(FailureReason::WrongPeer),
        Ok((_, timings, answer)) => Outcome::Success { timings, answer },
        Err(outcome) => outcome,
    };
    (outcome, kernel)
}

/// How one question ended: who answered, how long it took and what was told, or how it failed; and what
/// the kernel saw.
pub type ProbeResult = (Result<(NodeName, Timings, Answer), Outcome>, Option<KernelView>);

/// Asks whoever is there the blank question, once. It names no sender and wants the head only, so that
/// the other side counts it against nobody.
pub fn probe_once(address: SocketAddr, budget: Duration) -> ProbeResult {
    let request = format!("HEAD {KEEPALIVE_PATH} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let asked = Asked { address, request: &request, expected: Expected::Blank, budget };
    ask(asked, None, Instant::now())
}

/// One question.
struct Asked<'a> {
    address: SocketAddr,
    request: &'a str,
    expected: Expected,
    budget: Duration,
}

fn ask(asked: Asked<'_>, half_open: Option<&HalfOpenWatch>, started: Instant) -> ProbeResult {
    // The sum overflows for no timeout that a person could mean.
    let deadline = started.checked_add(asked.budget).unwrap_or(started);
    let (stream, pending) = match open(asked.address) {
        Ok(opened) => opened,
        Err(error) => return (Err(classify(Step::Open, &error)), None),
    };
    let (line, opened) = (DeadlineStream { stream: &stream, deadline }, Instant::now());
    let attempt = Attempt { line, half_open, started, opened, expected: asked.expected };
    let mut handshake = None;
    let result = attempt.run(pending, asked.request, &mut handshake);
    let result = unless_late(result, Instant::now().saturating_duration_since(deadline));
    if result == Err(Outcome::Failure(FailureReason::ConnectTimeout)) {
        half_open.inspect(|watch| watch.look());
    }
    let kernel = tcp_info::read(&stream).map(|end| tcp_info::view(handshake, end));
    close(stream);
    (result, kernel)
}

/// A success must come before the deadline, and a failure must not be our own sleep.
fn unless_late<T>(result: Result<T, Outcome>, overdue: Duration) -> Result<T, Outcome> {
    match result {
        Ok(_) if !overdue.is_zero() => Err(Outcome::Local(LocalError::Late)),
        Err(Outcome::Failure(_)) if overdue > LATE => Err(Outcome::Local(LocalError::Late)),
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

struct Attempt<'a> {
    line: DeadlineStream<'a>,
    half_open: Option<&'a HalfOpenWatch>,
    started: Instant,
    /// When the first SYN went out.
    opened: Instant,
    expected: Expected,
}

impl Attempt<'_> {
    /// Connects, sends, reads; `handshake` is the kernel's view at the moment of establishment.
    fn run(
        &self,
        pending: io::Result<()>,
        request: &str,
        handshake: &mut Option<Info>,
    ) -> Result<(NodeName, Timings, Answer), Outcome> {
        pending.map_err(|error| classify(Step::Open, &error))?;
        let opening = self.opened.saturating_duration_since(self.started);
        self.established()
            .map_err(|error| self.unless_delayed(classify(Step::Connect, &error), opening))?;
        let established = Instant::now();
        *handshake = tcp_info::read(self.line.stream);
        self.line.send(request.as_bytes()).map_err(|error| classify(Step::Exchange, &error))?;
        let sent = Instant::now();
        let noticed = handshake.map(Info::since_last_ack).unwrap_or_default();
        let delay = opening + noticed + sent.saturating_duration_since(established);
        let received = self.receive().map_err(|outcome| self.unless_delayed(outcome, delay))?;
        let (node, answer) = received;
        let read = Instant::now();
        let timings = Timings {
            connect: established.saturating_duration_since(self.started),
            response: read.saturating_duration_since(sent),
            total: read.saturating_duration_since(self.started),
        };
        Ok((node, timings, answer))
    }

    /// A failure is not the peer's when `delay` of the budget passed before our SYN or our request
    /// went out: it had less time than we meant it to have, and may have given up on us.
    fn unless_delayed(&self, outcome: Outcome, delay: Duration) -> Outcome {
        let budget = self.line.deadline.saturating_duration_since(self.started);
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
        while !self.line.wait_until(PollFlags::OUT, look.min(self.line.deadline))? {
            if look >= self.line.deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            self.half_open.inspect(|watch| watch.look());
            look += LOOK_EVERY;
        }
        match self.line.stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Reads until the answer is whole or wrong; its head into [`MAX_ANSWER`] octets, its content
    /// into nothing.
    fn receive(&self) -> Result<(NodeName, Answer), Outcome> {
        let mut buffer = [0; MAX_ANSWER];
        let mut filled = 0;
        loop {
            let free = buffer.get_mut(filled..).unwrap_or_default();
            let count = self.line.read(free).map_err(|error| classify(Step::Exchange, &error))?;
            if count == 0 {
                return Err(Outcome::Failure(FailureReason::Closed));
            }
            filled += count;
            match parse(buffer.get(..filled).unwrap_or_default(), self.expected) {
                Parsed::Incomplete => {}
                Parsed::Bad | Parsed::OtherStatus(_) | Parsed::TooLarge => {
                    return Err(Outcome::Failure(FailureReason::BadResponse));
                }
                Parsed::Complete { node, answer, remaining, .. } => {
                    self.discard(remaining, &mut buffer)?;
                    return Ok((node, answer));
                }
            }
        }
    }

    fn discard(&self, mut left: usize, buffer: &mut [u8]) -> Result<(), Outcome> {
        while left > 0 {
            let count = self.line.read(buffer).map_err(|error| classify(Step::Exchange, &error))?;
            if count == 0 {
                return Err(Outcome::Failure(FailureReason::Closed));
            }
            let rest = left.checked_sub(count);
            left = rest.ok_or(Outcome::Failure(FailureReason::BadResponse))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_we_kept_waiting_is_not_to_blame() {
        let (stream, _) = open("127.64.4.1:9".parse().unwrap()).unwrap();
        let (half_open, now) = (HalfOpenWatch::new(9050), Instant::now());
        let of = |seconds, delay| {
            let deadline = now + Duration::from_secs(seconds);
            let (line, half_open) =
                (DeadlineStream { stream: &stream, deadline }, Some(&half_open));
            let attempt =
                Attempt { line, half_open, started: now, opened: now, expected: Expected::Blank };
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
        let late = Err(Outcome::Local(LocalError::Late));
        let failed = |overdue| unless_late::<()>(Err(failure.clone()), overdue);
        assert_eq!(failed(Duration::ZERO), Err(failure.clone()));
        assert_eq!(failed(Duration::from_millis(5)), Err(failure.clone()));
        assert_eq!(failed(Duration::from_secs(1)), late);
        assert_eq!(unless_late(Ok(()), Duration::ZERO), Ok(()));
        assert_eq!(unless_late(Ok(()), Duration::from_millis(1)), late);
    }
}
