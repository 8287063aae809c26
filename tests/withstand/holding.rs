//! Clients that hold many connections open: silent, slow, or deaf.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::hostile::{Hostile, Origin, get, reset};

/// The pause between two rounds over all connections.
const ROUND: Duration = Duration::from_millis(50);
/// A connection is given up after this, whatever became of it.
const AGE: Duration = Duration::from_secs(20);

/// What a client does with one connection in each round; false when it is over.
type Act = fn(&mut Held) -> bool;

/// One connection.
struct Held {
    stream: TcpStream,
    since: Instant,
    /// The last slow byte.
    byte: Instant,
}

impl Held {
    /// Whether a slow client's second is over.
    fn is_due(&mut self) -> bool {
        let due = self.byte.elapsed() >= Duration::from_secs(1);
        if due {
            self.byte = Instant::now();
        }
        due
    }

    /// Whether the agent has reset it; reads nothing.
    fn is_open(&mut self) -> bool {
        matches!(self.stream.take_error(), Ok(None))
    }
}

/// Keeps this many connections, each with `begin` sent first.
fn hold(hostile: &Hostile, count: usize, buffer: Option<usize>, begin: &[u8], act: Act) {
    let mut all: Vec<Held> = Vec::new();
    let mut pace = hostile.pace();
    let target = hostile.agents[0].address;
    while !hostile.is_stopped() {
        let round = Instant::now();
        while all.len() < count && round.elapsed() < ROUND && pace.step() {
            let Some(mut stream) = hostile.connect_to(target, Origin::Ordinary, buffer) else {
                continue;
            };
            let _ = stream.set_nonblocking(true);
            let _ = stream.write_all(begin);
            all.push(Held { stream, since: round, byte: round });
        }
        std::thread::sleep(ROUND);
        for mut held in std::mem::take(&mut all) {
            if held.since.elapsed() < AGE && act(&mut held) {
                all.push(held);
            } else {
                reset(held.stream);
            }
        }
    }
}

/// Nothing at all; notices the end.
fn be_silent(held: &mut Held) -> bool {
    let mut byte = [0];
    match held.stream.peek(&mut byte) {
        Ok(0) => false,
        Ok(_) => held.is_open(),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Never reads.
fn be_deaf(held: &mut Held) -> bool {
    held.is_open()
}

/// Never reads, and sends what the connection takes.
fn stuff(held: &mut Held) -> bool {
    let block = [b'x'; 64 * 1024];
    loop {
        match held.stream.write(&block) {
            Ok(count) if count > 0 => {}
            Ok(_) => return false,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

fn send_a_byte(held: &mut Held) -> bool {
    !held.is_due() || held.stream.write_all(b"x").is_ok()
}

fn read_a_byte(held: &mut Held) -> bool {
    if !held.is_due() {
        return held.is_open();
    }
    match held.stream.read(&mut [0]) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

pub(crate) fn silent(hostile: &Hostile) {
    hold(hostile, 700, None, b"", be_silent);
}

pub(crate) fn slow_heads(hostile: &Hostile) {
    hold(hostile, 200, None, b"GET /keepalive HTTP/1.1\r\nHost: a\r\nX: ", send_a_byte);
}

pub(crate) fn long_heads(hostile: &Hostile) {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX: ".to_owned() + &"x".repeat(60_000);
    hold(hostile, 300, None, head.as_bytes(), be_silent);
}

pub(crate) fn refused_and_open(hostile: &Hostile) {
    hold(hostile, 100, None, b"GET\r\n\r\n", be_deaf);
}

const SMALL: Option<usize> = Some(2048);

pub(crate) fn deaf_scrapes_3(hostile: &Hostile) {
    hold(hostile, 3, SMALL, &get("/metrics", ""), be_deaf);
}

pub(crate) fn deaf_scrapes_100(hostile: &Hostile) {
    hold(hostile, 100, SMALL, &get("/metrics", ""), be_deaf);
}

pub(crate) fn deaf_pages(hostile: &Hostile) {
    hold(hostile, 100, SMALL, &get("/", ""), be_deaf);
}

pub(crate) fn deaf_matrices(hostile: &Hostile) {
    hold(hostile, 100, SMALL, &get("/api/v1/cluster", ""), be_deaf);
}

pub(crate) fn deaf_gzip(hostile: &Hostile) {
    hold(hostile, 100, SMALL, &get("/api/v1/cluster", "Accept-Encoding: gzip\r\n"), be_deaf);
}

pub(crate) fn deaf_pairs(hostile: &Hostile) {
    hold(hostile, 100, SMALL, &get("/api/v1/cluster/p0001/p0002", ""), be_deaf);
}

pub(crate) fn deaf_large_requests(hostile: &Hostile) {
    let request = get("/keepalive", "Wylis-Node: n\r\nWylis-Size: 10240\r\n");
    hold(hostile, 200, SMALL, &request, be_deaf);
}

pub(crate) fn dripping_scrapes(hostile: &Hostile) {
    hold(hostile, 20, SMALL, &get("/metrics", ""), read_a_byte);
}

pub(crate) fn stuffed_scrapes(hostile: &Hostile) {
    hold(hostile, 300, SMALL, &get("/metrics", ""), stuff);
}

pub(crate) fn stuffed_large_requests(hostile: &Hostile) {
    let request = get("/keepalive", "Wylis-Node: n\r\nWylis-Size: 10240\r\n");
    hold(hostile, 300, SMALL, &request, stuff);
}

pub(crate) fn stuffed_matrices(hostile: &Hostile) {
    hold(hostile, 300, SMALL, &get("/api/v1/cluster", ""), stuff);
}
