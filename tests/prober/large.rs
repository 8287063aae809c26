//! Large probes of peers that send all, a part, or too much.

use std::io::Write as _;
use std::time::{Duration, Instant};

use wylis::probe::{FailureReason, Outcome, Priority, Probe, ProbeKind, Report};
use wylis::prober::PoolLimits;
use wylis::wire::LARGE;

use crate::peer::{GOOD, PATIENCE, Peer, blank, prober, read_head, wait_for_close};

const LONG: Duration = Duration::from_secs(20);

fn head() -> String {
    format!("HTTP/1.1 200 OK\r\nWylis-Node: n1\r\nContent-Length: {LARGE}\r\n\r\n")
}

fn large_probe(peer: &Peer) -> Report {
    let (prober, reports) = prober(LONG, PoolLimits::default());
    let kind = ProbeKind::Large;
    prober.submit(Probe { kind, ..blank(1, peer.address, Priority::Suspect) });
    let report = reports.recv_timeout(PATIENCE).unwrap();
    assert_eq!(report.kind, kind);
    report
}

fn reason(peer: &Peer) -> FailureReason {
    match large_probe(peer).outcome {
        Outcome::Failure(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_complete_large_answer_is_a_success() {
    let peer = Peer::answering("127.65.40.1", head() + &".".repeat(LARGE));
    let report = large_probe(&peer);
    assert!(matches!(report.outcome, Outcome::Success { .. }), "{:?}", report.outcome);
    assert!(peer.requests()[0].contains(&format!("\r\nWylis-Size: {LARGE}\r\n")));
}

#[test]
fn a_large_answer_that_is_blank_short_or_too_long_is_a_failure() {
    let blank = Peer::answering("127.65.41.1", GOOD);
    assert_eq!(reason(&blank), FailureReason::BadResponse);
    let long = Peer::answering("127.65.41.2", head() + &".".repeat(LARGE + 1));
    assert_eq!(reason(&long), FailureReason::BadResponse);
    let other = Peer::answering("127.65.41.3", head().replace("n1", "n2") + &".".repeat(LARGE));
    assert_eq!(reason(&other), FailureReason::WrongPeer);
    let short = Peer::start("127.65.41.4", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all((head() + "...").as_bytes());
    });
    assert_eq!(reason(&short), FailureReason::Closed);
}

#[test]
fn a_large_probe_without_content_times_out_after_three_seconds() {
    let peer = Peer::start("127.65.42.1", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(head().as_bytes());
        wait_for_close(&mut stream);
    });
    let began = Instant::now();
    assert_eq!(reason(&peer), FailureReason::ResponseTimeout);
    assert!((Duration::from_secs(3)..LONG).contains(&began.elapsed()), "{:?}", began.elapsed());
}
