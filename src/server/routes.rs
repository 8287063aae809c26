//! The routes: what each answers, and which lane the gate shall give it.

use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use tiny_http::{Header, Method, Request, Response, StatusCode};

use super::body::Body;
use super::page::{PAGE, PAGE_HEADERS};
use super::{Chunks, Document, HANDLER_STACK, NotShown, Shown, Views};
use crate::route::{Lane, Route};
use crate::wire::{self, KeepAlive};

/// What Prometheus expects of its text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const SILENT: &str = "the agent does not answer\n";
/// Answers one request. What must be gathered first is answered on a thread of its own, so that
/// neither probes nor scrapes wait for it.
pub(super) fn answer(request: Request, views: &Arc<dyn Views>) {
    let path = request.url().split('?').next().unwrap_or_default();
    if Route::of(path).lane() != Lane::Gathered {
        return answer_here(request, &**views);
    }
    // Left where both find it: dropped, it would be answered by tiny_http.
    let left = Arc::new(Mutex::new(Some(request)));
    let (given, views) = (Arc::clone(&left), Arc::clone(views));
    let thread = std::thread::Builder::new()
        .name("cluster".to_owned())
        .stack_size(HANDLER_STACK)
        .spawn(move || take(&given).map_or((), |request| answer_here(request, &*views)));
    if thread.is_err()
        && let Some(request) = take(&left)
    {
        respond(request, text(503, "no thread for it\n"));
    }
}

fn take(left: &Mutex<Option<Request>>) -> Option<Request> {
    left.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn answer_here(request: Request, views: &dyn Views) {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return respond(
            request,
            text(405, "method not allowed\n").with_header_of("Allow", "GET, HEAD"),
        );
    }
    let path = request.url().split('?').next().unwrap_or_default();
    match Route::of(path) {
        Route::KeepAlive => keepalive(request, views),
        Route::Metrics => streamed(request, PROMETHEUS_TEXT, views.metrics()),
        Route::Peers => document(request, views, views.peers()),
        Route::Row => document(request, views, views.row()),
        Route::Matrix => document(request, views, views.cluster()),
        Route::Healthz => health(request, views.healthy()),
        Route::Readyz => health(request, views.ready()),
        Route::Page => page(request),
        Route::Unknown => respond(request, text(404, "not found\n")),
        Route::Peer(node) => document(request, views, views.peer(&node)),
        Route::Pair(source, target) => document(request, views, views.pair(&source, &target)),
    }
}

fn keepalive(request: Request, views: &dyn Views) {
    let asked = *request.method() == Method::Get;
    let said = KeepAlive::read(|name| header(&request, name));
    if let Some(size) = said.as_ref().and_then(|said| said.size) {
        let octets = std::io::repeat(b'.').take(u64::try_from(size).unwrap_or(0));
        let large = Response::new(StatusCode(200), Vec::new(), octets, Some(size), None);
        return respond(request, introduced(large, views));
    }
    respond(request, introduced(Response::empty(204), views));
    // After the answer: what is made of it must not count as the path's latency.
    if asked {
        views.heard(said);
    }
}

/// Says who answers, and what it can.
fn introduced<R: Read>(response: Response<R>, views: &dyn Views) -> Response<R> {
    let response = response
        .with_header_of(wire::NODE, views.node().as_str())
        .with_header_of(wire::INSTANCE, views.instance().as_str())
        .with_header_of(wire::CAN, wire::CAPABILITIES);
    if views.draining() { response.with_header_of(wire::DRAINING, "1") } else { response }
}

fn health(request: Request, state: Result<(), String>) {
    match state {
        Ok(()) => respond(request, text(200, "ok\n")),
        Err(reason) => respond(request, text(503, &format!("{reason}\n"))),
    }
}

fn page(request: Request) {
    let length = Some(PAGE.len());
    let page = Response::new(StatusCode(200), Vec::new(), PAGE.as_bytes(), length, None)
        .with_chunked_threshold(usize::MAX);
    let add = |page: Response<_>, (name, value): (&str, &str)| page.with_header_of(name, value);
    respond(request, PAGE_HEADERS.into_iter().fold(page, add));
}

/// JSON of known length, of one moment.
fn document(request: Request, views: &dyn Views, shown: Shown) {
    let Document { length, chunks } = match shown {
        Ok(document) => document,
        Err(NotShown::Unknown) => return respond(request, text(404, "not found\n")),
        Err(NotShown::Silent) => return respond(request, text(503, SILENT)),
    };
    let response =
        Response::new(StatusCode(200), Vec::new(), Body::new(chunks), Some(length), None)
            // Or tiny_http would send it in chunks, without its length.
            .with_chunked_threshold(usize::MAX)
            .with_header_of("Content-Type", JSON)
            .with_header_of("Cache-Control", "no-store");
    respond(request, introduced(response, views));
}

fn streamed(request: Request, content_type: &str, chunks: Option<Chunks>) {
    let Some(chunks) = chunks else {
        return respond(request, text(503, SILENT));
    };
    let response = Response::new(StatusCode(200), Vec::new(), Body::new(chunks), None, None);
    respond(request, response.with_header_of("Content-Type", content_type));
}

fn text(code: u16, text: &str) -> Response<Cursor<Vec<u8>>> {
    let response = Response::from_data(text.as_bytes()).with_status_code(code);
    response.with_header_of("Content-Type", PLAIN_TEXT)
}

fn respond<R: Read>(request: Request, response: Response<R>) {
    let sequence = header(&request, wire::SEQUENCE).unwrap_or_default().to_owned();
    // It fails only when the gate is gone, and then the process is ending.
    let _ = request.respond(response.with_header_of(wire::SEQUENCE, &sequence));
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let found = request
        .headers()
        .iter()
        .find(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name));
    found.map(|header| header.value.as_str())
}

trait WithHeaderOf: Sized {
    /// Adds a header that is ASCII by its making; another one would be left out.
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
