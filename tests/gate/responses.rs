//! The responses to well-behaved clients.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::child::{GateProcess, Options, TIMEOUT, metrics, peer, row};
use crate::client::{
    End, assert_probes_pass, connect, get, kernel_sockets, probe, read_all, send_request,
    status_code,
};

/// Decodes a chunked body.
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
fn probe_gets_the_response_that_the_prober_expects() {
    let gate = GateProcess::start(&Options::new(1));
    let response = get(gate.address, "/keepalive?later=1");
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "");
    assert!(response.len() <= wylis::wire::MAX_ANSWER);
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    lines.retain(|line| !line.starts_with("Date: "));
    assert_eq!(
        lines,
        [
            "HTTP/1.1 204 No Content",
            "Wylis-Node: test-node",
            "Wylis-Instance: test-instance",
            "Wylis-Can: large,token",
            "Connection: close"
        ]
    );
    let request = "GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: tell\r\n\r\n";
    assert_eq!(status_code(&send_request(gate.address, request.as_bytes())), Some(204));
    gate.wait_for_line("RECEIVED tell from 127.");
}

#[test]
fn large_probe_gets_the_requested_size_up_to_the_limit() {
    let gate = GateProcess::start(&Options::new(8));
    // Of older releases, which ask for more than a segment: the size of the content.
    for (asked, size) in [(wylis::wire::LARGE, wylis::wire::LARGE), (1 << 30, 10_240)] {
        let request = format!(
            "GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: tell\r\nWylis-Size: {asked}\r\n\r\n"
        );
        let response = send_request(gate.address, request.as_bytes());
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {size}")), "{head}");
        assert!(head.contains("\r\nWylis-Node: test-node"), "{head}");
        assert_eq!(body.len(), size);
    }
    for asked in [0, 1, 300, 1300, 1448, 8948, wylis::wire::MAX_SEGMENT] {
        let request = format!(
            "GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: tell\r\nWylis-Size: {asked}\r\nWylis-Padding: \
             {}\r\n\r\n",
            "x".repeat(asked)
        );
        let response = send_request(gate.address, request.as_bytes());
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let shortest = head.len() + 4;
        assert_eq!(response.len(), asked.max(shortest), "{head}");
        assert_eq!(body.is_empty(), asked <= shortest);
    }
    // Content of 999 bytes, or with one digit more in its length.
    let sizes: Vec<usize> = (1160..1180)
        .map(|asked| {
            let request = format!(
                "GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Node: tell\r\nWylis-Size: {asked}\r\n\r\n"
            );
            let excess = send_request(gate.address, request.as_bytes()).len() - asked;
            assert!(excess <= 1, "{asked} {excess}");
            excess
        })
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 1, "{sizes:?}");
    // Without a node it is a blank request.
    let nameless = b"GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Size: 100\r\n\r\n";
    assert_eq!(status_code(&send_request(gate.address, nameless)), Some(204));
}

#[test]
fn document_states_its_length_and_its_node() {
    let gate = GateProcess::start(&Options { metrics: 100_000, ..Options::new(61) });
    let response = get(gate.address, "/api/v1/row");
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nWylis-Node: test-node\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    assert!(!head.contains("chunked"), "{head}");
    let expected: Vec<u8> = row(100_000).flatten().collect();
    assert!(body.as_bytes() == expected, "the body differs");
    let head = send_request(gate.address, b"HEAD /api/v1/row HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length"), "{head}");
}

#[test]
fn paths_with_node_names_reach_the_server() {
    let mut gate = GateProcess::start(&Options::new(60));
    let long = peer(0);
    let response = get(gate.address, &format!("/api/v1/peers/{long}"));
    assert!(response.contains(&format!("\"peer\":{{\"node\":\"{long}\",")), "{response}");
    let pair = format!("/api/v1/cluster/{long}/{long}");
    assert_eq!(status_code(&get(gate.address, &pair)), Some(404));
    // The server's 404: the gate let the request pass.
    assert_eq!(gate.counter("/api/v1/cluster:404"), 1);
    assert_eq!(gate.counter("/api/v1/peers:200"), 1);
}

#[test]
fn page_is_complete_and_has_its_security_headers() {
    let gate = GateProcess::start(&Options::new(62));
    let response = get(gate.address, "/");
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
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
    let bare = send_request(gate.address, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(bare.ends_with("\r\n\r\n") && bare.contains(&length), "{bare}");
}

#[test]
fn each_route_is_answered() {
    let gate = GateProcess::start(&Options { metrics: 0, ..Options::new(2) });
    let healthy = get(gate.address, "/healthz");
    assert!(healthy.contains("\r\nContent-Length: 3\r\n"), "{healthy}");
    assert!(healthy.ends_with("\r\n\r\nok\n"), "{healthy}");
    assert!(!healthy.contains("Server"), "{healthy}");
    assert_eq!(status_code(&get(gate.address, "/api/v1/peers")), Some(503));
    for path in ["/nothing", "/metrics/", "/%2e", "//"] {
        assert_eq!(status_code(&get(gate.address, path)), Some(404), "{path}");
    }
    let head = send_request(gate.address, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn bulk_response_is_complete_and_chunked() {
    let gate = GateProcess::start(&Options { metrics: 3_000_000, ..Options::new(3) });
    let expected: Vec<u8> = metrics(3_000_000).flatten().collect();
    let before = gate.proc_status("VmHWM");
    for _ in 0..3 {
        let response = get(gate.address, "/metrics");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        assert!(unchunk(body).as_bytes() == expected, "the body differs");
    }
    let head = send_request(gate.address, b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(status_code(&get(gate.address, "/metrics")), Some(200));
    // 3 MB are streamed through kilobytes.
    let grown = gate.proc_status("VmHWM") - before;
    assert!(grown < 1024, "{grown} kB for a streamed response");
}

#[test]
fn http_1_0_client_gets_a_plain_body_that_ends_with_the_connection() {
    let gate = GateProcess::start(&Options { metrics: 3_000_000, ..Options::new(55) });
    let expected: Vec<u8> = metrics(3_000_000).flatten().collect();
    for host in ["", "Host: a\r\n"] {
        let response =
            send_request(gate.address, format!("GET /metrics HTTP/1.0\r\n{host}\r\n").as_bytes());
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.ends_with("\r\nConnection: close"), "{head}");
        assert!(!head.contains("Transfer-Encoding"), "{head}");
        assert!(body.as_bytes() == expected, "the body differs");
    }
    let head = send_request(gate.address, b"HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.contains("Transfer-Encoding"), "{head}");
    let healthy =
        send_request(gate.address, b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(healthy.contains("\r\nContent-Length: 3\r\n"), "{healthy}");
    assert!(healthy.ends_with("\r\nConnection: close\r\n\r\nok\n"), "{healthy}");
    assert_eq!(
        status_code(&send_request(gate.address, b"GET /keepalive HTTP/1.0\r\n\r\n")),
        Some(204)
    );
}

#[test]
fn absolute_targets_are_answered() {
    let gate = GateProcess::start(&Options::new(56));
    for target in ["http://a/healthz", "HTTPS://[::1]:9050/healthz?a=b"] {
        assert!(get(gate.address, target).ends_with("\r\n\r\nok\n"), "{target}");
    }
    for target in ["http://a", "http://a?q"] {
        assert!(get(gate.address, target).contains("<!doctype html>"), "{target}");
    }
}

#[test]
fn one_empty_line_before_a_request_is_ignored() {
    let gate = GateProcess::start(&Options::new(57));
    let response = send_request(gate.address, b"\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(response.ends_with("\r\n\r\nok\n"), "{response}");
}

#[test]
fn browser_with_large_cookies_gets_the_page() {
    let gate = GateProcess::start(&Options::new(58));
    let cookies = "c".repeat(60_000);
    let request = format!("GET / HTTP/1.1\r\nCookie: {cookies}\r\nHost: a\r\n\r\n");
    assert!(send_request(gate.address, request.as_bytes()).ends_with("</script>\n"));
}

#[test]
fn request_in_pieces_from_a_half_closed_client_is_answered() {
    let gate = GateProcess::start(&Options::new(4));
    let mut stream = connect(gate.address);
    stream.set_nodelay(true).unwrap();
    // The response takes a second, during which the FIN must not count as the client's end.
    for piece in b"GET /api/v1/cluster/a/b HTTP/1.1\r\nHost: a\r\n\r\n" {
        stream.write_all(&[*piece]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let (response, end) = read_all(&mut stream);
    assert!(response.starts_with(b"HTTP/1.1 404 "));
    assert_eq!(end, End::Closed);
}

#[test]
fn reset_by_a_prober_is_not_counted_and_leaves_no_time_wait() {
    let mut gate = GateProcess::start(&Options::new(5));
    for _ in 0..300 {
        assert!(probe(gate.address).is_some());
    }
    assert_eq!(gate.counter("client_gone"), 0);
    assert_eq!(gate.counter("/keepalive:204"), 300);
    gate.wait_for_counter("connections", |open| open == 0);
    let sockets = kernel_sockets(gate.address);
    assert!(!sockets.is_empty(), "the listener is missing");
    let waits = sockets.iter().filter(|fields| fields[3] == "06");
    assert_eq!(waits.count(), 0, "TIME_WAIT");
}

#[test]
fn idle_gate_does_not_wake_up() {
    let mut gate = GateProcess::start(&Options::new(6));
    assert_probes_pass(&mut gate);
    gate.wait_for_counter("connections", |open| open == 0);
    // A pending deadline may wake it once more.
    let end = Instant::now() + TIMEOUT;
    let mut before = gate.context_switches("gate");
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = gate.context_switches("gate");
        if now == before {
            break;
        }
        assert!(Instant::now() < end, "it wakes {} times in 2 s", now - before);
        before = now;
    }
}

#[test]
fn stop_closes_idle_connections_and_frees_the_port() {
    let mut gate = GateProcess::start(&Options::new(7));
    assert_probes_pass(&mut gate);
    let silent = connect(gate.address);
    gate.wait_for_counter("connections", |open| open == 1);
    gate.send("stop");
    gate.wait_for_line("STOPPED");
    assert_eq!(gate.exit_code(), Some(0));
    assert!(std::net::TcpStream::connect(gate.address).is_err());
    drop(silent);
}

#[test]
fn private_socket_refuses_other_clients() {
    let gate = GateProcess::start(&Options::new(8));
    assert!(probe(gate.address).is_some());
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
fn ipv4_and_ipv6_share_the_port() {
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
