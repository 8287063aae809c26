//! The routes: what each answers, and which lane the gate shall give it.

use std::io::{Cursor, Read};

use tiny_http::{Header, Method, Request, Response, StatusCode};

use super::body::Body;
use super::{Chunks, Views};
use crate::wire::{self, KeepAlive};

/// What Prometheus expects of its text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// For people, until there is a page.
const INDEX: &str = "wylis\n\n/keepalive\n/metrics\n/healthz\n/readyz\n/api/v1/peers\n";
/// What paths without a route are counted under.
const OTHER: &str = "other";

/// Every label that [`route`] gives.
pub const LABELS: &[&str] =
    &[wire::KEEPALIVE_PATH, "/metrics", "/healthz", "/readyz", "/api/v1/peers", "/", OTHER];

/// What the gate must know of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Its name in the counters.
    pub label: &'static str,
    /// Whether its answer grows with the number of peers.
    pub bulk: bool,
}

/// Where a path goes.
#[must_use]
pub fn route(path: &str) -> Route {
    let label = LABELS.iter().find(|label| **label == path && path != OTHER);
    let label = label.copied().unwrap_or(OTHER);
    Route { label, bulk: matches!(label, "/metrics" | "/api/v1/peers") }
}

/// Answers one request.
pub(super) fn answer(request: Request, views: &dyn Views) {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return respond(
            request,
            text(405, "method not allowed\n").with_header_of("Allow", "GET, HEAD"),
        );
    }
    let path = request.url().split('?').next().unwrap_or_default();
    match path {
        wire::KEEPALIVE_PATH => keepalive(request, views),
        "/metrics" => streamed(request, PROMETHEUS_TEXT, views.metrics()),
        "/api/v1/peers" => streamed(request, JSON, views.peers()),
        "/healthz" => health(request, views.healthy()),
        "/readyz" => health(request, views.ready()),
        "/" => respond(request, text(200, INDEX)),
        _ => respond(request, text(404, "not found\n")),
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

fn streamed(request: Request, content_type: &str, chunks: Option<Chunks>) {
    let Some(chunks) = chunks else {
        return respond(request, text(503, "the agent does not answer\n"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_its_own_route_and_unknown_paths_share_one() {
        for label in LABELS.iter().filter(|label| **label != OTHER) {
            assert_eq!(route(label).label, *label);
        }
        for path in ["/nothing", OTHER, "", "/metrics/"] {
            assert_eq!(route(path), Route { label: OTHER, bulk: false });
        }
        assert!(route("/metrics").bulk && !route("/keepalive").bulk);
    }
}
