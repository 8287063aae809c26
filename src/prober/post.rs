//! One POST without a body, over a new connection, for the commands of a survey. It blocks, and reads the status
//! and a bounded answer.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Response, Status};

use super::deadline_stream::DeadlineStream;
use super::failure::Step;
use super::fetch::{FetchError, fetch_error};
use crate::probe::FailureReason;

/// Most header fields of an answer.
const MAX_FIELDS: usize = 32;
/// Longest head of an answer.
const MAX_HEAD: usize = 4096;

/// Sends a POST with these headers; returns the status and the content.
///
/// # Errors
/// When no answer came in time, or it is malformed or longer than `max_bytes`.
pub fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    timeout: Duration,
    max_bytes: usize,
) -> Result<(u16, Vec<u8>), FetchError> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n");
    for (name, value) in headers {
        // Writing to a String cannot fail.
        let _ = write!(request, "{name}: {value}\r\n");
    }
    request.push_str("\r\n");
    let now = Instant::now();
    let stream = connect(address, now.checked_add(timeout).unwrap_or(now))?;
    let exchange = |error: io::Error| fetch_error(Step::Exchange, &error);
    stream.send(request.as_bytes()).map_err(exchange)?;
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(answer) = answer(&received, max_bytes)? {
            return Ok(answer);
        }
        match stream.read(&mut piece).map_err(exchange)? {
            0 => return Err(FetchError::Failure(FailureReason::Closed)),
            count => received.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
}

/// Connects before the deadline.
fn connect(address: SocketAddr, deadline: Instant) -> Result<DeadlineStream, FetchError> {
    let (stream, connecting) =
        DeadlineStream::open(address, deadline).map_err(|error| fetch_error(Step::Open, &error))?;
    connecting.map_err(|error| fetch_error(Step::Open, &error))?;
    let connected = stream.finish_connect().map_err(|error| fetch_error(Step::Connect, &error));
    connected.map(|()| stream)
}

/// The status and the content, once both are complete.
fn answer(received: &[u8], max_bytes: usize) -> Result<Option<(u16, Vec<u8>)>, FetchError> {
    const BAD: FetchError = FetchError::Failure(FailureReason::BadResponse);
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut response = Response::new(&mut fields);
    let head = match response.parse(received).map_err(|_| BAD)? {
        Status::Complete(head) => head,
        Status::Partial if received.len() < MAX_HEAD => return Ok(None),
        Status::Partial => return Err(BAD),
    };
    let length =
        response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("Content-Length"));
    let length = length.and_then(|field| str::from_utf8(field.value).ok()?.parse().ok());
    let (status, length): (u16, usize) = response.code.zip(length).ok_or(BAD)?;
    if length > max_bytes {
        return Err(FetchError::TooLarge);
    }
    let content = received.get(head..).unwrap_or_default();
    Ok(content.get(..length).map(|content| (status, content.to_vec())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 100;

    #[test]
    fn an_answer_is_read_once_it_is_complete() {
        let text = "HTTP/1.1 409 Conflict\r\ncontent-length: 4\r\n\r\nbusy";
        for end in 0..text.len() {
            assert_eq!(answer(&text.as_bytes()[..end], MAX), Ok(None), "{end}");
        }
        assert_eq!(answer(text.as_bytes(), MAX), Ok(Some((409, b"busy".to_vec()))));
    }

    #[test]
    fn bad_and_long_answers_are_errors() {
        for bad in [
            "SSH-2.0\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            let result = answer(bad.as_bytes(), MAX);
            assert_eq!(result, Err(FetchError::Failure(FailureReason::BadResponse)), "{bad}");
        }
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n";
        assert_eq!(answer(long.as_bytes(), MAX), Err(FetchError::TooLarge));
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(answer(endless.as_bytes(), MAX).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = answer(&bytes, MAX);
            let _ = answer(&[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n".to_vec(), bytes].concat(), MAX);
        }
    }
}
