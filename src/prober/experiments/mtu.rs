//! The largest packet that a direction carries.
//!
//! One connection a trial. TCP_MAXSEG, set before the connect, bounds the segments of both its directions, and one
//! message fills exactly one of them: a padded request to the peer, or an answer of a wanted size from it. What
//! counts is the segment that really went, as the kernel reports it: SYN cookies and clamps make segments
//! smaller than asked for.

mod search;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::search::{Next, Search, Trial};
use super::super::answer::Expected;
use super::super::deadline_stream::DeadlineStream;
use super::super::exchange::{probe_once, receive};
use crate::experiment::LargestPacket;
use crate::name::NodeName;
use crate::probe::{Direction, FailureReason, Outcome};
use crate::tcp_info::{self, Segments};
use crate::wire::{self, KeepAlive};

/// Longest time of a whole search. With a round trip of 1 ms it takes 3 to 8 s, with one of 600 ms about 50 s.
const MAX_TIME: Duration = Duration::from_secs(60);
/// Longest time for a handshake: a SYN that is sent again (after 1 s) is a loss.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest wait for the answer, beside four round trips: by then the kernel has sent the segment three times.
const WAIT: Duration = Duration::from_millis(700);
/// The sender that the requests name. Requests that ask for a size are counted for no sender.
const SENDER: &str = "wylis-probe";

/// Finds the largest IP packet that a direction of the path to an agent carries, with about 20 connections; "at
/// least" what could be sent, if it carries that. `None` if the path loses packets of any size.
#[must_use]
pub fn largest_packet(address: SocketAddr, direction: Direction) -> Option<LargestPacket> {
    let deadline = Instant::now() + MAX_TIME;
    let mut search = Search::new();
    loop {
        let trial = match search.next() {
            Next::Done(found) => return found,
            _ if Instant::now() >= deadline => return None,
            Next::Control => control(address),
            Next::Packet(bytes) => attempt(address, direction, bytes),
        };
        search.add(trial.unwrap_or(Trial::Unclear));
    }
}

/// A blank request whose packets all pass at once. `None`, here and below: it is unclear what passed.
fn control(address: SocketAddr) -> Option<Trial> {
    let (result, kernel) = probe_once(address, CONNECT + WAIT);
    (result.is_ok() && kernel?.retransmits == 0).then_some(Trial::Passed(0))
}

/// Sends a packet of so many bytes, or as many as the connection allows.
fn attempt(address: SocketAddr, direction: Direction, bytes: u16) -> Option<Trial> {
    let ip_header: u16 = if address.is_ipv4() { 20 } else { 40 };
    let mss = u32::from(bytes.checked_sub(ip_header + 20)?);
    let deadline = Instant::now() + CONNECT;
    let prepare = &|socket: &socket2::Socket| socket.set_tcp_mss(mss);
    let (mut stream, connecting) = DeadlineStream::open_with(address, deadline, prepare).ok()?;
    let begun = Instant::now();
    connecting.ok()?;
    stream.finish_connect().ok()?;
    let round_trip = begun.elapsed();
    let handshake = tcp_info::read_segments(&stream.stream)?;
    if handshake.retransmits > 0 {
        return None;
    }
    let (request, size) = request(address, direction, handshake)?;
    stream.deadline = Instant::now() + WAIT + 4 * round_trip;
    stream.send(request.as_bytes()).ok()?;
    let received = receive(&stream, Expected::Large, usize::try_from(size).ok()?);
    let is_answered = match received {
        Ok(_) => true,
        Err(Outcome::Failure(FailureReason::ResponseTimeout)) => false,
        Err(_) => return None,
    };
    let end = tcp_info::read_segments(&stream.stream)?;
    let packet = |data: u32| u16::try_from(data + end.header + u32::from(ip_header)).ok();
    let again = end.retransmits > 0;
    match direction {
        Direction::Incoming if is_answered && !again => {
            Some(Trial::Passed(packet(end.largest_received(size))?))
        }
        // Its acknowledgement shows that the request has arrived, if only the second one: the first is lost with the
        // answer.
        Direction::Incoming if !is_answered && end.all_acked => Some(Trial::Lost(packet(size)?)),
        Direction::Incoming => None,
        Direction::Outgoing | Direction::Both => {
            let sent = packet(u32::try_from(request.len()).ok()?)?;
            match (end.all_acked, again) {
                // A peer that is late to answer has received it.
                (true, false) if end.sent == 1 => Some(Trial::Passed(sent)),
                (false, true) => Some(Trial::Lost(sent)),
                _ => None,
            }
        }
    }
}

/// The request that fills a segment, or whose answer does; and the least bytes of its answer.
fn request(
    address: SocketAddr,
    direction: Direction,
    handshake: Segments,
) -> Option<(String, u32)> {
    let most = u32::try_from(wire::MAX_SEGMENT).ok()?;
    let size = if direction == Direction::Incoming { handshake.incoming.min(most) } else { 0 };
    let request = KeepAlive {
        node: NodeName::new(SENDER).ok()?,
        instance: None,
        interval: None,
        goodbye: None,
        token: None,
        size: usize::try_from(size).ok(),
    };
    let mut text = request.render(address);
    if direction != Direction::Incoming {
        wire::pad(&mut text, usize::try_from(handshake.outgoing).ok()?);
    }
    Some((text, size))
}
