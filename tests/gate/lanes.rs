//! Slow readers of large responses must not delay others.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wylis_harness::bounds::worst_case;

use crate::child::{GATHERING_TIME, GateProcess, Options, metrics};
use crate::client::{
    End, assert_probes_pass, connect, connect_from, connect_with_small_buffer, get, kernel_sockets,
    neighbour, read_all, status_code,
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
    let waiting: Vec<_> = (0..16).map(|_| stalled_reader(&gate)).collect();
    gate.wait_for_counter("connections", |open| open == 17);
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

/// Keeps this many clients that request /metrics and read nothing, from one address, until they leave:
/// those that are reset or refused come back.
struct StalledCrowd {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl StalledCrowd {
    fn of(count: usize, gate: &GateProcess) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), gate.address);
        let from = neighbour(address, 2);
        let thread = std::thread::spawn(move || {
            let mut crowd: Vec<TcpStream> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                crowd.retain(has_not_ended);
                while crowd.len() < count {
                    let mut stream = connect_from(from, address);
                    stream.write_all(SCRAPE).unwrap();
                    stream.set_nonblocking(true).unwrap();
                    crowd.push(stream);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, thread }
    }

    fn leave(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// Whether neither a refusal nor a reset has arrived. Reads nothing of a response.
fn has_not_ended(stream: &TcpStream) -> bool {
    let mut begin = [0; 12];
    match stream.peek(&mut begin) {
        Ok(0) => false,
        Ok(count) => !begin.get(..count).unwrap_or_default().ends_with(b" 503"),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// The duration of a complete scrape from another address than the crowd's.
fn scrape(gate: SocketAddr) -> Duration {
    let begin = Instant::now();
    let mut stream = connect_from(neighbour(gate, 3), gate);
    stream.write_all(SCRAPE).unwrap();
    let (response, end) = read_all(&mut stream);
    let begun = String::from_utf8_lossy(response.get(..20).unwrap_or_default());
    let whole = response.starts_with(b"HTTP/1.1 200 ") && response.ends_with(b"\r\n0\r\n\r\n");
    assert!(whole, "{begun}: {} bytes, {end:?} after {:?}", response.len(), begin.elapsed());
    begin.elapsed()
}

/// Bytes of responses that wait for their clients: in the kernel, until they are written completely.
fn bytes_in_kernel(gate: &GateProcess) -> u64 {
    const ESTABLISHED: &str = "01";
    let sockets = kernel_sockets(gate.address);
    let open = sockets.iter().filter(|fields| fields[3] == ESTABLISHED);
    let unread = open.filter_map(|fields| fields[4].split_once(':'));
    unread.map(|(unread, _)| u64::from_str_radix(unread, 16).unwrap()).sum()
}

#[test]
fn readers_that_stall_delay_no_scrape_however_many() {
    let mut gate = GateProcess::start(&Options::new(46));
    scrape(gate.address);
    let before = gate.proc_status("VmHWM");
    let (mut slowest, mut unread) = (Duration::ZERO, 0);
    for count in [3, 100] {
        let crowd = StalledCrowd::of(count, &gate);
        gate.wait_for_counter("/metrics:200", |count| count >= 2);
        for _ in 0..8 {
            slowest = slowest.max(scrape(gate.address));
            unread = unread.max(bytes_in_kernel(&gate));
            std::thread::sleep(Duration::from_millis(150));
        }
        crowd.leave();
    }
    assert!(slowest < Duration::from_millis(2500), "{slowest:?}");
    let buffered = (gate.proc_status("VmHWM") - before) * 1024;
    let shared = (buffered + unread) as f64;
    assert!(shared <= worst_case("MAX_SHARED"), "{buffered} and {unread} bytes");
    assert_probes_pass(&mut gate);
}

#[test]
fn readers_that_stall_long_responses_delay_a_scrape_by_one_of_them() {
    let mut gate = GateProcess::start(&Options { metrics: 3_000_000, ..Options::new(56) });
    scrape(gate.address);
    let crowd = StalledCrowd::of(40, &gate);
    gate.wait_for_counter("/metrics:200", |count| count >= 2);
    for _ in 0..2 {
        let took = scrape(gate.address);
        // 2 s for the reader to yield, and a long response; two of them would take longer.
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    crowd.leave();
    assert_probes_pass(&mut gate);
}

#[test]
fn reader_that_drips_a_long_response_yields_to_others() {
    let options = Options { metrics: 3_000_000, bulk: 30_000, ..Options::new(47) };
    let mut gate = GateProcess::start(&options);
    let mut dripping = stalled_reader(&gate);
    dripping.read_exact(&mut [0; 1]).unwrap();
    let begin = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let end = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            dripping.read_exact(&mut [0; 1]).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        read_all(&mut dripping).1
    });
    scrape(gate.address);
    let took = begin.elapsed();
    // 2 s for the reader to yield, and a long response.
    assert!(took < Duration::from_secs(5), "{took:?}");
    gate.wait_for_counter("timeout", |count| count == 1);
    stop.store(true, Ordering::Relaxed);
    assert_eq!(end.join().unwrap(), End::Reset);
    assert_probes_pass(&mut gate);
}

#[test]
fn slow_steady_reader_gets_everything_while_others_wait() {
    /// 3.2 Mbit/s, for 4 s.
    const BYTES_PER_SECOND: f64 = 400_000.0;
    let options = Options { metrics: 3_000_000, ..Options::new(48) };
    let gate = GateProcess::start(&options);
    let expected: Vec<u8> = metrics(3_000_000).flatten().collect();
    let mut reader = connect(gate.address);
    reader.write_all(SCRAPE).unwrap();
    reader.read_exact(&mut [0; 1]).unwrap();
    std::thread::scope(|scope| {
        let address = gate.address;
        scope.spawn(move || scrape(address));
        let (mut received, mut piece) = (vec![b'H'], vec![0; 16 * 1024]);
        while !received.ends_with(b"\r\n0\r\n\r\n") {
            let count = reader.read(&mut piece).unwrap();
            assert!(count > 0, "after {} bytes", received.len());
            received.extend_from_slice(&piece[..count]);
            std::thread::sleep(Duration::from_secs_f64(count as f64 / BYTES_PER_SECOND));
        }
        let received = String::from_utf8(received).unwrap();
        let body = unchunk(received.split_once("\r\n\r\n").unwrap().1);
        assert!(body.as_bytes() == expected, "the body differs");
    });
}

#[test]
fn asks_for_pairs_of_a_slow_source_delay_no_matrix_and_few_wait_for_the_same_pair() {
    let mut gate = GateProcess::start(&Options::new(49));
    let address = gate.address;
    let ask = |pair: &str| {
        let path = format!("/api/v1/cluster/{pair}");
        std::thread::spawn(move || status_code(&get(address, &path)))
    };
    // Each takes a second, one after another.
    let same: Vec<_> = (0..12).map(|_| ask("a/b")).collect();
    gate.wait_for_counter("overload", |count| count == 9);
    let begin = Instant::now();
    let other = ask("c/d");
    let matrix = get(address, "/api/v1/cluster");
    let took = begin.elapsed();
    assert_eq!(status_code(&matrix), Some(200));
    assert!(took < GATHERING_TIME + Duration::from_secs(1), "{took:?}");
    let codes: Vec<_> = same.into_iter().map(|thread| thread.join().unwrap()).collect();
    let of = |code| codes.iter().filter(|one| **one == Some(code)).count();
    assert_eq!((of(404), of(503)), (3, 9), "{codes:?}");
    assert_eq!(other.join().unwrap(), Some(404));
}
