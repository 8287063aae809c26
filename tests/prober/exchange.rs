//! One probe of peers that answer well, badly, or not at all.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wylis::name::Instance;
use wylis::probe::{
    Answer, FailureReason, LocalError, Outcome, Priority, Probe, ProbeKind, Report, Timings,
};
use wylis::prober::PoolLimits;

use crate::child;
use crate::peer::{
    GOOD, PATIENCE, Peer, black_hole, blank, listener, probe_once, prober, read_head, reset, until,
    wait_for_close,
};

/// The timeout for peers that fail at once.
const LONG: Duration = Duration::from_secs(20);
/// The timeout for peers that never answer.
const SHORT: Duration = Duration::from_millis(250);
/// Tolerance for a busy machine.
const SLACK: Duration = Duration::from_secs(5);

fn success(report: &Report) -> (Timings, Answer) {
    match &report.outcome {
        Outcome::Success { timings, answer } => (*timings, answer.clone()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_fails(address: SocketAddr, timeout: Duration, reason: FailureReason) -> Report {
    let began = Instant::now();
    let report = probe_once(address, timeout);
    assert_eq!(report.outcome, Outcome::Failure(reason));
    let took = began.elapsed();
    let timed_out =
        matches!(reason, FailureReason::ConnectTimeout | FailureReason::ResponseTimeout);
    if timed_out {
        assert!(took >= timeout && took < timeout + SLACK, "{reason} after {took:?}");
    } else {
        assert!(took < timeout, "{reason} after {took:?}");
    }
    report
}

fn assert_succeeds(ip: &str) {
    let peer = Peer::answering(ip, GOOD);
    let began = Instant::now();
    let report = probe_once(peer.address, LONG);
    let (timings, answer) = success(&report);
    assert_eq!(answer, Answer::default());
    assert!(!timings.connect.is_zero() && !timings.response.is_zero(), "{timings:?}");
    assert_eq!(timings.connect + timings.response, timings.total, "{timings:?}");
    assert!(timings.total <= began.elapsed(), "{timings:?}");
    assert!(report.due <= report.started && began <= report.started);
    assert_eq!((report.id, report.node.as_str(), report.kind), (7, "n1", ProbeKind::Blank));
    let kernel = report.kernel.unwrap();
    assert_eq!(kernel.retransmits, 0);
    assert!(kernel.rtt.unwrap() <= timings.connect, "{kernel:?} {timings:?}");
    assert!(kernel.path_mtu.unwrap() >= 1280, "{kernel:?}");
    let request = format!(
        "GET /keepalive HTTP/1.1\r\nHost: {}\r\nWylis-Node: me\r\nWylis-Instance: instance-1\r\n\
         Wylis-Interval: 10000\r\n\r\n",
        peer.address
    );
    assert_eq!(peer.requests(), [request]);
}

#[test]
fn a_good_answer_over_ipv4_is_a_success_with_plausible_timings() {
    assert_succeeds("127.65.1.1");
}

#[test]
fn a_good_answer_over_ipv6_is_a_success_with_plausible_timings() {
    // There is nothing to test without IPv6.
    if TcpListener::bind("[::1]:0").is_ok() {
        assert_succeeds("::1");
    } else {
        wylis_harness::skip("no IPv6 on this host");
    }
}

#[test]
fn instance_and_draining_of_the_answer_are_reported() {
    let peer = Peer::answering(
        "127.65.2.1",
        "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nWylis-Instance: i-2\r\n\
         Wylis-Draining: 1\r\nWylis-Can: goodbye\r\n\r\n",
    );
    let (_, answer) = success(&probe_once(peer.address, LONG));
    let instance = Some(Instance::new("i-2").unwrap());
    assert_eq!(answer, Answer { instance, draining: true, ..Answer::default() });
}

#[test]
fn an_answer_in_pieces_is_put_together() {
    let peer = Peer::start("127.65.3.1", |mut stream| {
        stream.set_nodelay(true).unwrap();
        read_head(&mut stream);
        for piece in GOOD.as_bytes().chunks(7) {
            stream.write_all(piece).unwrap();
            thread::sleep(Duration::from_millis(3));
        }
        wait_for_close(&mut stream);
    });
    success(&probe_once(peer.address, LONG));
}

#[test]
fn a_goodbye_announces_how_long_the_agent_keeps_answering() {
    let peer = Peer::answering("127.65.4.1", GOOD);
    let (prober, reports) = prober(LONG, PoolLimits::default());
    let kind = ProbeKind::Goodbye { drain: Duration::from_secs(5) };
    prober.submit(Probe { kind, ..blank(1, peer.address, Priority::Healthy) });
    let report = reports.recv_timeout(PATIENCE).unwrap();
    success(&report);
    assert_eq!(report.kind, kind);
    let requests = peer.requests();
    assert!(requests[0].contains("\r\nWylis-Goodbye: 5000\r\n"), "{requests:?}");
}

#[test]
fn a_closed_port_is_refused() {
    let address = listener("127.65.5.1", 1).local_addr().unwrap();
    let report = assert_fails(address, LONG, FailureReason::Refused);
    assert_eq!(report.kernel.unwrap().path_mtu, None);
}

#[test]
fn a_reset_at_any_time_is_a_reset() {
    let at_once = Peer::start("127.65.6.1", reset);
    let after_the_request = Peer::start("127.65.6.2", |mut stream| {
        read_head(&mut stream);
        reset(stream);
    });
    for peer in [at_once, after_the_request] {
        assert_fails(peer.address, LONG, FailureReason::Reset);
    }
    // Bytes from before the reset may still be read, but they are no complete answer.
    let amid_the_answer = Peer::start("127.65.6.3", |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 204 No").unwrap();
        reset(stream);
    });
    assert_fails(amid_the_answer.address, LONG, FailureReason::Reset);
}

#[test]
fn a_close_before_a_complete_answer_is_closed() {
    for (ip, answer) in [("127.65.7.1", ""), ("127.65.7.2", "HTTP/1.1 204 No Content\r\nWyl")] {
        let peer = Peer::start(ip, move |mut stream| {
            read_head(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        assert_fails(peer.address, LONG, FailureReason::Closed);
    }
}

#[test]
fn a_peer_that_accepts_and_stalls_is_a_response_timeout() {
    let peer = listener("127.65.8.1", 16);
    let report = assert_fails(peer.local_addr().unwrap(), SHORT, FailureReason::ResponseTimeout);
    assert!(report.kernel.unwrap().path_mtu.is_some(), "it was established");
}

#[test]
fn a_peer_that_drips_gains_no_time() {
    let peer = Peer::start("127.65.9.1", |mut stream| {
        stream.set_nodelay(true).unwrap();
        read_head(&mut stream);
        let drip = "HTTP/1.1 204 No Content\r\nX: ".bytes().chain(std::iter::repeat(b'x'));
        for byte in drip {
            if stream.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert_fails(peer.address, Duration::from_millis(500), FailureReason::ResponseTimeout);
}

#[test]
fn answers_of_other_services_are_bad_responses() {
    let endless = format!("HTTP/1.1 204 No Content\r\n{}", "X: y\r\n".repeat(100_000));
    let answers = [
        "HTTP/1.1 500 Internal Server Error\r\nWylis-Node: n1\r\n\r\n".to_owned(),
        "HTTP/1.1 503 Service Unavailable".to_owned(),
        "HTTP/1.0 204 No Content\r\nWylis-Node: n1\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\n\r\nbody".to_owned(),
        "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nContent-Length: 4\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        endless,
    ];
    for (answer, host) in answers.into_iter().zip(1..) {
        let peer = Peer::answering(&format!("127.65.10.{host}"), answer);
        assert_fails(peer.address, LONG, FailureReason::BadResponse);
    }
}

#[test]
fn the_answer_of_another_node_is_the_wrong_peer() {
    let peer = Peer::answering("127.65.11.1", GOOD.replace("n1", "n2"));
    assert_fails(peer.address, LONG, FailureReason::WrongPeer);
}

#[test]
fn a_black_hole_is_a_connect_timeout_with_retransmits() {
    let (address, _held) = black_hole("127.65.12.1");
    let report = assert_fails(address, Duration::from_millis(1500), FailureReason::ConnectTimeout);
    let kernel = report.kernel.unwrap();
    assert!(kernel.retransmits >= 1, "{kernel:?}");
    assert_eq!((kernel.rtt, kernel.path_mtu), (None, None));
}

#[test]
fn no_connection_is_left_in_time_wait() {
    let waits = Peer::answering("127.65.13.1", GOOD);
    let closes_first = Peer::start("127.65.13.2", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(GOOD.as_bytes());
    });
    let (prober, reports) = prober(LONG, PoolLimits::default());
    for id in 0..200 {
        let peer = if id % 2 == 0 { &waits } else { &closes_first };
        prober.submit(blank(id, peer.address, Priority::Healthy));
    }
    for _ in 0..200 {
        success(&reports.recv_timeout(PATIENCE).unwrap());
    }
    // Columns: number, local address, remote address, state. 127.65.13.x in the table's byte order.
    let ends = [("01", &waits), ("02", &closes_first)]
        .map(|(host, peer)| format!(" {host}0D417F:{:04X} ", peer.address.port()));
    let left = |state: &str| {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ours = |line: &&str| ends.iter().any(|end| line.contains(end.as_str()));
        let rows = table.lines().filter(ours);
        rows.filter(|line| line.split_whitespace().nth(3) == Some(state)).count()
    };
    assert_eq!(left("0A"), 2, "the two listeners are listed");
    // The peer's thread may not have seen the reset yet.
    until("no established connection", || left("01") == 0);
    assert_eq!(left("06"), 0);
}

#[test]
fn without_descriptors_a_probe_is_a_local_error() {
    if !child::enter("exchange::without_descriptors_a_probe_is_a_local_error") {
        return;
    }
    use rustix::process::{Resource, Rlimit, setrlimit};
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let peer = Peer::start("127.65.14.1", move |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(GOOD.as_bytes());
        wait_for_close(&mut stream);
        drop(stream);
        count.fetch_add(1, Ordering::SeqCst);
    });
    let (prober, reports) = prober(LONG, PoolLimits::default());
    let answered = |id| {
        prober.submit(blank(id, peer.address, Priority::Healthy));
        reports.recv_timeout(PATIENCE).unwrap()
    };
    success(&answered(1));
    // Otherwise the peer, in the same process, would free a descriptor in between.
    until("the peer's end is closed", || closed.load(Ordering::SeqCst) == 1);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    let mut held = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        held.push(file);
    }
    let report = answered(2);
    assert_eq!(report.outcome, Outcome::Local(LocalError::NoDescriptors));
    assert_eq!(report.kernel, None);
    drop(held);
    success(&answered(3));
}
