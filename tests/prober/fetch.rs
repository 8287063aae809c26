//! Documents of peers that send them, and of peers that send anything else.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wylis::name::NodeName;
use wylis::probe::{FailureReason, Outcome};
use wylis::prober::{Fetch, FetchError, FetchJob, fetch_all, probe_once};

use crate::peer::{PATIENCE, Peer, black_hole, listener, read_head, reset, wait_for_close};

/// For what is cut off.
const SOON: Duration = Duration::from_millis(300);
const MAX_BYTES: usize = 1000;

type Had = Result<Vec<u8>, FetchError>;

/// Wants what it was given, and keeps what it gets by address.
struct List {
    wanted: Vec<Fetch>,
    had: BTreeMap<SocketAddr, Had>,
}

impl FetchJob for List {
    fn next(&mut self) -> Option<Fetch> {
        self.wanted.pop()
    }
    fn finished(&mut self, fetch: Fetch, result: Had) {
        assert!(self.had.insert(fetch.address, result).is_none(), "once");
    }
}

fn wanted(address: SocketAddr, timeout: Duration) -> Fetch {
    let node = Some(NodeName::new("n1").unwrap());
    Fetch { node, address, path: "/api/v1/row".to_owned(), timeout, max_bytes: MAX_BYTES }
}

fn all(wanted: Vec<Fetch>, at_once: usize, deadline: Duration) -> BTreeMap<SocketAddr, Had> {
    let mut list = List { wanted, had: BTreeMap::new() };
    fetch_all(&mut list, at_once, Instant::now() + deadline);
    list.had
}

fn one(address: SocketAddr, timeout: Duration) -> Had {
    all(vec![wanted(address, timeout)], 1, PATIENCE).remove(&address).unwrap()
}

fn failed(reason: FailureReason) -> Had {
    Err(FetchError::Failure(reason))
}

fn answer(content: &str) -> String {
    let length = content.len();
    format!("HTTP/1.1 200 OK\r\nWylis-Node: n1\r\nContent-Length: {length}\r\n\r\n{content}")
}

#[test]
fn a_document_comes_whole_however_it_is_cut() {
    for (ip, piece) in [("127.67.1.1", 1), ("127.67.1.2", 7), ("127.67.1.3", 5000)] {
        let text = answer(&"0123456789".repeat(MAX_BYTES / 10));
        let peer = Peer::start(ip, move |mut stream| {
            stream.set_nodelay(true).unwrap();
            let asked = read_head(&mut stream);
            assert!(asked.starts_with("GET /api/v1/row HTTP/1.1\r\nHost: 127."), "{asked}");
            for piece in text.as_bytes().chunks(piece) {
                stream.write_all(piece).unwrap();
            }
            wait_for_close(&mut stream);
        });
        let document = one(peer.address, PATIENCE).unwrap();
        assert_eq!(document, "0123456789".repeat(MAX_BYTES / 10).as_bytes());
    }
    let empty = Peer::saying("127.67.1.4", answer(""));
    assert_eq!(one(empty.address, PATIENCE), Ok(Vec::new()));
}

#[test]
fn whatever_else_is_said_is_named() {
    let head = "HTTP/1.1 200 OK\r\nWylis-Node: n1\r\n";
    for (last, (text, expected)) in (1..).zip([
        ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), Err(FetchError::Status(404))),
        ("HTTP/1.1 503 Busy\r\n".to_owned(), Err(FetchError::Status(503))),
        ("HTTP/1.1 2xx\r\n\r\n".to_owned(), failed(FailureReason::BadResponse)),
        ("HTTP/1.0 200 OK\r\n\r\n".to_owned(), failed(FailureReason::BadResponse)),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), failed(FailureReason::BadResponse)),
        (answer("x").replace("n1", "n2"), failed(FailureReason::WrongPeer)),
        (answer("x") + "y", failed(FailureReason::BadResponse)),
        (
            format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            failed(FailureReason::BadResponse),
        ),
        (format!("{head}Content-Length: 1001\r\n\r\n"), Err(FetchError::TooLarge)),
        (format!("{head}Content-Length: 18446744073709551615\r\n\r\n"), Err(FetchError::TooLarge)),
        (
            format!("{head}Content-Length: 99999999999999999999\r\n\r\n"),
            failed(FailureReason::BadResponse),
        ),
        (format!("{head}Content-Length: +1\r\n\r\nx"), failed(FailureReason::BadResponse)),
        (format!("{head}X: {}", "x".repeat(5000)), failed(FailureReason::BadResponse)),
    ]) {
        let peer = Peer::saying(&format!("127.67.2.{last}"), text.clone());
        assert_eq!(one(peer.address, PATIENCE), expected, "{text:.99}");
    }
}

#[test]
fn peers_that_stall_drip_close_or_reset_cost_their_time_and_no_more() {
    let drip = Peer::start("127.67.3.1", |mut stream| {
        read_head(&mut stream);
        for octet in answer(&"x".repeat(MAX_BYTES)).bytes() {
            if stream.write_all(&[octet]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let endless = Peer::start("127.67.3.2", |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X: x\r\n").is_ok() {}
    });
    let closing = Peer::start("127.67.3.3", |mut stream| {
        read_head(&mut stream);
        let text = answer("four");
        stream.write_all(&text.as_bytes()[..text.len() - 1]).unwrap();
    });
    let resetting = Peer::start("127.67.3.4", |mut stream| {
        read_head(&mut stream);
        reset(stream);
    });
    let silent = listener("127.67.3.5", 16);
    let (hole, _held) = black_hole("127.67.3.6");
    let nobody: SocketAddr = "127.67.3.7:9".parse().unwrap();
    let healthy = Peer::saying("127.67.3.8", answer("well"));
    let silent = silent.local_addr().unwrap();
    let expected = [
        (drip.address, failed(FailureReason::ResponseTimeout)),
        (endless.address, failed(FailureReason::BadResponse)),
        (closing.address, failed(FailureReason::Closed)),
        (resetting.address, failed(FailureReason::Reset)),
        (silent, failed(FailureReason::ResponseTimeout)),
        (hole, failed(FailureReason::ConnectTimeout)),
        (nobody, failed(FailureReason::Refused)),
        (healthy.address, Ok(b"well".to_vec())),
    ];
    let fetches = expected.iter().map(|(address, _)| wanted(*address, SOON)).collect();
    let began = Instant::now();
    let had = all(fetches, expected.len(), PATIENCE);
    assert!(began.elapsed() < SOON + Duration::from_secs(5), "{:?}", began.elapsed());
    for (address, expected) in expected {
        assert_eq!(had[&address], expected, "{address}");
    }
}

#[test]
fn no_more_are_under_way_than_may_and_all_come() {
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let behave = {
        let (open, most) = (Arc::clone(&open), Arc::clone(&most));
        move |mut stream: TcpStream| {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            read_head(&mut stream);
            std::thread::sleep(Duration::from_millis(10));
            // Before the answer: the next one may begin as soon as it is there.
            open.fetch_sub(1, Ordering::SeqCst);
            let _ = stream.write_all(answer("x").as_bytes());
            wait_for_close(&mut stream);
        }
    };
    let behave = Arc::new(behave);
    let peers: Vec<Peer> = (1..=40)
        .map(|last| {
            let behave = Arc::clone(&behave);
            Peer::start(&format!("127.67.4.{last}"), move |stream| behave(stream))
        })
        .collect();
    let fetches = peers.iter().map(|peer| wanted(peer.address, PATIENCE)).collect();
    let had = all(fetches, 4, PATIENCE);
    assert_eq!(had.values().filter(|had| had.is_ok()).count(), 40);
    assert!((2..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[test]
fn at_the_deadline_of_all_whoever_is_under_way_is_cut_off_and_nobody_begins() {
    let silent = listener("127.67.5.1", 64);
    let first = wanted(silent.local_addr().unwrap(), PATIENCE);
    let mut list = List { wanted: vec![first], had: BTreeMap::new() };
    list.wanted.extend((2..20).map(|last| {
        let address = SocketAddr::new(format!("127.67.5.{last}").parse().unwrap(), 9);
        wanted(address, PATIENCE)
    }));
    // The last is wanted first.
    list.wanted.reverse();
    let began = Instant::now();
    fetch_all(&mut list, 1, began + SOON);
    assert!(began.elapsed() < SOON + Duration::from_secs(5));
    assert_eq!(list.had.len(), 1);
    assert_eq!(list.wanted.len(), 18, "not begun");
    fetch_all(&mut list, 1, Instant::now());
    assert_eq!(list.wanted.len(), 18, "too late from the start");
}

#[test]
fn whoever_is_there_is_asked_without_a_name() {
    let peer = Peer::saying("127.67.6.1", crate::peer::GOOD);
    let (result, kernel) = probe_once(peer.address, PATIENCE);
    let (node, timings, _) = result.unwrap();
    assert_eq!(node.as_str(), "n1");
    assert!(timings.total >= timings.connect && timings.total < PATIENCE);
    assert_eq!(kernel.unwrap().path_mtu.unwrap(), 65_535);
    let asked = format!("HEAD /keepalive HTTP/1.1\r\nHost: {}\r\n\r\n", peer.address);
    assert_eq!(peer.requests(), [asked]);
    let nobody = "127.67.6.2:9".parse().unwrap();
    let refused = Outcome::Failure(FailureReason::Refused);
    assert_eq!(probe_once(nobody, PATIENCE).0.unwrap_err(), refused);
}
