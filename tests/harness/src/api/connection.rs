//! A connection of the fake API server: TLS, requests, answers.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use rustls::{ServerConnection, StreamOwned};

use super::behaviour::Behaviour;
use super::pod::TestPod;
use super::{Request, Shared, lock};
use crate::http::read_line;

/// The limit of a silent client: longer than any deadline of a client under test.
const IDLE: Duration = Duration::from_secs(60);
/// The size from which Go's server, and so the real API server, chunks its answers.
const CHUNKED_FROM: usize = 2048;

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Serves requests until the connection ends.
pub(super) fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let config = lock(&shared.identity).config();
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut input = BufReader::new(StreamOwned::new(connection, stream));
    while let Some(request) = read_request(&mut input)? {
        lock(&shared.log).push(request.clone());
        let output = input.get_mut();
        if !answer(output, &request, shared)? {
            break;
        }
        output.flush()?;
    }
    let output = input.get_mut();
    output.conn.send_close_notify();
    output.flush()?;
    output.sock.shutdown(Shutdown::Both)
}

fn read_request(input: &mut impl BufRead) -> io::Result<Option<Request>> {
    let first = match read_line(input) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        line => line?,
    };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mut headers = Vec::new();
    loop {
        let line = read_line(input)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let authorization = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .map(|(_, value)| value.clone());
    Ok(Some(Request {
        at: Instant::now(),
        method: method.to_owned(),
        target: target.to_owned(),
        authorization,
        headers,
    }))
}

/// Answers a request. Returns whether the connection stays open.
fn answer(output: &mut Tls, request: &Request, shared: &Shared) -> io::Result<bool> {
    let behaviour = lock(&shared.script).take();
    let mut writer = Counted { output, shared };
    match behaviour {
        Behaviour::Proper => proper(&mut writer, request, shared)?,
        Behaviour::Delay(pause) => {
            std::thread::sleep(pause);
            proper(&mut writer, request, shared)?;
        }
        Behaviour::Status(code, headers) => status(&mut writer, code, "injected", &headers)?,
        Behaviour::Redirect(url) => {
            status(&mut writer, 302, "Found", &[("Location".to_owned(), url)])?;
        }
        Behaviour::Body(body) => ok(&mut writer, body.as_bytes())?,
        Behaviour::Repeated(begin, piece, times, end) => {
            return repeated(&mut writer, [&begin, &piece, &end], times);
        }
        Behaviour::Raw(begin, piece) => {
            writer.write_all(begin.as_bytes())?;
            let many = piece.repeat(1024);
            loop {
                writer.write_all(many.as_bytes())?;
            }
        }
        Behaviour::EmptyList => {
            let version = shared.pods.version();
            let body = format!(
                "{{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\
                 \"metadata\":{{\"resourceVersion\":\"{version}\"}},\"items\":[]}}\n"
            );
            ok(&mut writer, body.as_bytes())?;
        }
        Behaviour::Truncated => {
            let body = listing(request, shared);
            head(&mut writer, 200, &[("Content-Length", &body.len().to_string())])?;
            writer.write_all(&body.as_bytes()[..body.len() / 2])?;
            return Ok(false);
        }
        Behaviour::Endless => {
            let pod = TestPod::new("wylis-endless", "node-endless", "10.9.9.9");
            let text = serde_json::to_string(&pod.object(1)).expect("a pod is JSON");
            return endless(&mut writer, "", &format!("{text},"));
        }
        Behaviour::EndlessPod => {
            let annotation = format!("\"key\":\"{}\",", "value ".repeat(1000));
            return endless(&mut writer, "{\"metadata\":{\"annotations\":{", &annotation);
        }
        Behaviour::Dripping(pause) => return drip(&mut writer, request, shared, pause),
        Behaviour::EndlessHead => {
            writer.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                writer.write_all(format!("X-Padding: {}\r\n", "x".repeat(1000)).as_bytes())?;
            }
        }
        Behaviour::Close => return Ok(false),
        Behaviour::Silence(pause) => {
            std::thread::sleep(pause);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Answers as a real server.
fn proper(writer: &mut Counted<'_>, request: &Request, shared: &Shared) -> io::Result<()> {
    let token = request.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
    if !token.is_some_and(|token| lock(&shared.tokens).contains(token)) {
        return status(writer, 401, "Unauthorized", &[]);
    }
    let path = request.target.split('?').next().unwrap_or("");
    if request.method != "GET" || namespace(path).is_none() {
        return status(writer, 404, "the server could not find the requested resource", &[]);
    }
    let wanted = request.query("resourceVersion").unwrap_or_default();
    let matching = request.query("resourceVersionMatch");
    if matching.is_some() && wanted.is_empty() {
        return status(
            writer,
            400,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
            &[],
        );
    }
    let Ok(wanted) = (if wanted.is_empty() { Ok(0) } else { wanted.parse::<u64>() }) else {
        return status(writer, 400, "invalid resource version", &[]);
    };
    if wanted > shared.pods.version() {
        let again = [("Retry-After".to_owned(), "1".to_owned())];
        return status(writer, 504, "Too large resource version", &again);
    }
    ok(writer, listing(request, shared).as_bytes())
}

fn namespace(path: &str) -> Option<&str> {
    path.strip_prefix("/api/v1/namespaces/")?.strip_suffix("/pods")
}

fn listing(request: &Request, shared: &Shared) -> String {
    let path = request.target.split('?').next().unwrap_or("");
    let selector = request.query("labelSelector").unwrap_or_default();
    let namespace = namespace(path).unwrap_or("");
    if request.wants_table() && shared.tables.load(Ordering::Relaxed) {
        return shared.pods.rows(namespace, &selector).body;
    }
    shared.pods.list(namespace, &selector).body
}

/// An endless list that starts with `begin`.
fn endless(writer: &mut Counted<'_>, begin: &str, piece: &str) -> io::Result<bool> {
    head(writer, 200, &[("Transfer-Encoding", "chunked")])?;
    let start = "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[";
    chunk(writer, format!("{start}{begin}").as_bytes())?;
    loop {
        chunk(writer, piece.as_bytes())?;
    }
}

/// A chunked body of pieces, several in a chunk.
fn repeated(
    writer: &mut Counted<'_>,
    [begin, piece, end]: [&str; 3],
    times: usize,
) -> io::Result<bool> {
    head(writer, 200, &[("Transfer-Encoding", "chunked")])?;
    let in_chunk = (16 * 1024 / piece.len()).clamp(1, times);
    let many = piece.repeat(in_chunk);
    chunk(writer, begin.as_bytes())?;
    for _ in 0..times / in_chunk {
        chunk(writer, many.as_bytes())?;
    }
    chunk(writer, format!("{}{end}", piece.repeat(times % in_chunk)).as_bytes())?;
    writer.write_all(b"0\r\n\r\n")?;
    Ok(true)
}

fn drip(
    writer: &mut Counted<'_>,
    request: &Request,
    shared: &Shared,
    pause: Duration,
) -> io::Result<bool> {
    let body = listing(request, shared);
    head(writer, 200, &[("Content-Length", &body.len().to_string())])?;
    for byte in body.bytes() {
        writer.write_all(&[byte])?;
        writer.flush()?;
        std::thread::sleep(pause);
    }
    Ok(true)
}

fn ok(writer: &mut Counted<'_>, body: &[u8]) -> io::Result<()> {
    if body.len() < CHUNKED_FROM {
        head(writer, 200, &[("Content-Length", &body.len().to_string())])?;
        return writer.write_all(body);
    }
    head(writer, 200, &[("Transfer-Encoding", "chunked")])?;
    // The size of Go's buffer.
    for part in body.chunks(4096) {
        chunk(writer, part)?;
    }
    writer.write_all(b"0\r\n\r\n")
}

fn chunk(writer: &mut Counted<'_>, part: &[u8]) -> io::Result<()> {
    let mut framed = format!("{:x}\r\n", part.len()).into_bytes();
    framed.extend_from_slice(part);
    framed.extend_from_slice(b"\r\n");
    writer.write_all(&framed)
}

fn status(
    writer: &mut Counted<'_>,
    code: u16,
    message: &str,
    headers: &[(String, String)],
) -> io::Result<()> {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason(code), "code": code,
    })
    .to_string();
    let length = body.len().to_string();
    let mut all = vec![("Content-Length", length.as_str())];
    all.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    head(writer, code, &all)?;
    writer.write_all(body.as_bytes())
}

fn head(writer: &mut Counted<'_>, code: u16, headers: &[(&str, &str)]) -> io::Result<()> {
    let mut text = format!(
        "HTTP/1.1 {code} {}\r\nAudit-Id: 5b0f6d5e-7d1c-4c0a-9d6b-0d6f1f0e5a11\r\n\
         Cache-Control: no-cache, private\r\nContent-Type: application/json\r\n\
         Date: {}\r\n\
         X-Kubernetes-Pf-Flowschema-Uid: 4b7f6a3e-53c1-4a39-8f0e-1f9a7d1b2c3d\r\n",
        reason(code),
        httpdate::fmt_http_date(SystemTime::now() + writer.shared.ahead())
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    writer.write_all(text.as_bytes())
}

fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        302 => "Found",
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    }
}

/// Counts what goes out.
struct Counted<'a> {
    output: &'a mut Tls,
    shared: &'a Shared,
}

impl Write for Counted<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.output.write(buffer)?;
        self.shared.bytes.fetch_add(written as u64, Ordering::SeqCst);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A query parameter of a target, percent-decoded.
pub(super) fn query(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| percent_decode(value))
}

fn percent_decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(if byte == b'+' { b' ' } else { byte });
            continue;
        }
        let mut hex = [0; 2];
        let whole = bytes.by_ref().take(2).zip(&mut hex).map(|(byte, slot)| *slot = byte).count();
        let hex = std::str::from_utf8(&hex).ok().filter(|_| whole == 2);
        decoded.push(hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(b'?'));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
