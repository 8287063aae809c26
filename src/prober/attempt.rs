//! One connection of a trial of the survey: timed as a probe, counted for no node by either end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::answer::{Expected, Parsed, parse};
use super::deadline_stream::{DeadlineStream, LATE};
use super::failure::{Step, classify};
use super::post::finish;
use crate::probe::{FailureReason, LocalError, Outcome};
use crate::survey::Attempt;
use crate::tcp_info;
use crate::wire::{KEEPALIVE_PATH, MAX_ANSWER};

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
        .and_then(|()| finish(&stream).map_err(error(Step::Connect)));
    let took = started.elapsed();
    if let Some(info) = tcp_info::read(&stream.stream) {
        attempt.syn_retransmits = u8::try_from(info.retransmits()).unwrap_or(u8::MAX);
        attempt.rtt = info.round_trip();
    }
    connected?;
    attempt.connect = Ok(took);
    let request = format!("HEAD {KEEPALIVE_PATH} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.send(request.as_bytes()).map_err(error(Step::Exchange))?;
    let (mut buffer, mut filled) = ([0; MAX_ANSWER], 0);
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        match stream.read(room).map_err(error(Step::Exchange))? {
            0 => return Err(Outcome::Failure(FailureReason::Closed)),
            count => filled += count,
        }
        match parse(buffer.get(..filled).unwrap_or_default(), Expected::Blank) {
            Parsed::Incomplete => {}
            Parsed::Complete { .. } => return Ok(()),
            _ => return Err(Outcome::Failure(FailureReason::BadResponse)),
        }
    }
}
