//! A small blocking HTTP/1.1 client for tests: one connection, one request, one deadline.

use std::io::{self, BufRead as _, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The deadline of [`get`]: far longer than any answer takes.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names and values in the order received.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header with this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET path`, within [`DEADLINE`].
///
/// # Errors
/// The connection's errors, `TimedOut` at the deadline, `InvalidData` for invalid HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    get_with(address, path, &[], DEADLINE)
}

/// `GET path` with more headers, within `limit`.
///
/// # Errors
/// As [`get`].
pub fn get_with(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    limit: Duration,
) -> io::Result<Response> {
    exchange(address, request(address, path, headers).as_bytes(), limit)
}

/// The bytes of `GET path`.
#[must_use]
pub fn request(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request
}

/// Sends these bytes and reads one answer.
///
/// # Errors
/// As [`get`].
pub fn exchange(address: SocketAddr, request: &[u8], limit: Duration) -> io::Result<Response> {
    exchange_over(TcpStream::connect_timeout(&address, limit)?, request, limit)
}

/// As [`exchange`], over an open connection.
///
/// # Errors
/// As [`get`].
pub fn exchange_over(stream: TcpStream, request: &[u8], limit: Duration) -> io::Result<Response> {
    let deadline = Instant::now() + limit;
    let mut timed = Timed { stream, deadline };
    timed.stream.set_write_timeout(Some(limit))?;
    timed.stream.write_all(request)?;
    read_response(&mut timed)
}

/// A stream whose reads share one deadline.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// Reads one answer.
///
/// # Errors
/// As [`get`].
pub fn read_response(source: &mut impl Read) -> io::Result<Response> {
    let mut input = io::BufReader::new(source);
    let head = read_line(&mut input)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| invalid(&format!("status line {head:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut input)?;
        if line.is_empty() {
            break;
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| invalid(&format!("header {line:?}")))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers, body: Vec::new() };
    if status == 204 || status == 304 {
        return Ok(response);
    }
    let chunked = response.header("Transfer-Encoding").is_some_and(|value| value == "chunked");
    let length = response.header("Content-Length").map(str::to_owned);
    if chunked {
        response.body = read_chunks(&mut input)?;
    } else if let Some(length) = length {
        let length = length.parse().map_err(|_| invalid("Content-Length"))?;
        response.body.resize(length, 0);
        input.read_exact(&mut response.body)?;
    } else {
        input.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

fn read_chunks(input: &mut impl io::BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(input)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| invalid("chunk size"))?;
        let start = body.len();
        body.resize(start + size, 0);
        input.read_exact(&mut body[start..])?;
        let end = read_line(input)?;
        if !end.is_empty() {
            return Err(invalid("chunk end"));
        }
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Reads a line, without its end.
pub(crate) fn read_line(input: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    // Longer than any line in the tests.
    let read = input.take(64 * 1024).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = String::from_utf8(line).map_err(|_| invalid("a line that is not UTF-8"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes.
    fn answered(bytes: &'static str) -> io::Result<Response> {
        let listener = TcpListener::bind("127.60.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut input = io::BufReader::new(stream.try_clone().unwrap());
            while !read_line(&mut input).unwrap().is_empty() {}
            stream.write_all(bytes.as_bytes()).unwrap();
        });
        let response = get(address, "/");
        server.join().unwrap();
        response
    }

    #[test]
    fn bodies_are_read_by_length_by_chunks_and_to_the_end() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            let response = answered(text).unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{text}");
        }
        let empty = answered("HTTP/1.1 204 No Content\r\nWylis-Node: n\r\n\r\n").unwrap();
        assert_eq!((empty.status, empty.header("wylis-node")), (204, Some("n")));
        assert!(answered("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel").is_err());
        assert!(answered("nonsense\r\n\r\n").is_err());
    }
}
