//! Compressed content, and the row of which only so many are sent.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use wylis_harness::bounds::worst_case;
use wylis_harness::gzip::gunzip;
use wylis_harness::http::{DEADLINE, Response, exchange, get, get_with};

use crate::child::{GateProcess, Options};
use crate::client::{connect_from, neighbour};

/// Whose content is compressed.
const PATHS: [&str; 4] = ["/metrics", "/api/v1/row", "/api/v1/peers", "/"];

fn asking(gate: &GateProcess, path: &str, accepted: &str) -> Response {
    get_with(gate.address, path, &[("Accept-Encoding", accepted)], DEADLINE).unwrap()
}

/// The process's own metrics differ from one scrape to the next.
fn stable(body: &[u8]) -> String {
    let text = String::from_utf8(body.to_vec()).unwrap();
    text.lines().filter(|line| !line.contains("process_")).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_document_is_compressed_where_asked_for() {
    let gate = GateProcess::start(&Options { metrics: 100_000, ..Options::new(110) });
    for path in PATHS {
        let plain = get(gate.address, path).unwrap();
        let gzip = asking(&gate, path, "deflate, gzip;q=0.8");
        let refused = asking(&gate, path, "gzip;q=0, *");
        assert_eq!(gzip.header("Content-Encoding"), Some("gzip"), "{path}");
        let length = gzip.body.len().to_string();
        assert_eq!(gzip.header("Content-Length"), Some(length.as_str()), "{path}");
        assert!(stable(&gunzip(&gzip.body)) == stable(&plain.body), "{path}");
        println!("{path:.30}: {} bytes, compressed {length}", plain.body.len());
        assert!(gzip.body.len() * 2 < plain.body.len(), "{path}: {length}");
        for other in [&plain, &refused] {
            assert_eq!(other.header("Content-Encoding"), None, "{path}");
            assert_eq!(other.header("Vary"), Some("Accept-Encoding"), "{path}");
        }
        assert_eq!(gzip.header("Vary"), Some("Accept-Encoding"), "{path}");
        assert_eq!(gzip.header("Content-Type"), plain.header("Content-Type"), "{path}");
    }
}

#[test]
fn a_head_and_an_old_client_get_the_same_lengths() {
    let gate = GateProcess::start(&Options { metrics: 100_000, ..Options::new(111) });
    for path in PATHS {
        let length = asking(&gate, path, "gzip").body.len().to_string();
        let ask = |line: &str| {
            let text = format!("{line}Accept-Encoding: gzip\r\n\r\n");
            exchange(gate.address, text.as_bytes(), DEADLINE)
        };
        let head = crate::client::send_request(
            gate.address,
            format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").as_bytes(),
        );
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        for line in ["Content-Encoding: gzip", &format!("Content-Length: {length}")] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
        let old = ask(&format!("GET {path} HTTP/1.0\r\n")).unwrap();
        assert_eq!(old.header("Content-Length"), Some(length.as_str()), "{path}");
        assert!(!gunzip(&old.body).is_empty());
    }
}

#[test]
fn short_answers_are_never_compressed() {
    let gate = GateProcess::start(&Options { metrics: 1, ..Options::new(112) });
    for path in ["/keepalive", "/healthz", "/nothing", "/api/v1/row", "/api/v1/peers/x"] {
        let response = asking(&gate, path, "gzip");
        assert_eq!(response.header("Content-Encoding"), None, "{path}");
        assert!(response.body.len() < 1024, "{path}");
    }
}

#[test]
fn without_a_thread_to_compress_content_is_sent_as_it_is() {
    if !rustix::process::getuid().is_root() {
        return wylis_harness::skip("a thread limit needs another user, which needs root");
    }
    let user = Some(crate::exhaustion::UNPRIVILEGED_USER);
    let mut gate = GateProcess::start(&Options { user, metrics: 100_000, ..Options::new(113) });
    gate.send("no threads");
    gate.wait_for_line("NO THREADS");
    for path in PATHS {
        let response = asking(&gate, path, "gzip");
        // The page was compressed when the program was built.
        let encoding = Some("gzip").filter(|_| path == "/");
        assert_eq!(
            (response.status, response.header("Content-Encoding")),
            (200, encoding),
            "{path}"
        );
    }
}

#[test]
fn rows_are_rendered_once_and_sent_at_a_bounded_rate() {
    let gate = GateProcess::start(&Options { metrics: 750_000, ..Options::new(114) });
    let (began, mut sent, mut bytes, mut busy) = (Instant::now(), 0_u32, 0, 0_u32);
    let mut ages = Vec::new();
    while began.elapsed() < Duration::from_secs(4) {
        let response = asking(&gate, "/api/v1/row", "gzip");
        if response.status == 200 {
            sent += 1;
            bytes += response.body.len();
            ages.push(response.header("Age").unwrap().parse::<u64>().unwrap());
        } else {
            busy += 1;
            assert_eq!((response.status, response.header("Retry-After")), (503, Some("1")));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("rows in {seconds:.1} s: {sent} of {}, {bytes} bytes", sent + busy);
    assert!(busy > 100, "a request for each row");
    assert!(f64::from(sent) <= worst_case("ROWS_BURST") + seconds * worst_case("ROWS_PER_SECOND"));
    // Rendered at the start alone.
    assert!(ages.is_sorted() && ages.first() == Some(&0) && ages.last() >= Some(&3), "{ages:?}");
    assert_eq!(get(gate.address, "/metrics").unwrap().status, 200);
    // Other agents, each with an address of its own.
    for last in 2..12 {
        let mut stream = connect_from(neighbour(gate.address, last), gate.address);
        stream.write_all(b"GET /api/v1/row HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut begin = [0; 13];
        stream.read_exact(&mut begin).unwrap();
        assert_eq!(begin, *b"HTTP/1.1 200 ", "agent {last}");
    }
}
