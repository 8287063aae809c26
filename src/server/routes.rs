//! The answer of every route.

mod past;

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tiny_http::{Header, Method, Request, Response, StatusCode};

use super::body::Body;
use super::page::{self, PAGE_GZIP, PAGE_HEADERS};
use super::renderer::CachedRow;
use super::{ANSWER_STACK, Ask, Views, on_the_handler};
use crate::document::{Chunks, MAX_ROW, health_json, health_text, matrix_json};
use crate::document::{pair_json, peer_json, peers_json, read_row, row_json};
use crate::gzip::{self, Level};
use crate::matrix::RowError;
use crate::metrics;
use crate::name::NodeName;
use crate::route::{Lane, Route};
use crate::wire::{self, KeepAlive};

/// The content type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const ACCEPT: &str = "Accept";
const ACCEPT_ENCODING: &str = "Accept-Encoding";

/// Maximum bytes of one peer with all details: 253 for each name, and 20 probes.
const MAX_PEER: usize = 16 * 1024;

/// A status and a line of text.
type Line = (u16, &'static str);
const NOT_FOUND: Line = (404, "not found\n");
const UNRESPONSIVE: Line = (503, "the agent does not respond\n");
const NO_ROW: Line = (503, "the peer sent no row\n");
const NO_THREAD: Line = (503, "cannot start a thread\n");

/// A line of text in place of a document.
struct Refusal(u16, Cow<'static, str>);

impl From<Line> for Refusal {
    fn from((code, line): Line) -> Self {
        Self(code, Cow::Borrowed(line))
    }
}

/// The head of a large answer as the gate sends it, without the headers that name the agent and the digits of
/// the content's length.
const LARGE_HEAD: &str = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: \r\n\
                          Connection: close\r\n\r\n";

/// The longest response that the handler sends without a mark: it fits the socket and the gate's buffer.
const SHORT: usize = 16 * 1024;

/// Answers one request: a small one here, any other on a thread of its own, so that probes wait neither
/// for its collection from peers nor for its client. Without a thread, only bulk is answered.
pub(super) fn answer(request: Request, views: &Arc<dyn Views>) {
    let route = route(&request);
    let lane = route.lane();
    if lane == Lane::Small {
        return answer_here(request, route, &**views);
    }
    // Shared, so that it is still here when no thread starts: dropping it lets tiny_http answer 500.
    let shared = Arc::new(Mutex::new(Some(request)));
    let (given, given_views) = (Arc::clone(&shared), Arc::clone(views));
    let given_route = route.clone();
    let thread = std::thread::Builder::new()
        .name(lane.as_str().to_owned())
        .stack_size(ANSWER_STACK)
        .spawn(move || {
            if let Some(request) = take(&given) {
                answer_here(request, given_route, &*given_views);
            }
        });
    if thread.is_err()
        && let Some(request) = take(&shared)
    {
        match lane {
            Lane::Bulk => answer_here(request, route, &**views),
            _ => respond(request, text(NO_THREAD)),
        }
    }
}

fn take(shared: &Mutex<Option<Request>>) -> Option<Request> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn route(request: &Request) -> Route {
    match Route::of(request.url().split('?').next().unwrap_or_default()) {
        Route::Survey if *request.method() == Method::Post => Route::SurveyCommand,
        route => route,
    }
}

fn answer_here(request: Request, route: Route, views: &dyn Views) {
    let is_admitted = match request.method() {
        Method::Get | Method::Head => true,
        Method::Post => route == Route::SurveyCommand,
        _ => false,
    };
    if !is_admitted {
        let answer = text((405, "method not allowed\n")).with_header_of("Allow", "GET, HEAD");
        return respond(request, answer);
    }
    match route {
        Route::KeepAlive => keepalive(request, views),
        Route::Healthz => health(request, views.healthy()),
        Route::Readyz => health(request, views.ready()),
        Route::Page => page(request),
        Route::Metrics => scrape(request, views),
        Route::Health => monitor(request, views),
        Route::SurveyCommand => command(request, views),
        route => match document(&route, accepts_gzip(&request), views) {
            Ok(content) => {
                let headers = [("Content-Type", JSON), ("Cache-Control", "no-store")];
                respond_content(request, 200, content, &headers, |answer| {
                    introduced(answer, views)
                });
            }
            Err(Refusal(code, line)) => respond(request, text((code, &line))),
        },
    }
}

/// The body of an answer.
struct Content {
    reader: Box<dyn Read + Send>,
    /// `None`: sent in chunks.
    length: Option<usize>,
    gzip: bool,
    /// Of a row, which may be cached.
    age: Option<Duration>,
}

impl Content {
    fn whole(content: impl AsRef<[u8]> + Send + 'static, gzip: bool) -> Self {
        let length = Some(content.as_ref().len());
        Self { reader: Box::new(Cursor::new(content)), length, gzip, age: None }
    }

    /// Compressed if accepted, and worth it. `render` must give the same each time: it is called once
    /// more to send the content as it is, and once to measure that first. That costs CPU in place of
    /// memory.
    fn of(
        accepted: Option<Level>,
        views: &dyn Views,
        measured: bool,
        render: &dyn Fn() -> Chunks,
    ) -> Self {
        let compressed = accepted.and_then(|level| views.renderer().gzip(render(), level));
        if let Some(compressed) = compressed {
            return Self::whole(compressed, true);
        }
        let length = measured.then(|| render().map(|chunk| chunk.len()).sum());
        Self { reader: Box::new(Body::new(render())), length, gzip: false, age: None }
    }

    fn row(row: CachedRow, accepted: bool, now: Instant) -> Self {
        let CachedRow { content, gzip, at } = row;
        let content = match gzip::content_length(&content).filter(|_| gzip && !accepted) {
            // Older agents read no gzip; what was compressed here can be inflated.
            Some(length) => {
                Self::whole(gzip::decompress(&content, length).unwrap_or_default(), false)
            }
            None => Self::whole(content, gzip),
        };
        Self { age: Some(now.saturating_duration_since(at)), ..content }
    }
}

/// The JSON document of a route.
fn document(route: &Route, gzip: bool, views: &dyn Views) -> Result<Content, Refusal> {
    let (node, instance) = (views.node(), views.instance());
    let snapshot = || views.snapshot().ok_or(UNRESPONSIVE);
    let level = gzip.then_some(Level::Small);
    let content = |render: &dyn Fn() -> Chunks| Content::of(level, views, true, render);
    let short = |text: Vec<u8>| content(&|| Box::new(std::iter::once(text.clone())));
    match route {
        Route::Peers => {
            let snapshot = snapshot()?;
            Ok(content(&|| peers_json(node, instance, &snapshot)))
        }
        Route::Row => {
            let now = Instant::now();
            let row = views.renderer().row(now, || {
                let snapshot = views.snapshot()?;
                Some(move || row_json(node, instance, &snapshot))
            });
            Ok(row.map(|row| Content::row(row, gzip, now)).ok_or(UNRESPONSIVE)?)
        }
        Route::Matrix => {
            let matrix = views.matrix().ok_or(UNRESPONSIVE)?;
            let level = gzip.then_some(Level::Fast);
            Ok(Content::of(level, views, true, &|| matrix_json(&matrix)))
        }
        Route::Survey => Ok(short(views.survey())),
        Route::Peer(peer) => {
            let snapshot = snapshot()?;
            Ok(short(peer_json(node, instance, &snapshot, peer).ok_or(NOT_FOUND)?))
        }
        Route::RowOf(peer) => {
            let path = wire::ROW_PATH.to_owned();
            let ask = Ask { path, max_bytes: MAX_ROW, is_for_another: true };
            passed_on(views, peer, ask, &|row| read_row(peer, row).is_ok()).map(short)
        }
        Route::Pair(source, target) => {
            let snapshot = snapshot()?;
            let path = format!("{}{target}", wire::PEER_PATH);
            let ask = Ask { path, max_bytes: MAX_PEER, is_for_another: false };
            let peer = if source == node {
                peer_json(node, instance, &snapshot, target).ok_or(RowError::NoPeer)
            } else {
                views.fetch(&snapshot, source, ask)
            };
            if let Err(RowError::NoPeer | RowError::Unsupported) = peer {
                return Err(NOT_FOUND.into());
            }
            Ok(short(pair_json(source, target, peer.as_deref().map_err(|error| *error))))
        }
        _ => past::document(route, level, views),
    }
}

/// What a peer sends for another agent. It is checked, so that nothing else passes in this agent's name.
fn passed_on(
    views: &dyn Views,
    peer: &NodeName,
    ask: Ask,
    is_valid: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, Refusal> {
    let snapshot = views.snapshot().ok_or(UNRESPONSIVE)?;
    match views.fetch(&snapshot, peer, ask) {
        Err(RowError::NoPeer) => Err(NOT_FOUND.into()),
        fetched => Ok(fetched.ok().filter(|document| is_valid(document)).ok_or(NO_ROW)?),
    }
}

/// Answers with content that may be compressed.
fn respond_content(
    request: Request,
    code: u16,
    content: Content,
    headers: &[(&str, &str)],
    introduce: impl FnOnce(Response<Box<dyn Read + Send>>) -> Response<Box<dyn Read + Send>>,
) {
    let Content { reader, length, gzip, age } = content;
    let response = Response::new(StatusCode(code), Vec::new(), reader, length, None);
    // Above the default threshold tiny_http sends chunks without a length.
    let response =
        if length.is_some() { response.with_chunked_threshold(usize::MAX) } else { response };
    let add =
        |response: Response<_>, (name, value): &(&str, &str)| response.with_header_of(name, value);
    let mut response = headers.iter().fold(response, add).with_header_of("Vary", ACCEPT_ENCODING);
    if gzip {
        response = response.with_header_of("Content-Encoding", "gzip");
    }
    if let Some(age) = age {
        response = response.with_header_of("Age", &age.as_secs().to_string());
        response = response.with_header_of(wire::AGE, &age.as_millis().to_string());
    }
    respond(request, introduce(response));
}

/// Whether the client accepts gzip, as the gate has read it.
fn accepts_gzip(request: &Request) -> bool {
    header(request, ACCEPT_ENCODING) == Some("gzip")
}

fn accepted(request: &Request) -> Option<Level> {
    accepts_gzip(request).then_some(Level::Small)
}

fn keepalive(request: Request, views: &dyn Views) {
    let is_get = *request.method() == Method::Get;
    let keep_alive = KeepAlive::read(|name| header(&request, name));
    let client = header(&request, wire::CLIENT).and_then(|text| text.parse().ok());
    if let Some(size) = keep_alive.as_ref().and_then(|keep_alive| keep_alive.size) {
        let size = if size > wire::MAX_SEGMENT { size } else { content_of(size, views) };
        let bytes = std::io::repeat(b'.').take(u64::try_from(size).unwrap_or(0));
        let large = Response::new(StatusCode(200), Vec::new(), bytes, Some(size), None);
        return respond(request, introduced(large, views));
    }
    let mut blank = introduced(Response::empty(204), views);
    if let Some(seal) = keep_alive.as_ref().and_then(|keep_alive| views.seal(keep_alive)) {
        blank = blank.with_header_of(wire::TOKEN, seal.as_str());
    }
    respond(request, blank);
    // After the answer, so that counting adds nothing to the latency of the path.
    if is_get {
        views.request_received(keep_alive, client);
    }
}

/// A command of a survey. Without its header, which no page of another origin can send, it is none.
fn command(request: Request, views: &dyn Views) {
    let (code, content) = match header(&request, wire::SURVEY) {
        None => (400, b"no command\n".to_vec()),
        Some(command) => {
            let sender = KeepAlive::read(|name| header(&request, name));
            let client = header(&request, wire::CLIENT).and_then(|text| text.parse().ok());
            views.command(command, sender, client)
        }
    };
    let content_type = if content.starts_with(b"{") { JSON } else { PLAIN_TEXT };
    let response = Response::from_data(content).with_status_code(code);
    let response = response.with_header_of("Content-Type", content_type);
    // A document of many pairs is long, and a part would not do.
    respond(request, response.with_chunked_threshold(usize::MAX));
}

/// The size of the content that makes a large answer `size` bytes, head included; zero if the head alone is
/// longer. One digit more in the length of the content may make it a byte more.
fn content_of(size: usize, views: &dyn Views) -> usize {
    let lines = introduction(views).map(|(name, value)| name.len() + value.len() + ": \r\n".len());
    let rest = size.saturating_sub(LARGE_HEAD.len() + lines.sum::<usize>());
    let digits = |number: usize| number.checked_ilog10().map_or(1, |log| log as usize + 1);
    rest.saturating_sub(digits(rest.saturating_sub(digits(rest))))
}

/// Adds the headers that name the answering agent and its capabilities.
fn introduced<R: Read>(response: Response<R>, views: &dyn Views) -> Response<R> {
    introduction(views)
        .fold(response, |response, (name, value)| response.with_header_of(name, value))
}

fn introduction(views: &dyn Views) -> impl Iterator<Item = (&str, &str)> {
    let always = [
        (wire::NODE, views.node().as_str()),
        (wire::INSTANCE, views.instance().as_str()),
        (wire::CAN, wire::CAPABILITIES),
    ];
    always.into_iter().chain(views.draining().then_some((wire::DRAINING, "1")))
}

fn health(request: Request, state: Result<(), String>) {
    match state {
        Ok(()) => respond(request, text((200, "ok\n"))),
        Err(reason) => respond(request, text((503, &format!("{reason}\n")))),
    }
}

/// The findings for an uptime monitor. An agent that drains answers as any other: a rolling update is no
/// fault.
fn monitor(request: Request, views: &dyn Views) {
    if let (Err(reason), false) = (views.ready(), views.draining()) {
        return health(request, Err(reason));
    }
    let Some(matrix) = views.matrix() else {
        return respond(request, text(UNRESPONSIVE));
    };
    let code = if matrix.findings().iter().any(|finding| finding.is_grave) { 503 } else { 200 };
    let (content_type, content) = match header(&request, ACCEPT) {
        Some(JSON) => (JSON, health_json(&matrix)),
        _ => (PLAIN_TEXT, health_text(&matrix).into_bytes()),
    };
    let render = || -> Chunks { Box::new(std::iter::once(content.clone())) };
    let content = Content::of(accepted(&request), views, true, &render);
    let headers = [("Content-Type", content_type), ("Cache-Control", "no-store"), ("Vary", ACCEPT)];
    respond_content(request, code, content, &headers, |answer| introduced(answer, views));
}

fn page(request: Request) {
    let content = match accepts_gzip(&request) {
        true => Content::whole(PAGE_GZIP, true),
        false => Content::whole(page::page(), false),
    };
    respond_content(request, 200, content, &PAGE_HEADERS, |answer| answer);
}

fn scrape(request: Request, views: &dyn Views) {
    let Some(snapshot) = views.snapshot() else {
        return respond(request, text(UNRESPONSIVE));
    };
    let render = || -> Chunks {
        let (node, snapshot) = (views.node().clone(), Arc::clone(&snapshot));
        Box::new(metrics::render(node, snapshot, views.agent_metrics()))
    };
    let content = Content::of(accepted(&request), views, false, &render);
    let headers = [("Content-Type", PROMETHEUS_TEXT)];
    respond_content(request, 200, content, &headers, |answer| answer);
}

fn text((code, text): (u16, &str)) -> Response<Cursor<Vec<u8>>> {
    let response = Response::from_data(text.as_bytes()).with_status_code(code);
    response.with_header_of("Content-Type", PLAIN_TEXT)
}

fn respond<R: Read>(request: Request, response: Response<R>) {
    let sequence = header(&request, wire::SEQUENCE).unwrap_or_default();
    let mut response = response.with_header_of(wire::SEQUENCE, sequence);
    if response.data_length().is_none_or(|length| length > SHORT) && on_the_handler() {
        response = response.with_header_of(wire::UNPAUSED, "1");
    }
    // Fails only without the gate, and then the process is ending.
    let _ = request.respond(response);
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let found = request
        .headers()
        .iter()
        .find(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name));
    found.map(|header| header.value.as_str())
}

trait WithHeaderOf: Sized {
    /// Adds a header of ASCII; any other is left out.
    fn with_header_of(self, name: &str, value: &str) -> Self;
}

impl<R: Read> WithHeaderOf for Response<R> {
    fn with_header_of(self, name: &str, value: &str) -> Self {
        match Header::from_bytes(name, value) {
            Ok(header) => self.with_header(header),
            Err(()) => self,
        }
    }
}
