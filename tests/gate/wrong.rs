//! A server that does not do what ours does: the process ends, and no client is deceived.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use wylis::gate::{self, Counters, Limits, Setup};
use wylis::heartbeat::Heartbeat;
use wylis::route::{Lanes, Route};
use wylis::shutdown::StopToken;

use crate::child::{Agents, Options, PATIENCE};
use crate::client::{End, connect, probes_pass, read_all};

/// A gate whose server is the test.
pub(crate) struct Alone {
    pub(crate) address: SocketAddr,
    pub(crate) small: UnixStream,
    pub(crate) counters: Arc<Counters>,
    bulk: UnixStream,
    died: Receiver<String>,
    stop: StopToken,
}

impl Alone {
    fn start(net: u8) -> Self {
        let limits = Limits::of_this_process();
        Self::with(net, Limits { backend: Duration::from_millis(500), ..limits })
    }

    pub(crate) fn with(net: u8, limits: Limits) -> Self {
        let listener = gate::listen(format!("127.77.{net}.1:0").parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (small, near_small) = UnixStream::pair().unwrap();
        let (bulk, near_bulk) = UnixStream::pair().unwrap();
        // Nobody asks for what takes it.
        let (gathered, near_gathered) = UnixStream::pair().unwrap();
        std::mem::forget(gathered);
        for stream in [&small, &bulk] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let (sender, died) = channel();
        let counters = Arc::new(Counters::new(&Route::LABELS));
        let stop = StopToken::new();
        let setup = Setup {
            listener,
            backends: Lanes { small: near_small, bulk: near_bulk, gathered: near_gathered },
            limits,
            counters: Arc::clone(&counters),
            heartbeat: Heartbeat::new("gate", Instant::now()),
            stop: stop.clone(),
            fatal: Box::new(move |reason| sender.send(reason.to_owned()).unwrap()),
        };
        gate::start(setup).unwrap();
        Self { address, small, counters, bulk, died, stop }
    }

    pub(crate) fn awaits_connections(&self, open: u64) {
        let end = Instant::now() + PATIENCE;
        while self.counters.connections() != open {
            assert!(Instant::now() < end, "{} connections", self.counters.connections());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn dies_of(&self, reason: &str) {
        let told = self.died.recv_timeout(PATIENCE).unwrap();
        assert!(told.contains(reason), "{told}");
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Reads one request off a lane; the number of it.
pub(crate) fn sequence(mut stream: &UnixStream) -> u64 {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        request.push(octet[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let line = request.lines().find_map(|line| line.strip_prefix("Wylis-Sequence: "));
    line.unwrap().parse().unwrap()
}

pub(crate) fn head(sequence: u64, framing: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nWylis-Sequence: {sequence}\r\n{framing}\r\n\r\n")
}

#[test]
fn an_answer_to_another_request_reaches_nobody() {
    let mut alone = Alone::start(60);
    let mut client = connect(alone.address);
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let sequence = sequence(&alone.small);
    let answer = head(sequence + 1, "Content-Length: 6") + "secret";
    alone.small.write_all(answer.as_bytes()).unwrap();
    alone.dies_of("belongs to another request");
    assert_eq!(read_all(&mut client).0, b"");
}

#[test]
fn a_server_that_speaks_unasked_or_hangs_up_ends_the_process() {
    let mut alone = Alone::start(61);
    alone.small.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
    alone.dies_of("data without a request");
    let alone = Alone::start(61);
    alone.bulk.shutdown(std::net::Shutdown::Both).unwrap();
    alone.dies_of("closed");
}

#[test]
fn an_overdue_answer_ends_the_process() {
    let alone = Alone::start(62);
    let mut client = connect(alone.address);
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    sequence(&alone.small);
    alone.dies_of("overdue");
}

#[test]
fn a_view_that_never_returns_ends_the_process() {
    let mut agents = Agents::start(&Options { backend: 500, ..Options::new(63) });
    probes_pass(&mut agents);
    let mut client = connect(agents.address);
    client.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    agents.hears("FATAL ");
    assert_eq!(agents.ends(), Some(3));
}

#[test]
fn an_answer_cut_short_does_not_pass_for_the_whole() {
    let mut alone = Alone::start(64);
    let mut client = connect(alone.address);
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let sequence = sequence(&alone.bulk);
    let answer = head(sequence, "Transfer-Encoding: chunked") + "3\r\nabc\r\n";
    alone.bulk.write_all(answer.as_bytes()).unwrap();
    let mut begin = [0; 16];
    client.read_exact(&mut begin).unwrap();
    alone.bulk.shutdown(std::net::Shutdown::Both).unwrap();
    alone.dies_of("closed");
    assert_eq!(read_all(&mut client).1, End::Reset);
}

#[test]
fn an_http_1_0_body_cut_short_ends_with_a_reset() {
    let mut alone = Alone::start(66);
    let mut client = connect(alone.address);
    client.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let sequence = sequence(&alone.bulk);
    let answer = head(sequence, "Transfer-Encoding: chunked") + "3\r\nabc\r\n5\r\nde";
    alone.bulk.write_all(answer.as_bytes()).unwrap();
    let mut begin = vec![0; "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde".len()];
    client.read_exact(&mut begin).unwrap();
    assert!(begin.ends_with(b"\r\n\r\nabcde"), "{:?}", String::from_utf8(begin));
    alone.bulk.shutdown(std::net::Shutdown::Both).unwrap();
    alone.dies_of("closed");
    // A FIN would end the body.
    assert_eq!(read_all(&mut client), (Vec::new(), End::Reset));
}

#[test]
fn an_answer_that_comes_too_late_reaches_nobody_else() {
    let wait = Duration::from_millis(300);
    let mut alone = Alone::with(65, Limits { wait, ..Limits::of_this_process() });
    let mut late = connect(alone.address);
    late.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let first = sequence(&alone.small);
    let told = String::from_utf8(read_all(&mut late).0).unwrap();
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("Retry-After: 1"), "{told}");
    let mut next = connect(alone.address);
    next.write_all(b"HEAD /b HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let answer = head(first, "Content-Length: 6") + "secret";
    alone.small.write_all(answer.as_bytes()).unwrap();
    let second = sequence(&alone.small);
    assert!(second > first);
    alone.small.write_all(head(second, "Content-Length: 9").as_bytes()).unwrap();
    let (answer, end) = read_all(&mut next);
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n";
    assert_eq!((String::from_utf8(answer).unwrap().as_str(), end), (expected, End::Closed));
}
