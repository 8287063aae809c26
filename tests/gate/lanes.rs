//! Slow readers of large responses must not delay others.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::child::{GATHERING_TIME, GateProcess, Options, metrics};
use crate::client::{
    End, assert_probes_pass, connect, connect_with_small_buffer, get, read_all, status_code,
};
use crate::responses::unchunk;

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

/// A client that requests /metrics and reads nothing.
fn stalled_reader(gate: &GateProcess) -> std::net::TcpStream {
    let mut stream = connect_with_small_buffer(gate.address);
    stream.write_all(SCRAPE).unwrap();
    stream
}

#[test]
fn stalled_metrics_readers_delay_no_probe() {
    let mut gate = GateProcess::start(&Options { metrics: 3_000_000, ..Options::new(40) });
    let before = gate.proc_status("VmHWM");
    let readers: Vec<_> = (0..2).map(|_| stalled_reader(&gate)).collect();
    gate.wait_for_counter("/metrics:200", |count| count == 1);
    assert_probes_pass(&mut gate);
    assert!(get(gate.address, "/healthz").ends_with("ok\n"));
    let grown = gate.proc_status("VmHWM") - before;
    assert!(grown < 1024, "{grown} kB more");
    drop(readers);
}

#[test]
fn stalled_reader_is_reset_and_the_next_gets_its_own_response() {
    let options = Options { metrics: 3_000_000, bulk: 1000, ..Options::new(41) };
    let mut gate = GateProcess::start(&options);
    let expected: Vec<u8> = metrics(3_000_000).flatten().collect();
    for _ in 0..2 {
        let mut reader = stalled_reader(&gate);
        reader.read_exact(&mut [0; 1]).unwrap();
        let response = get(gate.address, "/metrics");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(unchunk(body).as_bytes() == expected, "the body differs");
        // A FIN would make the truncated response look complete.
        assert_eq!(read_all(&mut reader).1, End::Reset);
    }
    assert!(gate.counter("timeout") >= 2);
    assert_probes_pass(&mut gate);
}

#[test]
fn reader_that_leaves_early_frees_the_lane() {
    let mut gate = GateProcess::start(&Options { metrics: 3_000_000, ..Options::new(42) });
    assert_eq!(status_code(&get(gate.address, "/metrics")), Some(200));
    let before = gate.proc_status("VmHWM");
    for _ in 0..5 {
        let mut reader = stalled_reader(&gate);
        reader.read_exact(&mut [0; 1]).unwrap();
        drop(reader);
        let begin = Instant::now();
        assert!(get(gate.address, "/metrics").ends_with("\r\n0\r\n\r\n"));
        // Well before the deadline of the reader that left.
        assert!(begin.elapsed() < Duration::from_secs(9));
    }
    gate.wait_for_counter("client_gone", |count| count == 5);
    // The rest of an abandoned response is discarded.
    let grown = gate.proc_status("VmHWM") - before;
    assert!(grown < 1024, "{grown} kB more");
    assert_probes_pass(&mut gate);
}

#[test]
fn excess_scrapes_get_503_with_retry_after() {
    let options = Options { metrics: 3_000_000, bulk: 30_000, ..Options::new(43) };
    let mut gate = GateProcess::start(&options);
    let first = stalled_reader(&gate);
    gate.wait_for_counter("/metrics:200", |count| count == 1);
    let waiting: Vec<_> = (0..4).map(|_| stalled_reader(&gate)).collect();
    gate.wait_for_counter("connections", |open| open == 5);
    let response = get(gate.address, "/metrics");
    assert_eq!(status_code(&response), Some(503));
    assert!(response.contains("\r\nRetry-After: 1\r\n"), "{response}");
    assert_eq!(gate.counter("overload"), 1);
    assert_probes_pass(&mut gate);
    drop((first, waiting));
    gate.wait_for_counter("connections", |open| open == 0);
    assert_eq!(status_code(&get(gate.address, "/metrics")), Some(200));
}

#[test]
fn concurrent_responses_reach_their_own_clients() {
    let mut gate = GateProcess::start(&Options::new(44));
    let address = gate.address;
    let request_often = |path: &'static str, ends: &'static str| {
        std::thread::spawn(move || {
            for _ in 0..200 {
                let mut stream = connect(address);
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                stream.write_all(request.as_bytes()).unwrap();
                let response = String::from_utf8(read_all(&mut stream).0).unwrap();
                assert!(response.ends_with(ends), "{path}: {response:?}");
            }
        })
    };
    let threads = [
        request_often("/healthz", "\r\n\r\nok\n"),
        request_often("/keepalive", "\r\n\r\n"),
        request_often("/nothing", "\r\n\r\nnot found\n"),
        request_often("/", "</script>\n"),
        request_often("/metrics", "\r\n0\r\n\r\n"),
    ];
    for thread in threads {
        thread.join().unwrap();
    }
    assert_probes_pass(&mut gate);
}

#[test]
fn gathered_routes_queue_and_delay_neither_probes_nor_scrapes() {
    let mut gate = GateProcess::start(&Options::new(45));
    let address = gate.address;
    let begin = Instant::now();
    let gathered: Vec<_> =
        (0..3).map(|_| std::thread::spawn(move || get(address, "/api/v1/cluster"))).collect();
    gate.wait_for_counter("connections", |open| open == 3);
    assert_probes_pass(&mut gate);
    for path in ["/metrics", "/api/v1/row", "/healthz"] {
        assert_eq!(status_code(&get(address, path)), Some(200), "{path}");
    }
    // All of these came before the first gathered response.
    assert!(begin.elapsed() < GATHERING_TIME, "{:?}", begin.elapsed());
    assert!(gathered.iter().all(|thread| !thread.is_finished()));
    for thread in gathered {
        let response = thread.join().unwrap();
        assert!(response.ends_with("\n]}\n"), "{response}");
        assert!(response.contains("\r\nCache-Control: no-store\r\n"), "{response}");
    }
    // One after another: this view caches nothing.
    assert!(begin.elapsed() >= 3 * GATHERING_TIME);
}
