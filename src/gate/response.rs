//! Reads the backend's response as it comes: rewrites its head, finds its end, checks its sequence.
//!
//! Pure. The body passes unchanged, except that a client of HTTP/1.0 gets it without chunk framing.
//! Anything that the agent's server does not send is an error, which ends the process: the next client
//! would get the rest of this response.

use std::io::Write as _;

use super::request::{Method, RequestHead};
use crate::wire;

/// Longest head of a response: the server's take about 600 bytes with the longest names.
const MAX_HEAD: usize = 4096;
/// Most headers of a response: the server's have up to 14.
const MAX_HEADERS: usize = 32;
/// Longest line before a chunk: tiny_http writes up to four digits.
const MAX_CHUNK_LINE: usize = 16;

/// Why the backend's bytes are no response to the request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResponseError {
    #[error("malformed or too long head")]
    Head,
    #[error("belongs to another request")]
    Sequence,
    #[error("malformed framing of the body")]
    Framing,
    #[error("data after the end")]
    Surplus,
}

/// What comes next; numbers are the bytes left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Head,
    Length(u64),
    ChunkLine,
    ChunkData(u64),
    /// The CRLF after a chunk.
    ChunkEnd {
        last: bool,
    },
    Done,
}

/// The response to one request, as far as it has arrived.
pub(super) struct BackendResponse {
    sequence: u64,
    head_only: bool,
    http_1_0: bool,
    code: Option<u16>,
    unpaused: bool,
    position: Position,
    /// The incomplete head or chunk line.
    pending: Vec<u8>,
}

impl BackendResponse {
    /// The response to the request that was sent under this sequence number.
    pub(super) fn new(sequence: u64, request: &RequestHead) -> Self {
        Self {
            sequence,
            head_only: request.method == Method::Head,
            http_1_0: request.http_1_0,
            code: None,
            unpaused: false,
            position: Position::Head,
            pending: Vec::new(),
        }
    }

    /// The status code, once the head is complete.
    pub(super) fn code(&self) -> Option<u16> {
        self.code
    }

    /// Whether the server cannot wait for the client of this response.
    pub(super) fn is_unpaused(&self) -> bool {
        self.unpaused
    }

    /// Reads the next bytes, and appends the client's bytes to `out`. `true` at the end.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, ResponseError> {
        while let [byte, rest @ ..] = bytes {
            bytes = match self.position {
                Position::Head => self.feed_head(bytes, out)?,
                Position::Length(left) | Position::ChunkData(left) => {
                    let fits = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (data, rest) = bytes.split_at(fits);
                    out.extend_from_slice(data);
                    let left = left - fits as u64;
                    self.position = match self.position {
                        Position::Length(_) => Position::length(left),
                        _ if left == 0 => Position::ChunkEnd { last: false },
                        _ => Position::ChunkData(left),
                    };
                    rest
                }
                Position::ChunkLine | Position::ChunkEnd { .. } => {
                    self.feed_framing(*byte)?;
                    if !self.http_1_0 {
                        out.push(*byte);
                    }
                    rest
                }
                Position::Done => return Err(ResponseError::Surplus),
            };
        }
        Ok(self.position == Position::Done)
    }

    /// Collects the head, and returns the bytes after it.
    fn feed_head<'a>(
        &mut self,
        bytes: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<&'a [u8], ResponseError> {
        let before = self.pending.len();
        let (taken, _) = bytes.split_at(bytes.len().min(MAX_HEAD - before));
        let mut head = std::mem::take(&mut self.pending);
        head.extend_from_slice(taken);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(&head) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => {
                self.pending = head;
                return Ok(&[]);
            }
            _ => return Err(ResponseError::Head),
        };
        // httparse also accepts a bare LF, and empty lines before the head.
        let mut lines = head.get(..length - 1).unwrap_or_default().split(|byte| *byte == b'\n');
        if !head.starts_with(b"HTTP/1.1 ") || !lines.all(|line| line.ends_with(b"\r")) {
            return Err(ResponseError::Head);
        }
        self.rewrite(&response, out)?;
        Ok(bytes.get(length - before..).unwrap_or_default())
    }

    /// Writes the head for the client, and sets the framing of the body.
    fn rewrite(
        &mut self,
        response: &httparse::Response<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ResponseError> {
        let code = response.code.filter(|code| *code >= 200).ok_or(ResponseError::Head)?;
        // Writing to a Vec cannot fail.
        let _ = write!(out, "HTTP/1.1 {code} {}\r\n", response.reason.unwrap_or_default());
        let (mut length, mut chunked, mut sequence) = (None, false, None);
        for header in response.headers.iter() {
            let value = std::str::from_utf8(header.value).map_err(|_| ResponseError::Head)?;
            let is = |known: &str| header.name.eq_ignore_ascii_case(known);
            let passes = if is(wire::SEQUENCE) {
                sequence = value.parse().ok();
                false
            } else if is(wire::UNPAUSED) {
                self.unpaused = true;
                false
            } else if is("Content-Length") {
                length = Some(value.parse().map_err(|_| ResponseError::Head)?);
                // RFC 9110, section 8.6.
                code != 204
            } else if is("Transfer-Encoding") {
                chunked = true;
                !self.http_1_0
            } else {
                // The backend is private, and the connection is the gate's.
                !is("Server") && !is("Connection")
            };
            if passes {
                let _ = write!(out, "{}: {value}\r\n", header.name);
            }
        }
        if sequence != Some(self.sequence) {
            return Err(ResponseError::Sequence);
        }
        out.extend_from_slice(b"Connection: close\r\n\r\n");
        self.position = match (length, chunked) {
            (Some(_), true) | (None, false) => return Err(ResponseError::Head),
            _ if self.head_only || code == 204 || code == 304 => Position::Done,
            (Some(length), false) => Position::length(length),
            (None, true) => Position::ChunkLine,
        };
        self.code = Some(code);
        Ok(())
    }

    /// Reads one byte of the line before a chunk, or of the CRLF after one.
    fn feed_framing(&mut self, byte: u8) -> Result<(), ResponseError> {
        self.pending.push(byte);
        self.position = match (self.position, self.pending.as_slice()) {
            (Position::ChunkEnd { last: true }, b"\r\n") => Position::Done,
            (Position::ChunkEnd { last: false }, b"\r\n") => Position::ChunkLine,
            (Position::ChunkEnd { .. }, b"\r") => return Ok(()),
            (Position::ChunkLine, [digits @ .., b'\r', b'\n']) => match chunk_length(digits) {
                None => return Err(ResponseError::Framing),
                Some(0) => Position::ChunkEnd { last: true },
                Some(length) => Position::ChunkData(length),
            },
            (Position::ChunkLine, line) if byte != b'\n' && line.len() < MAX_CHUNK_LINE => {
                return Ok(());
            }
            _ => return Err(ResponseError::Framing),
        };
        self.pending.clear();
        Ok(())
    }
}

impl Position {
    fn length(left: u64) -> Self {
        if left == 0 { Self::Done } else { Self::Length(left) }
    }
}

fn chunk_length(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    let valid = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| valid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::request::HeadReader;
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nServer: s\r\nDate: d\r\nWylis-Sequence: 7\r\n";
    const REWRITTEN: &str = "HTTP/1.1 200 OK\r\nDate: d\r\n";

    /// The response to a request of this method and version.
    fn response_to(line: &str) -> BackendResponse {
        let request = HeadReader::default().read(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        BackendResponse::new(7, &request.unwrap().unwrap())
    }

    /// Feeds a response in pieces of `size`.
    fn feed(text: &str, head_only: bool, size: usize) -> Result<(bool, String), ResponseError> {
        let line = if head_only { "HEAD / HTTP/1.1" } else { "GET / HTTP/1.1" };
        feed_to(line, text, size)
    }

    fn feed_to(line: &str, text: &str, size: usize) -> Result<(bool, String), ResponseError> {
        let mut response = response_to(line);
        let mut out = Vec::new();
        let mut done = false;
        for piece in text.as_bytes().chunks(size) {
            done = response.feed(piece, &mut out)?;
        }
        Ok((done, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn a_response_is_rewritten_regardless_of_its_pieces() {
        let cases = [
            ("Content-Length: 3\r\n", "abc", false),
            ("Content-Length: 0\r\n", "", false),
            ("Content-Length: 3\r\n", "", true),
            ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", false),
            ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n", false),
            ("Transfer-Encoding: chunked\r\n", "", true),
        ];
        for (framing, body, head_only) in cases {
            let text = format!("{HEAD}{framing}\r\n{body}");
            let expected = format!("{REWRITTEN}{framing}Connection: close\r\n\r\n{body}");
            for size in 1..=text.len() {
                let fed = feed(&text, head_only, size);
                assert_eq!(fed, Ok((true, expected.clone())), "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn an_http_1_0_client_gets_no_chunks() {
        let chunked = "Transfer-Encoding: chunked\r\n";
        let length = "Content-Length: 3\r\n";
        let cases = [
            ("GET", chunked, "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "", "abc0123456789"),
            ("GET", chunked, "0\r\n\r\n", "", ""),
            ("HEAD", chunked, "", "", ""),
            ("GET", length, "abc", length, "abc"),
        ];
        for (method, framing, body, passed, expected) in cases {
            let text = format!("{HEAD}{framing}\r\n{body}");
            let expected = format!("{REWRITTEN}{passed}Connection: close\r\n\r\n{expected}");
            for size in 1..=text.len() {
                let fed = feed_to(&format!("{method} / HTTP/1.0"), &text, size);
                assert_eq!(fed, Ok((true, expected.clone())), "{text:?} by {size}");
            }
        }
        let broken_off = format!("{HEAD}{chunked}\r\n3\r\nabc\r\n");
        assert!(!feed_to("GET / HTTP/1.0", &broken_off, 9).unwrap().0);
        let wrong = format!("{HEAD}{chunked}\r\n3\r\nabcd\r\n");
        assert_eq!(feed_to("GET / HTTP/1.0", &wrong, 9), Err(ResponseError::Framing));
    }

    #[test]
    fn a_204_has_no_length() {
        let text = "HTTP/1.1 204 No Content\r\nWylis-Sequence: 7\r\nContent-Length: 0\r\n\r\n";
        let rewritten = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        assert_eq!(feed(text, false, 9), Ok((true, rewritten.to_owned())));
    }

    #[test]
    fn a_response_to_another_request_is_an_error() {
        let of = |sequence: &str| {
            let text = format!("HTTP/1.1 200 OK\r\n{sequence}Content-Length: 0\r\n\r\n");
            feed(&text, false, 99)
        };
        assert_eq!(of("Wylis-Sequence: 8\r\n"), Err(ResponseError::Sequence));
        assert_eq!(of("Wylis-Sequence: x\r\n"), Err(ResponseError::Sequence));
        assert_eq!(of(""), Err(ResponseError::Sequence));
    }

    #[test]
    fn a_response_that_our_server_does_not_send_is_an_error() {
        let chunked = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
        let cases = [
            (format!("{HEAD}Content-Length: 1\r\n\r\nab"), ResponseError::Surplus),
            (format!("{HEAD}\r\nab"), ResponseError::Head),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), ResponseError::Head),
            (format!("{HEAD}Content-Length: -1\r\n\r\n"), ResponseError::Head),
            ("HTTP/1.1 100 Continue\r\n\r\n".to_owned(), ResponseError::Head),
            ("h".repeat(MAX_HEAD + 1), ResponseError::Head),
            (format!("{HEAD}X: {}", "x".repeat(MAX_HEAD)), ResponseError::Head),
            (format!("\r\n{HEAD}Content-Length: 0\r\n\r\n"), ResponseError::Head),
            (format!("{HEAD}Content-Length: 0\n\r\n"), ResponseError::Head),
            (format!("{HEAD}Content-Length: 0\r\n\n"), ResponseError::Head),
            (format!("{HEAD}Content-Length: 0\r\n X: folded\r\n\r\n"), ResponseError::Head),
            (format!("{HEAD}Content-Length : 0\r\n\r\n"), ResponseError::Head),
            (format!("{chunked}x\r\n"), ResponseError::Framing),
            (format!("{chunked}\r\n"), ResponseError::Framing),
            (format!("{chunked}+1\r\na\r\n"), ResponseError::Framing),
            (format!("{chunked}1;x\r\na\r\n"), ResponseError::Framing),
            (format!("{chunked}1\r\nab\r\n"), ResponseError::Framing),
            (format!("{chunked}1\n"), ResponseError::Framing),
            (format!("{chunked}{}", "0".repeat(MAX_CHUNK_LINE + 1)), ResponseError::Framing),
            (format!("{chunked}0\r\n\r\n0"), ResponseError::Surplus),
        ];
        for (text, error) in cases {
            assert_eq!(feed(&text, false, text.len()), Err(error), "{text:?}");
        }
        let broken_off = feed(&format!("{chunked}3\r\nab"), false, 5).unwrap();
        assert!(!broken_off.0);
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), headed: bool) {
            let mut response = response_to("GET / HTTP/1.1");
            let mut out = Vec::new();
            if headed {
                let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
                response.feed(head.as_bytes(), &mut out).unwrap();
            }
            let _ = response.feed(&bytes, &mut out);
        }
    }
}
