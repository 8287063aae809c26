mod command;

use proptest::prelude::*;

use super::*;
use crate::name::{Instance, NodeName};
use crate::token::PairToken;

fn read(bytes: &[u8]) -> Result<Option<RequestHead>, Rejection> {
    HeadReader::default().read(bytes)
}

fn refused(text: &str) -> Rejection {
    read(text.as_bytes()).expect_err(text)
}

fn passes(text: &str) -> String {
    match read(text.as_bytes()) {
        Ok(Some(request)) => request.render(9),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn a_valid_request_is_rebuilt() {
    let text = passes(
        "GET /keepalive?size=1 HTTP/1.1\r\nhOST: \"x\"\r\nTE: q=nan\r\nwylis-NODE:  n1 \r\n\
         Wylis-Sequence: 7\r\nWylis-Instance: a b\r\nX: \u{e4}\r\n\
         Content-Length: 0\r\n\r\n",
    );
    assert_eq!(
        text,
        "GET /keepalive HTTP/1.1\r\nHost: wylis\r\nWylis-Node: n1\r\n\
         Wylis-Sequence: 9\r\n\r\n"
    );
    assert!(passes("HEAD / HTTP/1.1\r\nHost:\r\n\r\n").starts_with("HEAD / HTTP/1.1\r\n"));
}

#[test]
fn the_clients_address_is_the_gates_word_alone() {
    let text =
        "GET /keepalive HTTP/1.1\r\nHost: a\r\nWylis-Client: 10.0.0.9\r\nwylis-client: x\r\n\r\n";
    let mut request = read(text.as_bytes()).unwrap().unwrap();
    request.add_client(&Route::KeepAlive, "fd00::1".parse().unwrap());
    let forwarded = request.render(9);
    let lines = forwarded.lines().filter(|line| line.contains("lient"));
    assert_eq!(lines.collect::<Vec<_>>(), ["Wylis-Client: fd00::1"]);
}

#[test]
fn the_accepted_encodings_pass_as_one_plain_header() {
    let passed = |headers: &str| {
        let text = passes(&format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        let start = "GET /metrics HTTP/1.1\r\nHost: wylis\r\n";
        let rest = text.strip_prefix(start).unwrap().to_owned();
        rest.strip_suffix("Wylis-Sequence: 9\r\n\r\n").unwrap().to_owned()
    };
    let gzip = "Accept-Encoding: gzip\r\n";
    assert_eq!(passed("Accept-Encoding: deflate, gzip;q=0.8\r\n"), gzip);
    assert_eq!(passed("accept-encoding: br\r\nACCEPT-ENCODING: *;q=0.1\r\n"), gzip);
    assert_eq!(passed("Accept-Encoding: gzip;q=0\r\nAccept-Encoding: gzip\r\n"), "");
    assert_eq!(passed("Accept-Encoding: \u{e4}\r\n"), "");
    assert_eq!(passed(&format!("Accept-Encoding: gzip, {}\r\n", "x".repeat(400))), "");
    let old = "GET /metrics HTTP/1.0\r\n";
    assert!(!passes(&format!("{old}\r\n")).contains("gzip"), "only where asked for");
    assert!(passes(&format!("{old}Accept-Encoding: gzip\r\n\r\n")).contains(gzip));
}

#[test]
fn only_the_wish_for_json_passes_of_the_accepted_types() {
    let passed = |headers: &str| {
        let text = passes(&format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
        assert!(!text.contains("html") && !text.contains("*/*"), "{text}");
        text.contains("\r\nAccept: application/json\r\n")
    };
    assert!(passed("accept: application/json;q=0.9, text/html, */*;q=0.1\r\n"));
    assert!(!passed("Accept: text/html, */*;q=0.1\r\n"));
    assert!(!passed(&format!("Accept: application/json, {}\r\n", "x".repeat(400))));
}

#[test]
fn each_invalid_request_has_its_rejection() {
    let cases = [
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::Method),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nb", Rejection::Method),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", Rejection::Body),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::Method),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Rejection::Version),
        ("PRI * HTTP/2.0\r\n\r\n", Rejection::Version),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", Rejection::Version),
        ("GET / HTTP/1.2\r\n\r\n", Rejection::Version),
        ("GET / HTTP/0.9\r\n\r\n", Rejection::Version),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Rejection::Body),
        ("GET / HTTP/1.0\r\nContent-Length: 1\r\n\r\n", Rejection::Body),
        ("POST / HTTP/1.0\r\n\r\n", Rejection::Method),
        ("GET /\r\n\r\n", Rejection::BadRequest),
        ("GET / HTTP/1.1x\r\n\r\n", Rejection::BadRequest),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET /\r\n\r\n", Rejection::BadRequest),
        ("\r\n\r\n", Rejection::BadRequest),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET http://a/ HTTP/1.1\r\n\r\n", Rejection::BadRequest),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET http://a#/ HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET /?a\tb HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET http://a/%00 HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::Path),
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::Path),
        ("GET / HTTP/1.1\r\n\r\n", Rejection::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Rejection::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", Rejection::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", Rejection::BadRequest),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Rejection::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", Rejection::Body),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", Rejection::Body),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n", Rejection::Body),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Rejection::Body),
        ("GET / HTTP/1.1\nHost: a\n\n", Rejection::BadRequest),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", Rejection::BadRequest),
        ("\u{16}\u{3}\u{1}", Rejection::BadRequest),
        ("\n", Rejection::BadRequest),
    ];
    for (text, rejection) in cases {
        assert_eq!(refused(text), rejection, "{text:?}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(MAX_PATH));
    assert_eq!(refused(&long), Rejection::Path);
}

#[test]
fn the_bounds_of_a_head_and_its_lines_are_exact() {
    let of = |query: usize, host: usize| {
        let (query, host) = ("q".repeat(query), "h".repeat(host));
        format!("GET /?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n")
    };
    let frame = of(0, 0).len();
    passes(&of(0, wire::MAX_REQUEST_HEAD - frame));
    assert_eq!(refused(&of(0, wire::MAX_REQUEST_HEAD - frame + 1)), Rejection::TooLarge);
    let line = MAX_REQUEST_LINE - "GET /? HTTP/1.1".len();
    passes(&of(line, 0));
    assert_eq!(refused(&of(line + 1, 0)), Rejection::TooLarge);
    let unfinished = of(0, wire::MAX_REQUEST_HEAD);
    let (unfinished, _) = unfinished.split_at(wire::MAX_REQUEST_HEAD);
    assert_eq!(refused(unfinished), Rejection::TooLarge);
    assert_eq!(read(&unfinished.as_bytes()[1..]), Err(Rejection::Method));
    assert_eq!(read(&unfinished.as_bytes()[..wire::MAX_REQUEST_HEAD - 1]), Ok(None));
}

#[test]
fn the_longest_probe_passes_with_all_its_headers() {
    let longest = wire::KeepAlive {
        node: NodeName::new(&"n".repeat(253)).unwrap(),
        instance: Some(Instance::new(&"i".repeat(63)).unwrap()),
        interval: Some(wire::MAX_INTERVAL),
        goodbye: Some(wire::MAX_ANNOUNCED),
        token: PairToken::read("abcdefghij.0123456789"),
        size: Some(wire::LARGE),
    };
    let text = longest.render("[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().unwrap());
    let forwarded = passes(&text);
    for line in text.lines().filter(|line| line.starts_with("Wylis-")) {
        assert!(forwarded.contains(&format!("\r\n{line}\r\n")), "{line}: {forwarded}");
    }
}

#[test]
fn the_end_of_a_long_header_is_skipped_and_does_not_change_its_value() {
    let of = |name: &str, value: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\nWylis-Size: 1\r\n\r\n")
    };
    let cookie = passes(&of("Cookie", &"c".repeat(9000)));
    assert_eq!(cookie.matches("\r\n").count(), 5, "{cookie}");
    assert_eq!(passes(&of("Wylis-Node", &format!("n{}1", " ".repeat(9000)))), cookie);
    assert_eq!(passes(&of("Wylis-Node", &"n".repeat(MAX_VALUE + 1))), cookie);
    assert!(passes(&of("Wylis-Node", &"n".repeat(MAX_VALUE))).contains("nnn"));
    assert_eq!(refused(&of("Content-Length", &format!("0{}1", " ".repeat(9000)))), Rejection::Body);
    assert_eq!(refused(&of("X", &format!("{}\0", "x".repeat(9000)))), Rejection::BadRequest);
    assert_eq!(refused(&of("Transfer-Encoding", &"x".repeat(9000))), Rejection::Body);
    let (name, smuggled) = ("x".repeat(MAX_HEADER_LINE + 1), "x\r\nWylis-Node: n");
    assert_eq!(refused(&of(&name, smuggled)), Rejection::BadRequest);
}

#[test]
fn a_repeated_header_is_refused_whatever_its_values() {
    let twice = |name: &str, first: &str, second: &str| {
        let upper = name.to_uppercase();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{name}:{first}\r\nX: y\r\n{upper}: {second}\r\n\r\n")
    };
    // Dropped values: empty, blank, of other characters, too long, not UTF-8.
    let long = "n".repeat(MAX_HEADER_LINE);
    for name in PASSED {
        for value in ["1", "", " \t", "a b", "\"", "\u{e4}", &long] {
            for (first, second) in [(value, "1"), ("1", value), (value, value)] {
                assert_eq!(refused(&twice(name, first, second)), Rejection::BadRequest, "{name}");
            }
        }
    }
    assert_eq!(refused(&twice("Content-Length", "0", "0")), Rejection::BadRequest);
    assert_eq!(refused(&twice("Content-Length", "0", "1")), Rejection::Body);
    let hosts = "GET / HTTP/1.1\r\nHost:\r\nHOST: a\r\n\r\n";
    assert_eq!(refused(hosts), Rejection::BadRequest);
    // No private header between agents, so it is dropped: the gate sets its own.
    assert_eq!(passes(&twice("Wylis-Sequence", "1", "2")).matches("Sequence").count(), 1);
}

#[test]
fn an_absolute_target_gives_its_path_and_one_empty_line_is_ignored() {
    for (target, path) in [
        ("http://a/b?c", "/b"),
        ("HTTPS://[::1]:9050", "/"),
        ("http://a_b?c/d", "/"),
        ("http://a//b", "//b"),
    ] {
        let text = passes(&format!("\r\nGET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(text.starts_with(&format!("GET {path} HTTP/1.1\r\nHost: wylis\r\n")), "{text}");
    }
}

#[test]
fn http_1_0_needs_no_host_and_is_forwarded_as_http_1_1() {
    for host in ["", "Host: a\r\n"] {
        let text = format!("GET /a HTTP/1.0\r\n{host}\r\n");
        assert!(read(text.as_bytes()).unwrap().unwrap().http_1_0);
        assert_eq!(passes(&text), "GET /a HTTP/1.1\r\nHost: wylis\r\nWylis-Sequence: 9\r\n\r\n");
    }
    assert!(!read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap().http_1_0);
}

/// Reads bytes that arrive in pieces.
fn in_pieces(mut bytes: &[u8], sizes: &[usize]) -> Result<Option<RequestHead>, Rejection> {
    let mut reader = HeadReader::default();
    let mut sizes = sizes.iter().copied().cycle();
    loop {
        let (piece, rest) = bytes.split_at(sizes.next().unwrap_or(1).min(bytes.len()));
        bytes = rest;
        match reader.read(piece)? {
            None if !bytes.is_empty() => {}
            other => return Ok(other),
        }
    }
}

fn near_miss() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "GET",
        "HEAD",
        "POST",
        "POST /api/v1/survey HTTP/1.1\r\nHost: ::1",
        "Wylis-Survey: ",
        "/api/v1/survey",
        "[::1]:1",
        " ",
        "/",
        "/keepalive",
        "?q",
        "http://a",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/2.0",
        "\r\n",
        "\r\n",
        "\r",
        "\n",
        "Host: a\r\n",
        "Host: ",
        "Wylis-Node: ",
        "n1",
        ":",
        "\t",
        "Content-Length: 9\r\n",
        "Expect: x\r\n",
        "TE: q=nan\r\n",
        "GET / HTTP/1.1\r\nHost: a",
        "\r\nGET / HTTP/1.0\r\n",
        "\0",
        "\u{7f}",
        "\u{e4}",
        "Wylis-Sequence: 1\r\n",
        "Accept-Encoding: gzip",
        "Accept: application/json",
        ";q=0",
        "a,b",
        "Transfer-Encoding: chunked",
    ]);
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat().into_bytes())
}

fn is_canonical(text: &str) -> bool {
    let body = text.strip_suffix("\r\n\r\n").unwrap();
    let mut lines = body.split("\r\n");
    let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let mut names = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        names.push(name);
        let allowed = |byte: u8| byte.is_ascii_graphic() || (byte == b' ' && name == wire::SURVEY);
        assert!(value.bytes().all(allowed), "{text:?}");
    }
    let others = ["Host", "Accept-Encoding", "Accept", wire::SEQUENCE];
    let known = names.iter().all(|name| PASSED.contains(name) || others.contains(name));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    known
        && names.len() == count
        && first.len() == 3
        && (["GET", "HEAD"].contains(&first[0]) || first[..2] == ["POST", wire::SURVEY_PATH])
        && first[1].starts_with('/')
        && first[1].bytes().all(is_path)
        && first[2] == "HTTP/1.1"
}

/// The same request as httparse reads it: method, path, version, and headers passed on. It is more
/// lenient: it accepts bare LF, any number of empty lines before the request, any method and
/// target, bodies, and repeated or missing headers; the gate refuses all of these.
fn by_httparse(bytes: &[u8]) -> RequestHead {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(bytes).unwrap();
    assert_eq!(status, httparse::Status::Complete(bytes.len()));
    let target = request.path.unwrap().split('?').next().unwrap();
    let path = target.strip_prefix("http://a").unwrap_or(target);
    let method = match request.method {
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        _ => Method::Get,
    };
    let passed = request.headers.iter().filter_map(|header| {
        let name = PASSED.iter().find(|name| name.eq_ignore_ascii_case(header.name))?;
        Some(match (*name, method) {
            (wire::SURVEY, Method::Post) => (*name, plain(header.value, 1024, b" ")?),
            (wire::SURVEY, _) => return None,
            _ => (*name, plain(header.value, MAX_VALUE, b"")?),
        })
    });
    let (mut encodings, mut types) = (AcceptedEncodings::default(), AcceptedTypes::default());
    let is_host = |name: &str| name.eq_ignore_ascii_case(HOST);
    let own_host = |value: &[u8]| value.len() <= MAX_VALUE && is_own_host(value);
    let has_own_host =
        request.headers.iter().any(|header| is_host(header.name) && own_host(header.value));
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("Accept-Encoding") {
            encodings.add(header.value);
        } else if header.name.eq_ignore_ascii_case("Accept") {
            types.add(header.value);
        }
    }
    RequestHead {
        encodings,
        types,
        method,
        has_own_host,
        http_1_0: request.version == Some(0),
        path: if path.is_empty() { "/" } else { path }.to_owned(),
        passed: passed.collect(),
    }
}

proptest! {
    #[test]
    fn no_input_panics_and_each_valid_request_is_canonical(bytes in prop_oneof![
        near_miss(), prop::collection::vec(any::<u8>(), 0..300),
    ]) {
        if let Ok(Some(request)) = read(&bytes) {
            prop_assert_eq!(&request, &by_httparse(&bytes));
            let text = request.render(u64::MAX);
            prop_assert!(is_canonical(&text), "{text:?}");
            prop_assert!(matches!(read(text.as_bytes()), Ok(Some(_))));
        }
    }

    #[test]
    fn a_valid_request_reads_as_with_httparse(
        before in prop::sample::select(vec!["", "\r\n"]),
        method in prop::sample::select(vec!["GET", "HEAD", "POST"]),
        target in "(http://a)?(/[a-z/._~-]{0,20})(\\?[!-~]{0,20})?",
        version in prop::sample::select(vec!["HTTP/1.0", "HTTP/1.1"]),
        headers in prop::collection::vec(
            ("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,9}", "[\\t -~\u{80}-\u{fff}]{0,400}"), 0..9),
        passed in prop::sample::subsequence(PASSED.to_vec(), 0..=PASSED.len()),
        value in "[ \\t]{0,3}[0-9A-Za-z._:,= -]{0,260}([0-9a-z ]{900})?[ \\t]{0,3}",
        host in "a|localhost(:[0-9]{0,3})?|([0-9]{1,3}[.:]){1,6}|\\[[0-9a-f:]{2,9}\\](:9)?",
    ) {
        let target = if method == "POST" { wire::SURVEY_PATH.to_owned() } else { target };
        let mut text = format!("{before}{method} {target} {version}\r\nhost: {host}\r\n");
        for (name, value) in &headers {
            let _ = write!(text, "X-{name}:{value}\r\n");
        }
        for name in passed {
            let _ = write!(text, "{}:{value}\r\n", name.to_lowercase());
        }
        text.push_str("\r\n");
        prop_assert_eq!(read(text.as_bytes()), Ok(Some(by_httparse(text.as_bytes()))));
    }

    #[test]
    fn pieces_are_valid_only_if_the_whole_is(
        bytes in near_miss(), sizes in prop::collection::vec(1_usize..9, 1..6),
    ) {
        let whole = read(&bytes);
        let pieces = in_pieces(&bytes, &sizes);
        // A piece may end with the head, before bytes that make the whole invalid.
        if matches!(whole, Ok(Some(_))) || pieces == Ok(None) {
            prop_assert_eq!(&pieces, &whole);
        }
    }
}
