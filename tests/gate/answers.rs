//! What a well-behaved client gets.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::child::{Agents, Options, PATIENCE, metrics};
use crate::client::{End, ask, code, connect, get, listed, probe, probes_pass, read_all};

/// Undoes the chunks of a body.
pub(crate) fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = rest[length..].strip_prefix("\r\n").unwrap();
        if length == 0 {
            assert_eq!(body, "");
            return whole;
        }
    }
}

#[test]
fn a_probe_is_answered_by_what_the_prober_expects() {
    let agents = Agents::start(&Options::new(1));
    let answer = get(agents.address, "/keepalive?later=1");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "");
    assert!(answer.len() <= wylis::wire::MAX_ANSWER);
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    lines.retain(|line| !line.starts_with("Date: "));
    assert_eq!(
        lines,
        [
            "HTTP/1.1 204 No Content",
            "Wylis-Node: test-node",
            "Wylis-Instance: test-instance",
            "Wylis-Can: goodbye,large",
            "Connection: close"
        ]
    );
    let request = "GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: tell\r\n\r\n";
    assert_eq!(code(&ask(agents.address, request.as_bytes())), Some(204));
    agents.hears("HEARD tell");
}

#[test]
fn a_large_probe_gets_what_it_asks_for_and_nobody_more_than_the_bound() {
    let agents = Agents::start(&Options::new(8));
    for (asked, size) in [(1, 1), (wylis::wire::LARGE, wylis::wire::LARGE), (1 << 30, 10_240)] {
        let request = format!(
            "GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: tell\r\nWylis-Size: {asked}\r\n\r\n"
        );
        let answer = ask(agents.address, request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {size}")), "{head}");
        assert!(head.contains("\r\nWylis-Node: test-node"), "{head}");
        assert_eq!(body.len(), size);
    }
    // Without a sender it is a blank request like any other.
    let nameless = b"GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Size: 100\r\n\r\n";
    assert_eq!(code(&ask(agents.address, nameless)), Some(204));
}

#[test]
fn a_document_tells_its_length_and_who_gives_it() {
    let agents = Agents::start(&Options { metrics: 100_000, ..Options::new(61) });
    let answer = get(agents.address, "/api/v1/row");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nWylis-Node: test-node\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    assert!(!head.contains("chunked"), "{head}");
    let expected: Vec<u8> = metrics(100_000).flatten().collect();
    assert!(body.as_bytes() == expected, "the body differs");
    let head = ask(agents.address, b"HEAD /api/v1/row HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length"), "{head}");
}

#[test]
fn paths_may_hold_names_of_nodes() {
    let mut agents = Agents::start(&Options::new(60));
    let long = "n".repeat(253);
    let answer = get(agents.address, &format!("/api/v1/peers/{long}"));
    assert!(answer.ends_with(&format!("\r\n\r\n{long}")), "{answer}");
    let pair = format!("/api/v1/cluster/{long}/{long}");
    assert_eq!(code(&get(agents.address, &pair)), Some(404));
    // The server's own word: the gate let it through.
    assert_eq!(agents.counter("/api/v1/cluster:404"), 1);
    assert_eq!(agents.counter("/api/v1/peers:200"), 1);
}

#[test]
fn the_page_comes_whole_with_the_headers_that_guard_it() {
    let agents = Agents::start(&Options::new(62));
    let answer = get(agents.address, "/");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.starts_with("<!doctype html>\n") && body.ends_with("</script>\n"), "{body}");
    let length = format!("Content-Length: {}", body.len());
    for line in [
        "HTTP/1.1 200 OK",
        "Content-Type: text/html; charset=utf-8",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Cache-Control: no-cache",
        &length,
    ] {
        assert!(head.split("\r\n").any(|one| one == line), "{line} in {head}");
    }
    let policy = head.split("\r\n").find_map(|line| line.strip_prefix("Content-Security-Policy: "));
    let policy = policy.unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    let bare = ask(agents.address, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(bare.ends_with("\r\n\r\n") && bare.contains(&length), "{bare}");
}

#[test]
fn each_route_answers() {
    let agents = Agents::start(&Options::new(2));
    let healthy = get(agents.address, "/healthz");
    assert!(healthy.contains("\r\nContent-Length: 3\r\n"), "{healthy}");
    assert!(healthy.ends_with("\r\n\r\nok\n"), "{healthy}");
    assert!(!healthy.contains("Server"), "{healthy}");
    assert_eq!(code(&get(agents.address, "/api/v1/peers")), Some(503));
    for path in ["/nothing", "/metrics/", "/%2e", "//"] {
        assert_eq!(code(&get(agents.address, path)), Some(404), "{path}");
    }
    let head = ask(agents.address, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_bulk_answer_arrives_whole_and_in_chunks() {
    let agents = Agents::start(&Options { metrics: 3_000_000, ..Options::new(3) });
    let expected: Vec<u8> = metrics(3_000_000).flatten().collect();
    let before = agents.status("VmHWM");
    for _ in 0..3 {
        let answer = get(agents.address, "/metrics");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        assert!(unchunk(body).as_bytes() == expected, "the body differs");
    }
    let head = ask(agents.address, b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(code(&get(agents.address, "/metrics")), Some(200));
    // Streamed: three megabytes pass through kilobytes.
    let grown = agents.status("VmHWM") - before;
    assert!(grown < 1024, "{grown} kB for a streamed answer");
}

#[test]
fn http_1_0_clients_get_a_plain_body_that_ends_with_the_connection() {
    let agents = Agents::start(&Options { metrics: 3_000_000, ..Options::new(55) });
    let expected: Vec<u8> = metrics(3_000_000).flatten().collect();
    for host in ["", "Host: a\r\n"] {
        let answer = ask(agents.address, format!("GET /metrics HTTP/1.0\r\n{host}\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.ends_with("\r\nConnection: close"), "{head}");
        assert!(!head.contains("Transfer-Encoding"), "{head}");
        assert!(body.as_bytes() == expected, "the body differs");
    }
    let head = ask(agents.address, b"HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.contains("Transfer-Encoding"), "{head}");
    let healthy = ask(agents.address, b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(healthy.contains("\r\nContent-Length: 3\r\n"), "{healthy}");
    assert!(healthy.ends_with("\r\nConnection: close\r\n\r\nok\n"), "{healthy}");
    assert_eq!(code(&ask(agents.address, b"GET /keepalive HTTP/1.0\r\n\r\n")), Some(204));
}

#[test]
fn absolute_targets_are_answered() {
    let agents = Agents::start(&Options::new(56));
    for target in ["http://a/healthz", "HTTPS://[::1]:9050/healthz?a=b"] {
        assert!(get(agents.address, target).ends_with("\r\n\r\nok\n"), "{target}");
    }
    for target in ["http://a", "http://a?q"] {
        assert!(get(agents.address, target).contains("<!doctype html>"), "{target}");
    }
}

#[test]
fn one_empty_line_may_precede_a_request() {
    let agents = Agents::start(&Options::new(57));
    let answer = ask(agents.address, b"\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
}

#[test]
fn a_browser_with_large_cookies_gets_the_page() {
    let agents = Agents::start(&Options::new(58));
    let cookies = "c".repeat(60_000);
    let request = format!("GET / HTTP/1.1\r\nCookie: {cookies}\r\nHost: a\r\n\r\n");
    assert!(ask(agents.address, request.as_bytes()).ends_with("</script>\n"));
}

#[test]
fn a_request_in_pieces_is_answered_and_so_is_a_half_closed_client() {
    let agents = Agents::start(&Options::new(4));
    let mut stream = connect(agents.address);
    stream.set_nodelay(true).unwrap();
    // The answer takes a second, in which the close must not pass for the client's end.
    for piece in b"GET /api/v1/peers HTTP/1.1\r\nHost: a\r\n\r\n" {
        stream.write_all(&[*piece]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let (answer, end) = read_all(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 503 "));
    assert_eq!(end, End::Closed);
}

#[test]
fn a_probers_reset_is_no_fault_and_leaves_nothing_behind() {
    let mut agents = Agents::start(&Options::new(5));
    for _ in 0..300 {
        assert!(probe(agents.address).is_some());
    }
    assert_eq!(agents.counter("client_gone"), 0);
    assert_eq!(agents.counter("/keepalive:204"), 300);
    agents.awaits("connections", |open| open == 0);
    let sockets = listed(agents.address);
    assert!(!sockets.is_empty(), "the listener itself");
    let waits = sockets.iter().filter(|fields| fields[3] == "06");
    assert_eq!(waits.count(), 0, "TIME_WAIT");
}

#[test]
fn an_idle_gate_sleeps() {
    let mut agents = Agents::start(&Options::new(6));
    probes_pass(&mut agents);
    agents.awaits("connections", |open| open == 0);
    // The probes may have left a deadline behind; once that has passed, nothing wakes it.
    let end = Instant::now() + PATIENCE;
    let mut before = agents.sleeps("gate");
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = agents.sleeps("gate");
        if now == before {
            break;
        }
        assert!(Instant::now() < end, "it wakes {} times in 2 s", now - before);
        before = now;
    }
}

#[test]
fn the_stop_answers_what_has_come_and_frees_the_port() {
    let mut agents = Agents::start(&Options::new(7));
    probes_pass(&mut agents);
    let silent = connect(agents.address);
    agents.awaits("connections", |open| open == 1);
    agents.tell("stop");
    agents.hears("STOPPED");
    assert_eq!(agents.ends(), Some(0));
    assert!(std::net::TcpStream::connect(agents.address).is_err());
    drop(silent);
}

#[test]
fn nobody_else_gets_at_the_server() {
    let agents = Agents::start(&Options::new(8));
    assert!(probe(agents.address).is_some());
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    let names = sockets.lines().filter_map(|line| line.split_once(" @wylis-"));
    for (_, name) in names {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("wylis-{name}");
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        assert!(std::os::unix::net::UnixStream::connect_addr(&address).is_err());
    }
}

#[test]
fn both_families_share_the_port() {
    let Ok(listener) = wylis::gate::listen("[::]:0".parse().unwrap()) else {
        return wylis_harness::skip("no IPv6 here");
    };
    let port = listener.local_addr().unwrap().port();
    for address in ["127.77.9.1", "[::1]"] {
        if std::net::TcpStream::connect(format!("{address}:{port}")).is_err() {
            assert_eq!(address, "[::1]");
            wylis_harness::skip("no IPv6 loopback here");
        }
    }
    let taken = wylis::gate::listen(format!("[::]:{port}").parse().unwrap()).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
}
