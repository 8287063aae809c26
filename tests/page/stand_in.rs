//! A stand-in for an agent: serves the real page with its real headers, below a prefix as the API
//! server's pod proxy does, and the documents of a test.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use wylis::server::{PAGE_HEADERS, page};

use super::night::{DAY, PAST, day};

/// The prefix that the API server's proxy puts before a pod's root.
const BASE: &str = "/api/v1/namespaces/wylis/pods/wylis-abcde:9050/proxy/";

/// The documents, and counts of the requests.
#[derive(Default)]
struct Shared {
    /// Status and body by path, below the prefix.
    documents: Mutex<BTreeMap<String, (u16, String)>>,
    /// How long each answer takes.
    delay: Mutex<Duration>,
    requests: AtomicUsize,
    /// The paths of the requests, below the prefix.
    asked: Mutex<Vec<String>>,
    open: AtomicUsize,
    max_open: AtomicUsize,
}

/// The server; its threads end with the test.
pub(crate) struct StandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl StandIn {
    pub(crate) fn start(matrix: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stand_in = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        stand_in.serve("api/v1/cluster", matrix);
        stand_in.serve(DAY, &day(0, &[], &json!([])));
        let shared = Arc::clone(&stand_in.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(&shared, stream));
            }
        });
        stand_in
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{BASE}", self.address)
    }

    /// Serves a document from now on.
    pub(crate) fn serve(&self, path: &str, document: &Value) {
        self.serve_text(path, 200, &document.to_string());
    }

    pub(crate) fn serve_text(&self, path: &str, code: u16, text: &str) {
        self.shared.documents.lock().unwrap().insert(path.to_owned(), (code, text.to_owned()));
    }

    pub(crate) fn delay(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    /// Requests for documents so far.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The requests for the past, below its route, since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.shared.asked.lock().unwrap());
        asked.iter().filter_map(|path| Some(path.strip_prefix(PAST)?.to_owned())).collect()
    }

    /// Maximum of simultaneous requests.
    pub(crate) fn max_concurrent(&self) -> usize {
        self.shared.max_open.load(Ordering::SeqCst)
    }
}

fn answer(shared: &Shared, mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.find(String::is_empty);
    let path = request.split(' ').nth(1).unwrap_or_default();
    // The proxy serves the root also without the final slash.
    let Some(path) = path.strip_prefix(BASE.trim_end_matches('/')) else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        return;
    };
    let mut head = String::new();
    let path = path.trim_start_matches('/');
    let (code, body) = if path.is_empty() {
        PAGE_HEADERS.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        (200, String::from_utf8(page()).expect("text"))
    } else {
        shared.requests.fetch_add(1, Ordering::SeqCst);
        shared.asked.lock().unwrap().push(path.to_owned());
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.max_open.fetch_max(open, Ordering::SeqCst);
        std::thread::sleep(*shared.delay.lock().unwrap());
        shared.open.fetch_sub(1, Ordering::SeqCst);
        let known = shared.documents.lock().unwrap().get(path).cloned();
        known.unwrap_or((404, String::new()))
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {code} X\r\nContent-Length: {length}\r\nConnection: close\r\n{head}\r\n");
    // Fails when the browser has left the page.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// When all documents were written.
pub(crate) const AT: f64 = 1_790_000_000.0;

/// A matrix of these nodes, where every pair is up at 2 ms, or as `cell` says.
pub(crate) fn matrix(nodes: &[String], cell: impl Fn(usize, usize) -> Option<Value>) -> Value {
    let up = || json!({"verdict": "up", "latency_seconds": 0.002, "at": AT - 5.0});
    let row = |source: usize| {
        let cells: Vec<Value> = (0..nodes.len())
            .map(|target| {
                if source == target { Value::Null } else { cell(source, target).unwrap_or_else(up) }
            })
            .collect();
        json!({"node": nodes[source], "at": AT - 0.1, "cells": cells})
    };
    let rows: Vec<Value> = (0..nodes.len()).map(row).collect();
    json!({"version": 1, "node": nodes.first(), "at": AT, "duration_seconds": 0.03,
        "deadline_seconds": 2, "nodes": nodes, "rows": rows})
}

/// The names `n1` and so on.
pub(crate) fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("n{number}")).collect()
}

/// A cell of a pair that is down.
pub(crate) fn down() -> Value {
    json!({"verdict": "down", "reason": "connect_timeout", "failures": 20, "at": AT - 3.0})
}
