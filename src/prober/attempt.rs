//! One connection of a trial of the survey: timed as a probe, counted for no node by either end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::answer::Expected;
use super::deadline_stream::{DeadlineStream, LATE};
use super::exchange::{receive, unnamed_request};
use super::failure::{Step, classify};
use crate::probe::{FailureReason, LocalError, Outcome};
use crate::survey::Attempt;
use crate::tcp_info;

/// Opens a connection to an agent, and has it answer a blank request that names no sender.
///
/// # Errors
/// A fault of this host: it proves nothing.
pub fn attempt(address: SocketAddr, budget: Duration) -> Result<Attempt, LocalError> {
    let started = Instant::now();
    let deadline = started.checked_add(budget).unwrap_or(started);
    let mut attempt =
        Attempt { connect: Err(FailureReason::ConnectTimeout), syn_retransmits: 0, rtt: None };
    let result = open(address, deadline, started, &mut attempt);
    if Instant::now().saturating_duration_since(deadline) > LATE {
        return Err(LocalError::Late);
    }
    match result {
        Ok(()) => {}
        Err(Outcome::Failure(reason)) => attempt.connect = Err(reason),
        Err(Outcome::Local(error)) => return Err(error),
        // An error is never classified as a success.
        Err(Outcome::Success { .. }) => return Err(LocalError::Other),
    }
    Ok(attempt)
}

fn open(
    address: SocketAddr,
    deadline: Instant,
    started: Instant,
    attempt: &mut Attempt,
) -> Result<(), Outcome> {
    let error = |step| move |error| classify(step, &error);
    let (stream, connecting) =
        DeadlineStream::open(address, deadline).map_err(error(Step::Open))?;
    let connected = connecting
        .map_err(error(Step::Open))
        .and_then(|()| stream.finish_connect().map_err(error(Step::Connect)));
    let took = started.elapsed();
    if let Some(info) = tcp_info::read(&stream.stream) {
        attempt.syn_retransmits = u8::try_from(info.retransmits()).unwrap_or(u8::MAX);
        attempt.rtt = info.round_trip();
    }
    connected?;
    attempt.connect = Ok(took);
    stream.send(unnamed_request(address).as_bytes()).map_err(error(Step::Exchange))?;
    receive(&stream, Expected::Blank, 0).map(drop)
}
