//! Large probes of peers that send all, a part, or too much.

use std::io::Write as _;
use std::time::{Duration, Instant};

use wylis::probe::{FailureReason, Large, Outcome, Priority, Probe, ProbeKind, Report};
use wylis::prober::PoolLimits;
use wylis::wire::{LARGE, MAX_SEGMENT};

use crate::peer::{GOOD, PATIENCE, Peer, blank, prober, read_head, wait_for_close};

const LONG: Duration = Duration::from_secs(20);
const REQUEST: Large = Large::Request { packet: None };

/// A large answer with so many bytes of content.
fn answer(content: usize) -> String {
    head(content) + &".".repeat(content)
}

fn head(content: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nWylis-Node: n1\r\nContent-Length: {content}\r\n\r\n")
}

fn large_probe(peer: &Peer, large: Large) -> Report {
    let (prober, reports) = prober(LONG, PoolLimits::default());
    let kind = ProbeKind::Large(large);
    prober.submit(Probe { kind, ..blank(1, peer.address, Priority::Suspect) });
    let report = reports.recv_timeout(PATIENCE).unwrap();
    assert_eq!(report.kind, kind);
    report
}

fn reason(peer: &Peer, large: Large) -> FailureReason {
    match large_probe(peer, large).outcome {
        Outcome::Failure(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_large_probe_fills_what_it_tests() {
    // The segments of the loopback are longer than any large message.
    for (ip, large, asked, content) in [
        ("127.65.40.1", Large::Both, MAX_SEGMENT, MAX_SEGMENT),
        ("127.65.40.2", REQUEST, 0, 0),
        ("127.65.40.3", Large::Answer, MAX_SEGMENT, MAX_SEGMENT),
        // An older release: so much content.
        ("127.65.40.4", Large::Answer, MAX_SEGMENT, LARGE),
    ] {
        let peer = Peer::answering(ip, answer(content));
        let report = large_probe(&peer, large);
        assert!(matches!(report.outcome, Outcome::Success { .. }), "{large:?} {report:?}");
        let request = peer.requests().remove(0);
        assert!(request.contains(&format!("\r\nWylis-Size: {asked}\r\n")), "{request}");
        let padded = large != Large::Answer;
        assert_eq!(request.contains("\r\nWylis-Padding: xxxx"), padded, "{request}");
        assert_eq!(request.len() == MAX_SEGMENT, padded, "{request}");
    }
}

#[test]
fn a_large_answer_that_is_blank_short_or_too_long_is_a_failure() {
    let blank = Peer::answering("127.65.41.1", GOOD);
    assert_eq!(reason(&blank, Large::Both), FailureReason::BadResponse);
    let long = Peer::answering("127.65.41.2", answer(LARGE + 1));
    assert_eq!(reason(&long, Large::Both), FailureReason::BadResponse);
    let more = Peer::answering("127.65.41.6", head(MAX_SEGMENT) + &".".repeat(MAX_SEGMENT + 1));
    assert_eq!(reason(&more, Large::Both), FailureReason::BadResponse);
    let short = Peer::answering("127.65.41.5", answer(MAX_SEGMENT - head(1000).len() - 1));
    assert_eq!(reason(&short, Large::Answer), FailureReason::BadResponse);
    let other = Peer::answering("127.65.41.3", answer(LARGE).replace("n1", "n2"));
    assert_eq!(reason(&other, Large::Answer), FailureReason::WrongPeer);
    let cut = Peer::start("127.65.41.4", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all((head(MAX_SEGMENT) + "...").as_bytes());
    });
    assert_eq!(reason(&cut, Large::Answer), FailureReason::Closed);
}

#[test]
fn a_large_probe_without_content_times_out_after_three_seconds() {
    let peer = Peer::start("127.65.42.1", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(head(MAX_SEGMENT).as_bytes());
        wait_for_close(&mut stream);
    });
    let began = Instant::now();
    assert_eq!(reason(&peer, Large::Both), FailureReason::ResponseTimeout);
    assert!((Duration::from_secs(3)..LONG).contains(&began.elapsed()), "{:?}", began.elapsed());
}
