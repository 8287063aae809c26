//! Reads a request head as it comes, in constant memory, and writes the canonical one.
//!
//! Pure. Of the client's bytes only a path and values of a plain alphabet pass; everything else is
//! checked and dropped as it comes. Hostile bytes never reach tiny_http.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::counters::Rejection;
use super::encoding::{AcceptedEncodings, AcceptedTypes};
use crate::route::Route;
use crate::wire::{self, KeepAlive};

/// Longest request line: a path, and a query that is dropped.
const MAX_REQUEST_LINE: usize = 2048;
/// Longest path: the longest route holds two node names of 253 bytes each.
const MAX_PATH: usize = 544;
/// Longest value passed on: the longest node name.
const MAX_VALUE: usize = 253;
/// The start of a header line, which is buffered: the longest value, and 64 bytes for name, colon and
/// space. The longest known name takes 17.
const MAX_HEADER_LINE: usize = MAX_VALUE + 64;
const HOST: &str = "Host";
const CONTENT_LENGTH: &str = "Content-Length";
/// The same for the line of a command, which only a POST may have.
const MAX_COMMAND_LINE: usize = wire::MAX_SURVEY + 64;
/// Headers that may occur only once, beside those passed on (RFC 9112, sections 3.2 and 6.3).
const ONCE: [&str; 2] = [HOST, CONTENT_LENGTH];
/// Headers passed on if their value is plain.
const PASSED: [&str; 7] = [
    wire::NODE,
    wire::INSTANCE,
    wire::INTERVAL,
    wire::GOODBYE,
    wire::TOKEN,
    wire::SIZE,
    wire::SURVEY,
];

/// The methods that are admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    /// The response has no body.
    Head,
    /// To the survey alone, without a body.
    Post,
}

/// What is needed of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestHead {
    pub(super) method: Method,
    /// HTTP/1.0, which knows no chunks and needs no Host.
    pub(super) http_1_0: bool,
    /// The path without its query.
    pub(super) path: String,
    passed: Vec<(&'static str, String)>,
    encodings: AcceptedEncodings,
    types: AcceptedTypes,
    /// The Host is an address or `localhost`: no name that a foreign page could point at this agent.
    has_own_host: bool,
}

/// A head that is incomplete.
#[derive(Default)]
pub(super) struct HeadReader {
    /// The current line, without its end.
    line: Vec<u8>,
    /// The last byte was a CR.
    after_return: bool,
    length: usize,
    empty_line_skipped: bool,
    /// The headers of [`ONCE`] and [`PASSED`] so far, whatever their values.
    seen: Vec<&'static str>,
    /// `None` until the request line is complete.
    request: Option<RequestHead>,
}

impl HeadReader {
    /// Whether nothing was read yet.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads the next bytes; `Ok(None)` while the head is incomplete.
    ///
    /// Lines end with CRLF: a lone CR or LF reads differently elsewhere (RFC 9112, section 2.2). No
    /// other control character but the tab is allowed.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<RequestHead>, Rejection> {
        let room = wire::MAX_REQUEST_HEAD - self.length;
        let mut rest = bytes.get(..room).unwrap_or(bytes);
        self.length += rest.len();
        while !rest.is_empty() {
            let control = rest.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t');
            let (text, after) = rest.split_at(control.unwrap_or(rest.len()));
            self.add_text(text)?;
            let [control, after @ ..] = after else { break };
            rest = after;
            match (self.after_return, control) {
                (false, b'\r') => self.after_return = true,
                (true, b'\n') => {
                    self.after_return = false;
                    if let Some(request) = self.end_line()? {
                        // A body or a second request: one request a connection, and nothing after it.
                        let alone = rest.is_empty() && bytes.len() <= room;
                        return if alone { Ok(Some(request)) } else { Err(Rejection::Body) };
                    }
                }
                _ => return Err(Rejection::BadRequest),
            }
        }
        if self.length < wire::MAX_REQUEST_HEAD { Ok(None) } else { Err(Rejection::TooLarge) }
    }

    /// Buffers as much of a line as may be needed.
    fn add_text(&mut self, text: &[u8]) -> Result<(), Rejection> {
        if self.after_return && !text.is_empty() {
            return Err(Rejection::BadRequest);
        }
        let Some(request) = &self.request else {
            let room = MAX_REQUEST_LINE - self.line.len();
            self.line.extend_from_slice(text.get(..room).unwrap_or(text));
            return if text.len() > room { Err(Rejection::TooLarge) } else { Ok(()) };
        };
        // One byte more shows that a header line is too long.
        let room = (MAX_HEADER_LINE + 1).saturating_sub(self.line.len());
        let (start, rest) = text.split_at(room.min(text.len()));
        self.line.extend_from_slice(start);
        if self.line.len() > MAX_HEADER_LINE {
            let room = (request.max_line(&self.line) + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(rest.get(..room).unwrap_or(rest));
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<RequestHead>, Rejection> {
        let mut line = std::mem::take(&mut self.line);
        match &mut self.request {
            Some(_) if line.is_empty() => return self.finish().map(Some),
            Some(request) => request.add_header(&line, &mut self.seen)?,
            // RFC 9112, section 2.2: one empty line before the request is ignored.
            None if line.is_empty() && !self.empty_line_skipped => self.empty_line_skipped = true,
            None => {
                self.request = Some(RequestHead::from_line(&line)?);
                return Ok(None);
            }
        }
        // Reused by the next line, unless it was the request line, which may be long.
        line.clear();
        self.line = line;
        Ok(None)
    }

    /// RFC 9112, section 3.2: a Host, which HTTP/1.0 does not know.
    fn finish(&mut self) -> Result<RequestHead, Rejection> {
        let request = self.request.take().ok_or(Rejection::BadRequest)?;
        let valid = self.seen.contains(&HOST) || request.http_1_0;
        if valid { Ok(request) } else { Err(Rejection::BadRequest) }
    }
}

impl RequestHead {
    /// Reads the request line.
    fn from_line(line: &[u8]) -> Result<Self, Rejection> {
        let line = std::str::from_utf8(line).map_err(|_| Rejection::BadRequest)?;
        let mut parts = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Rejection::BadRequest);
        };
        let http_1_0 = match version.strip_prefix("HTTP/").unwrap_or_default().as_bytes() {
            b"1.1" => false,
            b"1.0" => true,
            [b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Rejection::Version),
            _ => return Err(Rejection::BadRequest),
        };
        if method.is_empty() || !method.bytes().all(is_token) || target.contains('\t') {
            return Err(Rejection::BadRequest);
        }
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" if path_of(target) == Some(wire::SURVEY_PATH) => Method::Post,
            _ => return Err(Rejection::Method),
        };
        let path = path_of(target).ok_or(Rejection::BadRequest)?;
        if path.len() > MAX_PATH || !path.bytes().all(is_path) {
            return Err(Rejection::Path);
        }
        let (path, encodings) = (path.to_owned(), AcceptedEncodings::default());
        let types = AcceptedTypes::default();
        let (passed, has_own_host) = (Vec::new(), false);
        Ok(Self { method, http_1_0, path, passed, encodings, types, has_own_host })
    }

    /// The route: with this method, of this path.
    pub(super) fn route(&self) -> Route {
        if self.method == Method::Post { Route::SurveyCommand } else { Route::of(&self.path) }
    }

    /// The longest line of a header that begins so.
    fn max_line(&self, start: &[u8]) -> usize {
        let name = start.split(|&byte| byte == b':').next().unwrap_or_default();
        let is_command = name.eq_ignore_ascii_case(wire::SURVEY.as_bytes());
        if is_command && self.method == Method::Post { MAX_COMMAND_LINE } else { MAX_HEADER_LINE }
    }

    /// Reads a header line, or the start of one that is too long. `seen` has the earlier ones that may
    /// occur only once: a dropped value must not let a second one through.
    fn add_header(&mut self, line: &[u8], seen: &mut Vec<&'static str>) -> Result<(), Rejection> {
        let colon = line.iter().position(|&byte| byte == b':').ok_or(Rejection::BadRequest)?;
        let (name, value) = line.split_at(colon);
        // Also refuses folded lines and space before the colon (RFC 9112, section 5).
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(Rejection::BadRequest);
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let whole = line.len() <= self.max_line(line);
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let no_body = whole && value == b"0";
        if is("Transfer-Encoding") || is("Expect") || (is(CONTENT_LENGTH) && !no_body) {
            return Err(Rejection::Body);
        }
        if is("Accept-Encoding") {
            // The rest of a line that is too long might refuse what its start accepts.
            self.encodings.add(if whole { value } else { b"gzip;q=0" });
        }
        if is("Accept") {
            // The rest of a line that is too long might refuse what its start accepts.
            self.types.add(if whole { value } else { b"application/json;q=0" });
        }
        let Some(&known) = PASSED.iter().chain(&ONCE).find(|known| is(known)) else {
            return Ok(());
        };
        if seen.contains(&known) {
            return Err(Rejection::BadRequest);
        }
        seen.push(known);
        self.has_own_host |= known == HOST && whole && is_own_host(value);
        let value = match (known, self.method) {
            (wire::SURVEY, Method::Post) => plain(value, wire::MAX_SURVEY, b" "),
            (wire::SURVEY, _) => None,
            _ => plain(value, MAX_VALUE, b""),
        };
        if let Some(value) = value.filter(|_| whole && PASSED.contains(&known)) {
            self.passed.push((known, value));
        }
        Ok(())
    }

    /// The sender of a blank request that shows a token back; any other proves nothing.
    pub(super) fn sender(&self) -> Option<KeepAlive> {
        let value = |name: &str| self.passed.iter().find(|(known, _)| *known == name);
        let request = KeepAlive::read(|name| value(name).map(|(_, value)| value.as_str()))?;
        let shows_echo = request.token.is_some_and(|token| token.echo.is_some());
        (request.size.is_none() && shows_echo).then_some(request)
    }

    /// Adds the client's address, for the server alone, where the server needs it. A client's own header of that
    /// name does not pass.
    pub(super) fn add_client(&mut self, route: &Route, address: IpAddr) {
        let command = *route == Route::SurveyCommand && self.has_own_host;
        if command || *route == Route::KeepAlive {
            self.passed.push((wire::CLIENT, address.to_string()));
        }
    }

    /// The request as forwarded, always in HTTP/1.1.
    pub(super) fn render(&self, sequence: u64) -> String {
        let method = match self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
        };
        let mut text = format!("{method} {} HTTP/1.1\r\nHost: wylis\r\n", self.path);
        for (name, value) in &self.passed {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if self.encodings.gzip() {
            text.push_str("Accept-Encoding: gzip\r\n");
        }
        if self.types.json() {
            text.push_str("Accept: application/json\r\n");
        }
        let _ = write!(text, "{}: {sequence}\r\n\r\n", wire::SEQUENCE);
        text
    }
}

/// The path of a target in origin form or absolute form (RFC 9112, section 3.2), without its query.
fn path_of(target: &str) -> Option<&str> {
    let target = target.split('?').next()?;
    if target.starts_with('/') {
        return Some(target);
    }
    let (scheme, rest) = target.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let known = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~%:[]".contains(&byte);
    let valid = known && !authority.is_empty() && authority.bytes().all(plain);
    valid.then_some(if path.is_empty() { "/" } else { path })
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte)
}

/// A value that needs no quoting anywhere, with `more` characters; a header with any other value is dropped.
fn plain(value: &[u8], max: usize, more: &[u8]) -> Option<String> {
    let safe =
        |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:,=".contains(byte) || more.contains(byte);
    let valid = (1..=max).contains(&value.len()) && value.iter().all(safe);
    String::from_utf8(value.to_vec()).ok().filter(|_| valid)
}

/// Whether a Host is an address or `localhost`, with or without a port.
fn is_own_host(value: &[u8]) -> bool {
    let text = str::from_utf8(value).unwrap_or_default();
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = port.strip_prefix(':').or(port.is_empty().then_some(""));
        return address.parse::<Ipv6Addr>().is_ok() && port.is_some_and(digits);
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    digits(port) && (host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests;
