//! Attacks that ended, blocked or bloated a process with tiny_http on its port.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use wylis::wire::MAX_REQUEST_HEAD;

use crate::child::{GateProcess, Options, TIMEOUT};
use crate::client::{
    End, assert_probes_pass, connect, connect_with_small_buffer, kernel_sockets, probe, read_all,
    reset, send_request, status_code,
};

/// Threads of the child: two of the test framework, the gate, five of the server, five spare ones of
/// tiny_http, which live for 5 s, and one that answers bulk, while the one before ends.
const THREADS: u64 = 2 + 1 + 5 + 5 + 2;

fn assert_memory_bounded(gate: &GateProcess, before: u64, kilobytes: u64) {
    let grown = gate.proc_status("VmHWM") - before;
    assert!(grown < kilobytes, "{grown} kB more");
}

/// Limits of memory (in kilobytes), threads and descriptors of the child after an attack.
fn assert_cost_bounded(gate: &GateProcess, before: u64, kilobytes: u64) {
    assert_memory_bounded(gate, before, kilobytes);
    let threads = gate.proc_status("Threads");
    assert!(threads <= THREADS, "{threads} threads");
    let descriptors = gate.descriptors();
    assert!(descriptors < 40, "{descriptors} descriptors");
}

/// Sends each request 20 times, and expects this status code.
fn assert_status(net: u8, requests: &[&str], expected: u16) {
    let mut gate = GateProcess::start(&Options::new(net));
    let before = gate.proc_status("VmHWM");
    for request in requests {
        for _ in 0..20 {
            let response = send_request(gate.address, request.as_bytes());
            assert_eq!(status_code(&response), Some(expected), "{request:?}: {response:?}");
            assert!(response.contains("\r\nConnection: close\r\n"), "{response:?}");
        }
    }
    assert_probes_pass(&mut gate);
    assert_cost_bounded(&gate, before, 2048);
}

#[test]
fn announced_body_is_refused() {
    assert_status(
        20,
        &[
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000000000000\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\ncontent-length: 99999999999999999999999999\r\n\r\n",
        ],
        400,
    );
}

#[test]
fn expect_header_is_refused() {
    assert_status(
        21,
        &[
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: something\r\n\r\n",
        ],
        400,
    );
}

#[test]
fn te_header_with_invalid_weights_is_dropped() {
    // tiny_http sorts by these weights, which panics unless all are equal.
    let te = ["nan", "0.1", "0.2", "nan", "0.4", "0.5", "nan", "0.7", "0.8", "nan"].repeat(4);
    let te: Vec<String> = te.iter().map(|weight| format!("chunked;q={weight}")).collect();
    let te = te.join(",");
    let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nTE: {te}\r\n\r\n");
    assert_status(22, &[&request], 200);
}

#[test]
fn other_versions_are_refused_without_new_threads() {
    assert_status(
        23,
        &[
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET / HTTP/0.9\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
        505,
    );
}

#[test]
fn other_methods_are_refused_with_the_allowed_ones() {
    let methods = ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get"];
    let requests = methods.map(|method| format!("{method} /metrics HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_status(25, &requests.each_ref().map(String::as_str), 405);
    let gate = GateProcess::start(&Options::new(25));
    assert!(
        send_request(gate.address, requests[0].as_bytes()).contains("\r\nAllow: GET, HEAD\r\n")
    );
}

#[test]
fn malformed_requests_are_refused() {
    assert_status(
        26,
        &[
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}",
            "\r\n\r\n",
            "\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:///healthz HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nContent-Length: 1\r\n\r\na",
            "GET /?a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nWylis-Node : b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nWylis-Node: b\r\nWylis-Node: c\r\n\r\n",
        ],
        400,
    );
}

#[test]
fn large_heads_are_read_in_constant_memory() {
    let mut gate = GateProcess::start(&Options { head: 20_000, ..Options::new(59) });
    let before = gate.proc_status("VmHWM");
    let mut clients: Vec<_> = (0..240).map(|_| connect(gate.address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let filler = match number % 3 {
            0 => format!("X: {}", "x".repeat(60_000)),
            1 => "X-Header: value\r\n".repeat(60_000 / 17) + "X: x",
            _ => format!("{}: x\r\nWylis-Node: {}", "x".repeat(300), "n".repeat(59_000)),
        };
        client
            .write_all(format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{filler}").as_bytes())
            .unwrap();
    }
    assert_probes_pass(&mut gate);
    // Buffered, the heads would take 14,400 kB.
    assert_memory_bounded(&gate, before, 1500);
    for client in &mut clients {
        client.write_all(b"\r\n\r\n").unwrap();
        assert!(read_all(client).0.ends_with(b"\r\n\r\nok\n"));
    }
}

/// Sends a piece again and again; returns how many bytes could be sent.
fn send_endlessly(gate: &GateProcess, begin: &str, piece: &str) -> usize {
    let mut stream = connect(gate.address);
    stream.write_all(begin.as_bytes()).unwrap();
    let block = piece.repeat(64 * 1024 / piece.len());
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 && stream.write_all(block.as_bytes()).is_ok() {
        sent += block.len();
    }
    sent
}

#[test]
fn endless_head_is_cut_off() {
    let mut gate = GateProcess::start(&Options::new(27));
    let before = gate.proc_status("VmHWM");
    for (begin, piece) in [
        ("GET /", "a"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "X-Header: value\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "a"),
        ("", "G"),
    ] {
        let sent = send_endlessly(&gate, begin, piece);
        assert!(sent < 16 * 1024 * 1024, "{begin:?}: {sent} bytes were accepted");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(MAX_REQUEST_HEAD));
    assert_eq!(status_code(&send_request(gate.address, long.as_bytes())), Some(431));
    assert_probes_pass(&mut gate);
    assert_eq!(gate.counter("too_large"), 5);
    assert_cost_bounded(&gate, before, 2048);
}

#[test]
fn ten_thousand_pipelined_requests_get_one_response() {
    let mut gate = GateProcess::start(&Options::new(28));
    let before = gate.proc_status("VmHWM");
    for path in ["/keepalive", "/metrics"] {
        let requests = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(10_000);
        for _ in 0..20 {
            let mut stream = connect(gate.address);
            // Cut off before all is sent.
            let _ = stream.write_all(requests.as_bytes());
            let mut response = Vec::new();
            let _ = stream.read_to_end(&mut response);
            let responses = String::from_utf8_lossy(&response).matches("HTTP/1.1 ").count();
            assert!(responses <= 1, "{responses} responses");
        }
    }
    assert_eq!(gate.counter("body"), 40, "each is refused for the data after its head");
    assert_probes_pass(&mut gate);
    assert_cost_bounded(&gate, before, 2048);
}

#[test]
fn silent_clients_delay_no_probe_and_get_a_timeout() {
    let mut gate = GateProcess::start(&Options::new(29));
    let before = gate.proc_status("VmHWM");
    let mut silent: Vec<_> = (0..250).map(|_| connect(gate.address)).collect();
    let begin = Instant::now();
    assert_probes_pass(&mut gate);
    let took = begin.elapsed();
    if took < Duration::from_secs(4) {
        // Before their deadline, all of them are connected.
        let descriptors = gate.descriptors();
        assert!(descriptors >= 250, "{descriptors} descriptors after {took:?}");
    }
    let (response, _) = read_all(silent.last_mut().unwrap());
    assert_eq!(status_code(&String::from_utf8(response).unwrap()), Some(408));
    gate.wait_for_counter("connections", |open| open == 0);
    assert_cost_bounded(&gate, before, 4096);
}

#[test]
fn excess_connections_evict_the_oldest_incomplete_head() {
    let mut gate = GateProcess::start(&Options { head: 20_000, ..Options::new(30) });
    let before = gate.proc_status("VmHWM");
    let mut silent: Vec<_> = (0..500).map(|_| connect(gate.address)).collect();
    gate.wait_for_counter("evicted", |count| count >= 244);
    assert_probes_pass(&mut gate);
    let open = gate.counter("connections");
    assert!(open as f64 <= wylis_harness::bounds::worst_case("MAX_CONNECTIONS"), "{open}");
    let (response, end) = read_all(&mut silent[0]);
    assert_eq!((response.len(), end), (0, End::Reset));
    // The newest are still answered.
    let newest = silent.last_mut().unwrap();
    newest.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_all(newest).0.ends_with(b"ok\n"));
    drop(silent);
    gate.wait_for_counter("connections", |open| open == 0);
    assert_cost_bounded(&gate, before, 4096);
}

#[test]
fn refused_clients_that_never_close_are_limited() {
    let mut gate = GateProcess::start(&Options::new(33));
    let mut clients: Vec<_> = (0..100).map(|_| connect(gate.address)).collect();
    for client in &mut clients {
        client.write_all(b"GET\r\n\r\n").unwrap();
    }
    gate.wait_for_counter("bad_request", |count| count == 100);
    let open = gate.counter("connections");
    assert!(open as f64 <= wylis_harness::bounds::worst_case("MAX_LINGERING"), "{open}");
}

/// The number of closed sockets of this address that still have data to send.
fn orphans(address: std::net::SocketAddr) -> usize {
    // FIN_WAIT1, LAST_ACK and CLOSING; those that are not accepted yet are in other states.
    const CLOSED: [&str; 3] = ["04", "09", "0B"];
    let sockets = kernel_sockets(address);
    // A socket without a descriptor has no inode.
    let orphans = sockets.iter().filter(|fields| CLOSED.contains(&&*fields[3]) && fields[9] == "0");
    orphans.count()
}

#[test]
fn unread_large_responses_are_not_left_to_the_kernel() {
    let gate = GateProcess::start(&Options::new(9));
    let request =
        b"GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: n\r\nWylis-Size: 10240\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = connect_with_small_buffer(gate.address);
        client.write_all(request).unwrap();
        clients.push(client);
        assert!(orphans(gate.address) <= 2, "{} orphans", orphans(gate.address));
    }
    let mut gate = gate;
    assert_probes_pass(&mut gate);
    gate.wait_for_counter("connections", |open| open <= 40);
    assert!(orphans(gate.address) <= 2, "{} orphans", orphans(gate.address));
}

#[test]
fn slow_heads_are_cut_off_at_their_deadline() {
    let mut gate = GateProcess::start(&Options { head: 2000, ..Options::new(31) });
    let before = gate.proc_status("VmHWM");
    let mut slow: Vec<_> = (0..200).map(|_| connect(gate.address)).collect();
    let begin = Instant::now();
    let request = b"GET /keepalive HTTP/1.1\r\nHost: a\r\nX: ";
    let mut rest = request.iter().chain(std::iter::repeat(&b'x'));
    while !slow.is_empty() {
        assert!(begin.elapsed() < TIMEOUT, "{} are still connected", slow.len());
        let byte = [*rest.next().unwrap()];
        slow.retain_mut(|stream| stream.write_all(&byte).is_ok());
        assert!(probe(gate.address).is_some());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_probes_pass(&mut gate);
    gate.wait_for_counter("timeout", |count| count == 200);
    gate.wait_for_counter("connections", |open| open == 0);
    assert_cost_bounded(&gate, before, 4096);
}

#[test]
fn resets_at_any_time_do_no_harm() {
    let mut gate = GateProcess::start(&Options::new(32));
    let before = gate.proc_status("VmHWM");
    let requests = [
        "",
        "GET /keep",
        "GET /keepalive HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for round in 0..200 {
        for request in requests {
            let mut stream = connect(gate.address);
            stream.write_all(request.as_bytes()).unwrap();
            // Before the response, or after its start.
            if round % 3 == 0 && request.ends_with("\r\n\r\n") {
                stream.read_exact(&mut [0; 10]).unwrap();
            }
            reset(stream);
        }
        if round % 3 == 0 {
            assert!(probe(gate.address).is_some());
        }
    }
    assert_probes_pass(&mut gate);
    gate.wait_for_counter("connections", |open| open == 0);
    assert_cost_bounded(&gate, before, 4096);
}
