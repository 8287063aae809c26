//! Fetches from peers that send the document, and from peers that do anything else.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wylis::gzip::{self, Level};
use wylis::name::NodeName;
use wylis::probe::{FailureReason, Outcome};
use wylis::prober::{Fetch, FetchError, FetchJob, fetch_all, probe_once};

use crate::peer::{PATIENCE, Peer, black_hole, listener, read_head, reset, wait_for_close};

/// The timeout of fetches that must time out.
const SHORT: Duration = Duration::from_millis(300);
const MAX_BYTES: usize = 1000;

type FetchResult = Result<Vec<u8>, FetchError>;

/// A list of fetches, and their results by address.
struct List {
    fetches: Vec<Fetch>,
    results: BTreeMap<SocketAddr, FetchResult>,
}

impl FetchJob for List {
    fn next(&mut self) -> Option<Fetch> {
        self.fetches.pop()
    }
    fn finished(&mut self, fetch: Fetch, result: FetchResult) {
        assert!(self.results.insert(fetch.address, result).is_none(), "once");
    }
}

fn row_of(address: SocketAddr, timeout: Duration) -> Fetch {
    let node = Some(NodeName::new("n1").unwrap());
    Fetch { node, address, path: "/api/v1/row".to_owned(), timeout, max_bytes: MAX_BYTES }
}

fn all(
    fetches: Vec<Fetch>,
    concurrency: usize,
    deadline: Duration,
) -> BTreeMap<SocketAddr, FetchResult> {
    let mut list = List { fetches, results: BTreeMap::new() };
    fetch_all(&mut list, concurrency, Instant::now() + deadline);
    list.results
}

fn one(address: SocketAddr, timeout: Duration) -> FetchResult {
    all(vec![row_of(address, timeout)], 1, PATIENCE).remove(&address).unwrap()
}

fn failed(reason: FailureReason) -> FetchResult {
    Err(FetchError::Failure(reason))
}

fn answer(content: &str) -> String {
    let length = content.len();
    format!("HTTP/1.1 200 OK\r\nWylis-Node: n1\r\nContent-Length: {length}\r\n\r\n{content}")
}

#[test]
fn a_document_in_pieces_is_put_together() {
    for (ip, piece) in [("127.67.1.1", 1), ("127.67.1.2", 7), ("127.67.1.3", 5000)] {
        let text = answer(&"0123456789".repeat(MAX_BYTES / 10));
        let peer = Peer::start(ip, move |mut stream| {
            stream.set_nodelay(true).unwrap();
            let request = read_head(&mut stream);
            assert!(request.starts_with("GET /api/v1/row HTTP/1.1\r\nHost: 127."), "{request}");
            for piece in text.as_bytes().chunks(piece) {
                stream.write_all(piece).unwrap();
            }
            wait_for_close(&mut stream);
        });
        let document = one(peer.address, PATIENCE).unwrap();
        assert_eq!(document, "0123456789".repeat(MAX_BYTES / 10).as_bytes());
    }
    let empty = Peer::answering("127.67.1.4", answer(""));
    assert_eq!(one(empty.address, PATIENCE), Ok(Vec::new()));
}

#[test]
fn a_compressed_document_is_inflated_within_the_limit() {
    let repeated = |count: usize| "0123456789".repeat(count).into_bytes();
    let pack = |content: Vec<u8>| {
        gzip::compress(std::iter::once(content), Level::Small, usize::MAX).unwrap()
    };
    let [mut lying, mut damaged] = [pack(repeated(3000)), pack(repeated(100))];
    let length = lying.len() - 4;
    lying[length..].copy_from_slice(&1000_u32.to_le_bytes());
    damaged[20] ^= 1;
    let [gzip, other] = ["Content-Encoding: gzip\r\n", "Content-Encoding: br\r\n"];
    let twice = gzip.repeat(2);
    let bad = failed(FailureReason::BadResponse);
    for (last, (header, content, expected)) in (1..).zip([
        (gzip, pack(repeated(100)), Ok(repeated(100))),
        ("content-encoding: GZIP\r\n", pack(Vec::new()), Ok(Vec::new())),
        (gzip, pack(repeated(101)), Err(FetchError::TooLarge)),
        (gzip, pack(repeated(3000)), Err(FetchError::TooLarge)),
        (gzip, lying, bad.clone()),
        (gzip, damaged, bad.clone()),
        (gzip, repeated(1), bad.clone()),
        (other, pack(repeated(1)), bad.clone()),
        (&twice, pack(repeated(1)), bad),
    ]) {
        let length = content.len();
        let head = format!("HTTP/1.1 200 OK\r\nWylis-Node: n1\r\n{header}");
        let head = format!("{head}Content-Length: {length}\r\n\r\n");
        let peer = Peer::start(&format!("127.67.7.{last}"), move |mut stream| {
            let request = read_head(&mut stream);
            assert!(request.contains("\r\nAccept-Encoding: gzip\r\n"), "{request}");
            stream.write_all(&[head.as_bytes(), &content].concat()).unwrap();
            wait_for_close(&mut stream);
        });
        assert_eq!(one(peer.address, PATIENCE), expected, "{last}");
    }
}

#[test]
fn any_other_answer_is_an_error() {
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
        let peer = Peer::answering(&format!("127.67.2.{last}"), text.clone());
        assert_eq!(one(peer.address, PATIENCE), expected, "{text:.99}");
    }
}

#[test]
fn peers_that_stall_drip_close_or_reset_delay_no_other_fetch() {
    let drip = Peer::start("127.67.3.1", |mut stream| {
        read_head(&mut stream);
        for byte in answer(&"x".repeat(MAX_BYTES)).bytes() {
            if stream.write_all(&[byte]).is_err() {
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
    let closed: SocketAddr = "127.67.3.7:9".parse().unwrap();
    let healthy = Peer::answering("127.67.3.8", answer("well"));
    let silent = silent.local_addr().unwrap();
    let expected = [
        (drip.address, failed(FailureReason::ResponseTimeout)),
        (endless.address, failed(FailureReason::BadResponse)),
        (closing.address, failed(FailureReason::Closed)),
        (resetting.address, failed(FailureReason::Reset)),
        (silent, failed(FailureReason::ResponseTimeout)),
        (hole, failed(FailureReason::ConnectTimeout)),
        (closed, failed(FailureReason::Refused)),
        (healthy.address, Ok(b"well".to_vec())),
    ];
    let fetches = expected.iter().map(|(address, _)| row_of(*address, SHORT)).collect();
    let began = Instant::now();
    let results = all(fetches, expected.len(), PATIENCE);
    assert!(began.elapsed() < SHORT + Duration::from_secs(5), "{:?}", began.elapsed());
    for (address, expected) in expected {
        assert_eq!(results[&address], expected, "{address}");
    }
}

#[test]
fn concurrency_is_limited_and_all_fetches_finish() {
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let behave = {
        let (open, most) = (Arc::clone(&open), Arc::clone(&most));
        move |mut stream: TcpStream| {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            read_head(&mut stream);
            std::thread::sleep(Duration::from_millis(10));
            // Before the answer, after which the next fetch may start.
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
    let fetches = peers.iter().map(|peer| row_of(peer.address, PATIENCE)).collect();
    let results = all(fetches, 4, PATIENCE);
    assert_eq!(results.values().filter(|result| result.is_ok()).count(), 40);
    assert!((2..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[test]
fn at_the_deadline_fetches_in_progress_time_out_and_no_other_starts() {
    let silent = listener("127.67.5.1", 64);
    let first = row_of(silent.local_addr().unwrap(), PATIENCE);
    let mut list = List { fetches: vec![first], results: BTreeMap::new() };
    list.fetches.extend((2..20).map(|last| {
        let address = SocketAddr::new(format!("127.67.5.{last}").parse().unwrap(), 9);
        row_of(address, PATIENCE)
    }));
    // The last one is fetched first.
    list.fetches.reverse();
    let began = Instant::now();
    fetch_all(&mut list, 1, began + SHORT);
    assert!(began.elapsed() < SHORT + Duration::from_secs(5));
    assert_eq!(list.results.len(), 1);
    assert_eq!(list.fetches.len(), 18, "not started");
    fetch_all(&mut list, 1, Instant::now());
    assert_eq!(list.fetches.len(), 18, "after the deadline none starts");
}

#[test]
fn a_single_probe_names_no_sender_and_accepts_any_node() {
    let peer = Peer::answering("127.67.6.1", crate::peer::GOOD);
    let (result, kernel) = probe_once(peer.address, PATIENCE);
    let (node, timings, _) = result.unwrap();
    assert_eq!(node.as_str(), "n1");
    assert!(timings.total >= timings.connect && timings.total < PATIENCE);
    assert_eq!(kernel.unwrap().path_mtu.unwrap(), 65_535);
    let request = format!("HEAD /keepalive HTTP/1.1\r\nHost: {}\r\n\r\n", peer.address);
    assert_eq!(peer.requests(), [request]);
    let closed = "127.67.6.2:9".parse().unwrap();
    let refused = Outcome::Failure(FailureReason::Refused);
    assert_eq!(probe_once(closed, PATIENCE).0.unwrap_err(), refused);
}
