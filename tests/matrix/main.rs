//! The matrix: collected by real agents, from peers that answer, freeze, lie or are of another release.
#![cfg(test)]

mod busy;
mod collect;
mod health;
mod hostile;
mod past;
mod past_hostile;
mod through;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use wylis_harness::http;

/// The agent under test.
fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}

/// Faster than the defaults, except for the timeout, since the machine may be busy.
const FAST: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1s"),
    ("WYLIS_TIMEOUT", "5s"),
    ("WYLIS_REFRESH_INTERVAL", "2s"),
    ("WYLIS_DRAIN", "1s"),
];
/// The deadline of a collection.
const DEADLINE: Duration = Duration::from_secs(2);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(1);
/// How long a matrix is cached.
const CACHE_TIME: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// A document of an agent, and the duration of the request.
fn document(agent: SocketAddr, path: &str) -> (Value, Duration) {
    let began = Instant::now();
    let response = http::get(agent, path).unwrap();
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    (serde_json::from_slice(&response.body).unwrap(), began.elapsed())
}

/// The row of a node in a matrix.
fn row<'a>(matrix: &'a Value, node: &str) -> &'a Value {
    let rows = matrix["rows"].as_array().unwrap();
    rows.iter().find(|row| row["node"] == node).unwrap_or(&Value::Null)
}

/// The cell of a pair in a matrix.
fn cell<'a>(matrix: &'a Value, source: &str, target: &str) -> &'a Value {
    let nodes = matrix["nodes"].as_array().unwrap();
    let index = nodes.iter().position(|node| node == target).unwrap();
    &row(matrix, source)["cells"][index]
}
