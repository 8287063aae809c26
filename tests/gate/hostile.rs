//! Each of these ended, blocked or bloated a process with tiny_http on its port.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use wylis::wire::MAX_REQUEST_HEAD;

use crate::child::{Agents, Options, PATIENCE};
use crate::client::{
    End, ask, code, connect, connect_narrow, listed, probe, probes_pass, read_all, reset,
};

/// Threads of a child: two of the test framework, the gate, and four of the server; tiny_http's
/// spare ones live for five seconds.
const THREADS: u64 = 2 + 1 + 4 + 5;

fn memory_is_bounded(agents: &Agents, before: u64, kilobytes: u64) {
    let grown = agents.status("VmHWM") - before;
    assert!(grown < kilobytes, "{grown} kB more");
}

/// What a child has cost at most, whatever was done to it: kilobytes.
fn cost_is_bounded(agents: &Agents, before: u64, kilobytes: u64) {
    memory_is_bounded(agents, before, kilobytes);
    let threads = agents.status("Threads");
    assert!(threads <= THREADS, "{threads} threads");
    let descriptors = agents.descriptors();
    assert!(descriptors < 40, "{descriptors} descriptors");
}

/// Sends each of these as a request of its own, and expects each time the same code.
fn refused(net: u8, requests: &[&str], expected: u16) {
    let mut agents = Agents::start(&Options::new(net));
    let before = agents.status("VmHWM");
    for request in requests {
        for _ in 0..20 {
            let answer = ask(agents.address, request.as_bytes());
            assert_eq!(code(&answer), Some(expected), "{request:?}: {answer:?}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer:?}");
        }
    }
    probes_pass(&mut agents);
    cost_is_bounded(&agents, before, 2048);
}

#[test]
fn an_announced_body_is_refused_however_long() {
    refused(
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
fn an_expectation_is_refused() {
    refused(
        21,
        &[
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: something\r\n\r\n",
        ],
        400,
    );
}

#[test]
fn transfer_encodings_that_are_no_numbers_are_dropped() {
    // A sort panics when it finds out that these have no order: not if all of them are alike.
    let te = ["nan", "0.1", "0.2", "nan", "0.4", "0.5", "nan", "0.7", "0.8", "nan"].repeat(4);
    let te: Vec<String> = te.iter().map(|weight| format!("chunked;q={weight}")).collect();
    let te = te.join(",");
    let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nTE: {te}\r\n\r\n");
    refused(22, &[&request], 200);
}

#[test]
fn other_versions_are_refused_without_a_thread_each() {
    refused(
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
fn other_methods_are_refused_and_told_which_are_not() {
    let methods = ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get"];
    let requests = methods.map(|method| format!("{method} /metrics HTTP/1.1\r\nHost: a\r\n\r\n"));
    refused(25, &requests.each_ref().map(String::as_str), 405);
    let agents = Agents::start(&Options::new(25));
    assert!(ask(agents.address, requests[0].as_bytes()).contains("\r\nAllow: GET, HEAD\r\n"));
}

#[test]
fn what_is_no_http_is_refused_at_once() {
    refused(
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
    let mut agents = Agents::start(&Options { head: 20_000, ..Options::new(59) });
    let before = agents.status("VmHWM");
    let mut clients: Vec<_> = (0..300).map(|_| connect(agents.address)).collect();
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
    probes_pass(&mut agents);
    // Held as they came, they would take 18,000 kB.
    memory_is_bounded(&agents, before, 1500);
    for client in &mut clients {
        client.write_all(b"\r\n\r\n").unwrap();
        assert!(read_all(client).0.ends_with(b"\r\n\r\nok\n"));
    }
}

/// Sends a piece again and again; the answer, if it came, and how much could be sent.
fn endless(agents: &Agents, begin: &str, piece: &str) -> usize {
    let mut stream = connect(agents.address);
    stream.write_all(begin.as_bytes()).unwrap();
    let block = piece.repeat(64 * 1024 / piece.len());
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 && stream.write_all(block.as_bytes()).is_ok() {
        sent += block.len();
    }
    sent
}

#[test]
fn an_endless_head_is_cut_off_early() {
    let mut agents = Agents::start(&Options::new(27));
    let before = agents.status("VmHWM");
    for (begin, piece) in [
        ("GET /", "a"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "X-Header: value\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "a"),
        ("", "G"),
    ] {
        let sent = endless(&agents, begin, piece);
        assert!(sent < 16 * 1024 * 1024, "{begin:?}: {sent} octets were taken");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(MAX_REQUEST_HEAD));
    assert_eq!(code(&ask(agents.address, long.as_bytes())), Some(431));
    probes_pass(&mut agents);
    assert_eq!(agents.counter("too_large"), 5);
    cost_is_bounded(&agents, before, 2048);
}

#[test]
fn ten_thousand_pipelined_requests_get_one_answer() {
    let mut agents = Agents::start(&Options::new(28));
    let before = agents.status("VmHWM");
    for path in ["/keepalive", "/metrics"] {
        let requests = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(10_000);
        for _ in 0..20 {
            let mut stream = connect(agents.address);
            // It may be cut off before all is sent.
            let _ = stream.write_all(requests.as_bytes());
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let answers = String::from_utf8_lossy(&answer).matches("HTTP/1.1 ").count();
            assert!(answers <= 1, "{answers} answers");
        }
    }
    // Whether or not the client is still there to read it.
    assert_eq!(agents.counter("body"), 40, "each is refused for what follows it");
    probes_pass(&mut agents);
    cost_is_bounded(&agents, before, 2048);
}

#[test]
fn silent_clients_stop_no_probe_and_are_told_the_time() {
    let mut agents = Agents::start(&Options::new(29));
    let before = agents.status("VmHWM");
    let mut silent: Vec<_> = (0..500).map(|_| connect(agents.address)).collect();
    let begin = Instant::now();
    probes_pass(&mut agents);
    let took = begin.elapsed();
    if took < Duration::from_secs(4) {
        // Not yet past their deadline: they were all there.
        let descriptors = agents.descriptors();
        assert!(descriptors >= 500, "{descriptors} descriptors after {took:?}");
    }
    let (answer, _) = read_all(silent.last_mut().unwrap());
    assert_eq!(code(&String::from_utf8(answer).unwrap()), Some(408));
    agents.awaits("connections", |open| open == 0);
    cost_is_bounded(&agents, before, 4096);
}

#[test]
fn more_clients_than_places_evict_the_oldest_head() {
    let mut agents = Agents::start(&Options { head: 20_000, ..Options::new(30) });
    let before = agents.status("VmHWM");
    let mut silent: Vec<_> = (0..700).map(|_| connect(agents.address)).collect();
    agents.awaits("evicted", |count| count >= 188);
    probes_pass(&mut agents);
    assert!(agents.counter("connections") <= 512);
    let (answer, end) = read_all(&mut silent[0]);
    assert_eq!((answer.len(), end), (0, End::Reset));
    // The youngest are still welcome.
    let youngest = silent.last_mut().unwrap();
    youngest.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_all(youngest).0.ends_with(b"ok\n"));
    drop(silent);
    agents.awaits("connections", |open| open == 0);
    cost_is_bounded(&agents, before, 4096);
}

/// How many sockets the kernel keeps for an address after their process has closed them, with
/// something still to send.
fn orphans(address: std::net::SocketAddr) -> usize {
    // Without a user's socket there is no inode.
    listed(address).iter().filter(|fields| fields[9] == "0").count()
}

#[test]
fn large_answers_that_nobody_reads_are_not_left_to_the_kernel() {
    let agents = Agents::start(&Options::new(9));
    let request =
        b"GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: n\r\nWylis-Size: 10240\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = connect_narrow(agents.address);
        client.write_all(request).unwrap();
        clients.push(client);
        assert!(orphans(agents.address) <= 2, "{} orphans", orphans(agents.address));
    }
    let mut agents = agents;
    probes_pass(&mut agents);
    agents.awaits("connections", |open| open <= 40);
    assert!(orphans(agents.address) <= 2, "{} orphans", orphans(agents.address));
}

#[test]
fn dripping_clients_are_cut_off_at_their_deadline() {
    let mut agents = Agents::start(&Options { head: 2000, ..Options::new(31) });
    let before = agents.status("VmHWM");
    let mut dripping: Vec<_> = (0..200).map(|_| connect(agents.address)).collect();
    let begin = Instant::now();
    let request = b"GET /keepalive HTTP/1.1\r\nHost: a\r\nX: ";
    let mut rest = request.iter().chain(std::iter::repeat(&b'x'));
    while !dripping.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "{} still drip", dripping.len());
        let octet = [*rest.next().unwrap()];
        dripping.retain_mut(|stream| stream.write_all(&octet).is_ok());
        assert!(probe(agents.address).is_some());
        std::thread::sleep(Duration::from_millis(20));
    }
    probes_pass(&mut agents);
    agents.awaits("timeout", |count| count == 200);
    agents.awaits("connections", |open| open == 0);
    cost_is_bounded(&agents, before, 4096);
}

#[test]
fn resets_at_any_moment_hurt_nobody() {
    let mut agents = Agents::start(&Options::new(32));
    let before = agents.status("VmHWM");
    let requests = [
        "",
        "GET /keep",
        "GET /keepalive HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for round in 0..200 {
        for request in requests {
            let mut stream = connect(agents.address);
            stream.write_all(request.as_bytes()).unwrap();
            // Before the answer, or after its begin.
            if round % 3 == 0 && request.ends_with("\r\n\r\n") {
                stream.read_exact(&mut [0; 10]).unwrap();
            }
            reset(stream);
        }
        if round % 3 == 0 {
            assert!(probe(agents.address).is_some());
        }
    }
    probes_pass(&mut agents);
    agents.awaits("connections", |open| open == 0);
    cost_is_bounded(&agents, before, 4096);
}
