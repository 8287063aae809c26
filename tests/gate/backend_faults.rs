//! A server that misbehaves: the process ends, and no client gets a wrong or truncated response.

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

use crate::child::{GateProcess, Options, TIMEOUT};
use crate::client::{End, assert_probes_pass, connect, read_all};

/// A gate in this process, whose server is the test.
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    pub(crate) small: UnixStream,
    pub(crate) counters: Arc<Counters>,
    pub(crate) bulk: UnixStream,
    fatal: Receiver<String>,
    stop: StopToken,
}

impl FakeServer {
    fn start(net: u8) -> Self {
        let limits = Limits::of_this_process();
        Self::with(net, Limits { backend: Duration::from_millis(500), ..limits })
    }

    pub(crate) fn with(net: u8, limits: Limits) -> Self {
        let listener = gate::listen(format!("127.77.{net}.1:0").parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (small, near_small) = UnixStream::pair().unwrap();
        let (bulk, near_bulk) = UnixStream::pair().unwrap();
        // No test uses it.
        let (gathered, near_gathered) = UnixStream::pair().unwrap();
        let (pair, near_pair) = UnixStream::pair().unwrap();
        std::mem::forget((gathered, pair));
        for stream in [&small, &bulk] {
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        }
        let (sender, fatal) = channel();
        let counters = Arc::new(Counters::new(&Route::LABELS));
        let stop = StopToken::new();
        let setup = Setup {
            listener,
            backends: Lanes {
                small: near_small,
                bulk: near_bulk,
                gathered: near_gathered,
                pair: near_pair,
            },
            limits,
            counters: Arc::clone(&counters),
            heartbeat: Heartbeat::new("gate", Instant::now()),
            stop: stop.clone(),
            retransmitted: Box::new(|_, _| ()),
            fatal: Box::new(move |reason| sender.send(reason.to_owned()).unwrap()),
        };
        gate::start(setup).unwrap();
        Self { address, small, counters, bulk, fatal, stop }
    }

    pub(crate) fn wait_for_connections(&self, open: u64) {
        let end = Instant::now() + TIMEOUT;
        while self.counters.connections() != open {
            assert!(Instant::now() < end, "{} connections", self.counters.connections());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn assert_fatal(&self, reason: &str) {
        let error = self.fatal.recv_timeout(TIMEOUT).unwrap();
        assert!(error.contains(reason), "{error}");
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Reads one request, and returns its sequence number.
pub(crate) fn sequence(mut stream: &UnixStream) -> u64 {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let line = request.lines().find_map(|line| line.strip_prefix("Wylis-Sequence: "));
    line.unwrap().parse().unwrap()
}

pub(crate) fn head(sequence: u64, framing: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nWylis-Sequence: {sequence}\r\n{framing}\r\n\r\n")
}

#[test]
fn response_to_another_request_reaches_no_client() {
    let mut server = FakeServer::start(60);
    let mut client = connect(server.address);
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let sequence = sequence(&server.small);
    let response = head(sequence + 1, "Content-Length: 6") + "secret";
    server.small.write_all(response.as_bytes()).unwrap();
    server.assert_fatal("belongs to another request");
    assert_eq!(read_all(&mut client).0, b"");
}

#[test]
fn unrequested_data_or_a_closed_backend_ends_the_process() {
    let mut server = FakeServer::start(61);
    server.small.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
    server.assert_fatal("data without a request");
    let server = FakeServer::start(61);
    server.bulk.shutdown(std::net::Shutdown::Both).unwrap();
    server.assert_fatal("closed");
}

#[test]
fn overdue_response_ends_the_process() {
    let server = FakeServer::start(62);
    let mut client = connect(server.address);
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    sequence(&server.small);
    server.assert_fatal("overdue");
}

#[test]
fn blocked_view_ends_the_process() {
    let mut gate = GateProcess::start(&Options { backend: 500, ..Options::new(63) });
    assert_probes_pass(&mut gate);
    let mut client = connect(gate.address);
    client.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    gate.wait_for_line("FATAL ");
    assert_eq!(gate.exit_code(), Some(3));
}

#[test]
fn truncated_response_ends_with_a_reset() {
    let mut server = FakeServer::start(64);
    let mut client = connect(server.address);
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let sequence = sequence(&server.bulk);
    let response = head(sequence, "Transfer-Encoding: chunked") + "3\r\nabc\r\n";
    server.bulk.write_all(response.as_bytes()).unwrap();
    let mut begin = [0; 16];
    client.read_exact(&mut begin).unwrap();
    server.bulk.shutdown(std::net::Shutdown::Both).unwrap();
    server.assert_fatal("closed");
    assert_eq!(read_all(&mut client).1, End::Reset);
}

#[test]
fn truncated_http_1_0_body_ends_with_a_reset() {
    let mut server = FakeServer::start(66);
    let mut client = connect(server.address);
    client.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let sequence = sequence(&server.bulk);
    let response = head(sequence, "Transfer-Encoding: chunked") + "3\r\nabc\r\n5\r\nde";
    server.bulk.write_all(response.as_bytes()).unwrap();
    let mut begin = vec![0; "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde".len()];
    client.read_exact(&mut begin).unwrap();
    assert!(begin.ends_with(b"\r\n\r\nabcde"), "{:?}", String::from_utf8(begin));
    server.bulk.shutdown(std::net::Shutdown::Both).unwrap();
    server.assert_fatal("closed");
    // A FIN would mark the end of the body.
    assert_eq!(read_all(&mut client), (Vec::new(), End::Reset));
}

#[test]
fn late_response_reaches_no_other_client() {
    let wait = Duration::from_millis(300);
    let mut server = FakeServer::with(65, Limits { wait, ..Limits::of_this_process() });
    let mut late = connect(server.address);
    late.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let first = sequence(&server.small);
    let refusal = String::from_utf8(read_all(&mut late).0).unwrap();
    assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
    assert!(refusal.contains("Retry-After: 1"), "{refusal}");
    let mut next = connect(server.address);
    next.write_all(b"HEAD /b HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let response = head(first, "Content-Length: 6") + "secret";
    server.small.write_all(response.as_bytes()).unwrap();
    let second = sequence(&server.small);
    assert!(second > first);
    server.small.write_all(head(second, "Content-Length: 9").as_bytes()).unwrap();
    let (response, end) = read_all(&mut next);
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n";
    assert_eq!((String::from_utf8(response).unwrap().as_str(), end), (expected, End::Closed));
}
