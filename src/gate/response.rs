//! Reads the backend's response as it comes: rewrites its head, finds its end, checks its sequence.
//!
//! Pure. The body passes unchanged, chunks included. Everything that our own server does not send is an
//! error, which ends the process: the next client would get this response.

use crate::wire;

/// Longest head of a response: ours take about 600 bytes with the longest names.
const MAX_HEAD: usize = 4096;
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

#[derive(Debug, PartialEq, Eq)]
enum Position {
    Head(Vec<u8>),
    Length(u64),
    ChunkLine(Vec<u8>),
    ChunkData(u64),
    /// The CRLF after a chunk, or after the last one; so many octets of it were read.
    ChunkEnd {
        read: usize,
        last: bool,
    },
    Done,
}

/// The response to one request, as far as it came.
#[derive(Debug)]
pub(super) struct BackendResponse {
    sequence: u64,
    head_only: bool,
    code: Option<u16>,
    position: Position,
}

impl BackendResponse {
    /// The answer to the request of this sequence number.
    pub(super) fn new(sequence: u64, head_only: bool) -> Self {
        Self { sequence, head_only, code: None, position: Position::Head(Vec::new()) }
    }

    /// The status code, once the head was read.
    pub(super) fn code(&self) -> Option<u16> {
        self.code
    }

    /// Takes what came; appends what the client shall get. `true` at the end.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, ResponseError> {
        while !bytes.is_empty() {
            let used = match &mut self.position {
                Position::Done => return Err(ResponseError::Surplus),
                Position::Head(_) => {
                    let used = self.feed_head(bytes, out)?;
                    bytes = bytes.get(used..).unwrap_or_default();
                    self.advance()?;
                    continue;
                }
                Position::Length(left) | Position::ChunkData(left) => {
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    taken
                }
                Position::ChunkLine(line) => feed_line(line, bytes)?,
                Position::ChunkEnd { read, .. } => {
                    if bytes.first() != b"\r\n".get(*read) {
                        return Err(ResponseError::Framing);
                    }
                    *read += 1;
                    1
                }
            };
            let (taken, rest) = bytes.split_at(used.min(bytes.len()));
            out.extend_from_slice(taken);
            bytes = rest;
            self.advance()?;
        }
        Ok(self.position == Position::Done)
    }

    /// Collects the head; consumes all of it, and none of the body.
    fn feed_head(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, ResponseError> {
        let Position::Head(head) = &mut self.position else { return Err(ResponseError::Head) };
        let before = head.len();
        // One octet more than it may have tells that it is too long.
        let taken = bytes.len().min((MAX_HEAD + 1).saturating_sub(before));
        head.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        let from = before.saturating_sub(3);
        let found = head.get(from..).unwrap_or_default().windows(4).position(|w| w == b"\r\n\r\n");
        let Some(found) = found else {
            if head.len() > MAX_HEAD {
                return Err(ResponseError::Head);
            }
            return Ok(taken);
        };
        let end = from + found;
        let head = std::mem::take(head);
        let text = head.get(..end).and_then(|head| std::str::from_utf8(head).ok());
        self.mend(text.ok_or(ResponseError::Head)?, out)?;
        Ok(end + 4 - before)
    }

    /// Writes the head for the client, and learns the framing of what follows.
    fn mend(&mut self, head: &str, out: &mut Vec<u8>) -> Result<(), ResponseError> {
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let code: u16 = code.filter(|code| *code >= 200).ok_or(ResponseError::Head)?;
        out.extend_from_slice(status.as_bytes());
        out.extend_from_slice(b"\r\n");
        let (mut length, mut chunked, mut sequence) = (None, false, None);
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or(ResponseError::Head)?;
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is(wire::SEQUENCE) {
                sequence = Some(value.parse::<u64>().map_err(|_| ResponseError::Sequence)?);
                continue;
            }
            if is("Content-Length") {
                length = Some(value.parse::<u64>().map_err(|_| ResponseError::Head)?);
            } else if is("Transfer-Encoding") {
                chunked = true;
            }
            // RFC 9110, section 8.6: no length on a 204. What names the backend is nobody's
            // business, and the connection is the gate's.
            let dropped = is("Server") || is("Connection") || (code == 204 && is("Content-Length"));
            if !dropped {
                out.extend_from_slice(line.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
        if sequence != Some(self.sequence) {
            return Err(ResponseError::Sequence);
        }
        out.extend_from_slice(b"Connection: close\r\n\r\n");
        self.position = match (length, chunked) {
            (Some(_), true) | (None, false) => return Err(ResponseError::Head),
            _ if self.head_only || code == 204 || code == 304 => Position::Done,
            (Some(length), false) => Position::Length(length),
            (None, true) => Position::ChunkLine(Vec::new()),
        };
        self.code = Some(code);
        Ok(())
    }

    /// Steps over whatever is complete.
    fn advance(&mut self) -> Result<(), ResponseError> {
        let next = match &self.position {
            Position::Length(0) => Position::Done,
            Position::ChunkData(0) => Position::ChunkEnd { read: 0, last: false },
            Position::ChunkEnd { read: 2, last: true } => Position::Done,
            Position::ChunkEnd { read: 2, last: false } => Position::ChunkLine(Vec::new()),
            Position::ChunkLine(line) if line.ends_with(b"\r\n") => {
                let digits = line.get(..line.len() - 2).and_then(|d| std::str::from_utf8(d).ok());
                let digits = digits.filter(|d| d.bytes().all(|byte| byte.is_ascii_hexdigit()));
                match digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
                    None => return Err(ResponseError::Framing),
                    Some(0) => Position::ChunkEnd { read: 0, last: true },
                    Some(length) => Position::ChunkData(length),
                }
            }
            _ => return Ok(()),
        };
        self.position = next;
        Ok(())
    }
}

fn feed_line(line: &mut Vec<u8>, bytes: &[u8]) -> Result<usize, ResponseError> {
    let used = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
    if line.len() + used > MAX_CHUNK_LINE {
        return Err(ResponseError::Framing);
    }
    line.extend_from_slice(bytes.get(..used).unwrap_or_default());
    if line.ends_with(b"\n") && !line.ends_with(b"\r\n") {
        return Err(ResponseError::Framing);
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nServer: s\r\nDate: d\r\nWylis-Sequence: 7\r\n";
    const MENDED: &str = "HTTP/1.1 200 OK\r\nDate: d\r\n";

    /// Feeds the answer in pieces of `size`.
    fn feed(text: &str, head_only: bool, size: usize) -> Result<(bool, String), ResponseError> {
        let mut answer = BackendResponse::new(7, head_only);
        let mut out = Vec::new();
        let mut done = false;
        for piece in text.as_bytes().chunks(size) {
            done = answer.feed(piece, &mut out)?;
        }
        Ok((done, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn an_answer_is_mended_however_it_is_cut() {
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
            let expected = format!("{MENDED}{framing}Connection: close\r\n\r\n{body}");
            for size in 1..=text.len() {
                let fed = feed(&text, head_only, size);
                assert_eq!(fed, Ok((true, expected.clone())), "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn a_204_has_no_length() {
        let text = "HTTP/1.1 204 No Content\r\nWylis-Sequence: 7\r\nContent-Length: 0\r\n\r\n";
        let mended = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        assert_eq!(feed(text, false, 9), Ok((true, mended.to_owned())));
    }

    #[test]
    fn an_answer_to_another_request_is_noticed() {
        let of = |sequence: &str| {
            let text = format!("HTTP/1.1 200 OK\r\n{sequence}Content-Length: 0\r\n\r\n");
            feed(&text, false, 99)
        };
        assert_eq!(of("Wylis-Sequence: 8\r\n"), Err(ResponseError::Sequence));
        assert_eq!(of("Wylis-Sequence: x\r\n"), Err(ResponseError::Sequence));
        assert_eq!(of(""), Err(ResponseError::Sequence));
    }

    #[test]
    fn an_answer_that_is_framed_otherwise_is_an_error() {
        let chunked = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
        let cases = [
            (format!("{HEAD}Content-Length: 1\r\n\r\nab"), ResponseError::Surplus),
            (format!("{HEAD}\r\nab"), ResponseError::Head),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), ResponseError::Head),
            (format!("{HEAD}Content-Length: -1\r\n\r\n"), ResponseError::Head),
            ("HTTP/1.1 100 Continue\r\n\r\n".to_owned(), ResponseError::Head),
            ("h".repeat(MAX_HEAD + 1), ResponseError::Head),
            (format!("{chunked}x\r\n"), ResponseError::Framing),
            (format!("{chunked}\r\n"), ResponseError::Framing),
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
        fn no_octets_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), headed: bool) {
            let mut answer = BackendResponse::new(7, false);
            let mut out = Vec::new();
            if headed {
                let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
                answer.feed(head.as_bytes(), &mut out).unwrap();
            }
            let _ = answer.feed(&bytes, &mut out);
        }
    }
}
