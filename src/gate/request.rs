//! Reads a request head from bytes that nobody has checked, and builds the checked one anew.
//!
//! Pure. It decides what may pass; it never reads a socket, and nothing of the client's bytes
//! passes as it came, except a path and values of a plain alphabet.

use std::fmt::Write as _;

use super::counters::Rejection;
use crate::wire;

/// Longest path: our longest route holds two names of nodes, of 253 octets each.
const MAX_PATH: usize = 544;
/// Longest value passed on: the longest node name.
const MAX_VALUE: usize = 253;
/// What of a request is passed on, if its value is plain. Everything else is dropped.
const PASSED: [&str; 5] = [wire::NODE, wire::INSTANCE, wire::INTERVAL, wire::GOODBYE, wire::SIZE];
/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

/// A request that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestHead {
    /// HEAD rather than GET: the answer has no body.
    pub(super) head_only: bool,
    /// The path without its query.
    pub(super) path: String,
    passed: Vec<(&'static str, String)>,
}

/// How far a head has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// More must come.
    Incomplete,
    /// It is whole, and may pass.
    Complete(RequestHead),
    /// It must not pass.
    Refused(Rejection),
}

/// Reads `bytes`, of which the first `seen` were found incomplete before.
pub(super) fn read(bytes: &[u8], seen: usize) -> Progress {
    let before = seen.checked_sub(1).and_then(|last| bytes.get(last)).copied();
    if !lines_are_clean(before, bytes.get(seen..).unwrap_or_default()) {
        return Progress::Refused(Rejection::BadRequest);
    }
    let from = seen.saturating_sub(END.len() - 1);
    let searched = bytes.get(from..).unwrap_or_default();
    let end = searched.windows(END.len()).position(|window| window == END);
    let Some(end) = end.map(|at| at + from) else {
        let full = bytes.len() >= wire::MAX_REQUEST_HEAD;
        return if full { Progress::Refused(Rejection::TooLarge) } else { Progress::Incomplete };
    };
    let whole = end + END.len();
    if whole > wire::MAX_REQUEST_HEAD {
        return Progress::Refused(Rejection::TooLarge);
    }
    match parse(bytes.get(..end).unwrap_or_default()) {
        // A body, or a second request: one request a connection, nothing after it.
        Ok(_) if bytes.len() > whole => Progress::Refused(Rejection::Body),
        Ok(request) => Progress::Complete(request),
        Err(rejection) => Progress::Refused(rejection),
    }
}

/// No control character but CRLF and the tabulator; a lone CR or LF reads differently elsewhere
/// (RFC 9112, section 2.2). `before` is the octet that came before these.
fn lines_are_clean(mut before: Option<u8>, bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| {
        let after_return = before.replace(byte) == Some(b'\r');
        match byte {
            b'\n' => after_return,
            _ if after_return => false,
            b'\r' | b'\t' => true,
            byte => byte >= 0x20 && byte != 0x7f,
        }
    })
}

fn parse(head: &[u8]) -> Result<RequestHead, Rejection> {
    let mut lines =
        head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let (head_only, path) = request_line(first)?;
    let mut hosts = 0_usize;
    let mut passed: Vec<(&'static str, String)> = Vec::new();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':').ok_or(Rejection::BadRequest)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        // This also refuses folded lines and space before the colon (RFC 9112, section 5).
        if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
            return Err(Rejection::BadRequest);
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("Host") {
            hosts += 1;
        } else if is("Transfer-Encoding") || is("Expect") || (is("Content-Length") && value != b"0")
        {
            return Err(Rejection::Body);
        } else if let Some(&known) = PASSED.iter().find(|known| is(known)) {
            if passed.iter().any(|(name, _)| *name == known) {
                return Err(Rejection::BadRequest);
            }
            if let Some(value) = plain(value) {
                passed.push((known, value));
            }
        }
    }
    // RFC 9112, section 3.2: exactly one.
    if hosts != 1 {
        return Err(Rejection::BadRequest);
    }
    Ok(RequestHead { head_only, path, passed })
}

fn request_line(line: &[u8]) -> Result<(bool, String), Rejection> {
    let line = std::str::from_utf8(line).map_err(|_| Rejection::BadRequest)?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Rejection::BadRequest);
    };
    if version != "HTTP/1.1" {
        let other = version.strip_prefix("HTTP/").is_some_and(|number| {
            number.len() == 3 && number.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
        });
        return Err(if other { Rejection::Version } else { Rejection::BadRequest });
    }
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(Rejection::BadRequest);
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Rejection::Method),
    };
    if !target.starts_with('/') {
        return Err(Rejection::BadRequest);
    }
    let path = target.split('?').next().unwrap_or_default();
    if path.len() > MAX_PATH || !path.bytes().all(is_path) {
        return Err(Rejection::Path);
    }
    Ok((head_only, path.to_owned()))
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte)
}

/// A value that needs no quoting anywhere; others are dropped as if they had not been sent.
fn plain(value: &[u8]) -> Option<String> {
    let fits = (1..=MAX_VALUE).contains(&value.len());
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:,=".contains(byte);
    if !fits || !value.iter().all(safe) {
        return None;
    }
    std::str::from_utf8(value).ok().map(ToOwned::to_owned)
}

impl RequestHead {
    /// Whether it names the size of its answer, which may then be large.
    pub(super) fn asks_for_more(&self) -> bool {
        self.passed.iter().any(|(name, _)| *name == wire::SIZE)
    }

    /// The request as forwarded.
    pub(super) fn render(&self, sequence: u64) -> String {
        let method = if self.head_only { "HEAD" } else { "GET" };
        let mut text = format!("{method} {} HTTP/1.1\r\nHost: wylis\r\n", self.path);
        for (name, value) in &self.passed {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let _ = write!(text, "{}: {sequence}\r\n\r\n", wire::SEQUENCE);
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> Rejection {
        match read(text.as_bytes(), 0) {
            Progress::Refused(rejection) => rejection,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn passes(text: &str) -> String {
        match read(text.as_bytes(), 0) {
            Progress::Complete(request) => request.render(9),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn what_passes_is_built_anew() {
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
    fn each_fault_has_its_rejection() {
        let cases = [
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::Method),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nb", Rejection::Method),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", Rejection::Body),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::Method),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Rejection::Version),
            ("PRI * HTTP/2.0\r\n\r\n", Rejection::Version),
            ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", Rejection::Version),
            ("GET / HTTP/1.0\r\n\r\n", Rejection::Version),
            ("GET / HTTP/1.1x\r\n\r\n", Rejection::BadRequest),
            ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
            ("GET /\r\n\r\n", Rejection::BadRequest),
            ("\r\n\r\n", Rejection::BadRequest),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Rejection::BadRequest),
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
    fn the_bound_of_a_head_is_exact() {
        let of = |length: usize| {
            let frame = "GET / HTTP/1.1\r\nHost: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(length - frame))
        };
        passes(&of(wire::MAX_REQUEST_HEAD));
        assert_eq!(refused(&of(wire::MAX_REQUEST_HEAD + 1)), Rejection::TooLarge);
        assert_eq!(refused(&"G".repeat(wire::MAX_REQUEST_HEAD)), Rejection::TooLarge);
        assert_eq!(read(&[b'G'; wire::MAX_REQUEST_HEAD - 1], 0), Progress::Incomplete);
    }

    /// What the gate does: octets arrive in pieces, each piece is read with what was before.
    fn in_pieces(bytes: &[u8], sizes: &[usize]) -> Progress {
        let mut seen = 0;
        let mut sizes = sizes.iter().copied().cycle();
        loop {
            let end = (seen + sizes.next().unwrap_or(1)).min(bytes.len());
            match read(&bytes[..end], seen) {
                Progress::Incomplete if end < bytes.len() => seen = end,
                other => return other,
            }
        }
    }

    fn near_miss() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::sample::select(vec![
            "GET",
            "HEAD",
            "POST",
            " ",
            "/",
            "/keepalive",
            "?q",
            "HTTP/1.1",
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
            "\0",
            "\u{7f}",
            "\u{e4}",
            "Wylis-Sequence: 1\r\n",
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
            assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
        }
        let known = names
            .iter()
            .all(|name| PASSED.contains(name) || ["Host", wire::SEQUENCE].contains(name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        known
            && names.len() == count
            && first.len() == 3
            && ["GET", "HEAD"].contains(&first[0])
            && first[1].starts_with('/')
            && first[1].bytes().all(is_path)
            && first[2] == "HTTP/1.1"
    }

    proptest! {
        #[test]
        fn no_input_panics_and_what_passes_is_clean(bytes in prop_oneof![
            near_miss(), prop::collection::vec(any::<u8>(), 0..300),
        ]) {
            if let Progress::Complete(request) = read(&bytes, 0) {
                let text = request.render(u64::MAX);
                prop_assert!(is_canonical(&text), "{text:?}");
                prop_assert!(matches!(read(text.as_bytes(), 0), Progress::Complete(_)));
            }
        }

        #[test]
        fn pieces_pass_only_if_the_whole_does(
            bytes in near_miss(), sizes in prop::collection::vec(1_usize..9, 1..6),
        ) {
            let whole = read(&bytes, 0);
            let pieces = in_pieces(&bytes, &sizes);
            // A piece may end at the head's end, before octets that would have refused it.
            if let Progress::Complete(_) = whole {
                prop_assert_eq!(&pieces, &whole);
            }
            if pieces == Progress::Incomplete {
                prop_assert_eq!(&pieces, &whole);
            }
        }
    }
}
