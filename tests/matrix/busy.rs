//! Rows that agents are too busy to send, and documents in compressed form.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use wylis_harness::gzip::gunzip;
use wylis_harness::mesh::Mesh;
use wylis_harness::{http, wait_until};

use crate::{CACHE_TIME, FAST, PATIENCE, binary, document, row};

/// Sends more requests for the row of an agent than it answers, while `during` runs.
fn with_requests_for_rows(mesh: &Mesh, node: &str, during: impl FnOnce()) {
    let (address, stop) = (mesh.agent(node).address, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = http::get(address, "/api/v1/row");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let refused =
            || http::get(address, "/api/v1/row").is_ok_and(|response| response.status == 503);
        wait_until(PATIENCE, "its budget is spent", refused);
        during();
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_last_row_of_a_busy_peer_is_shown_with_its_age() {
    let mesh = Mesh::of(3, &binary(), FAST);
    let matrix = || document(mesh.agent("n1").address, "/api/v1/cluster").0;
    let first = matrix();
    assert!(first["rows"].as_array().unwrap().iter().all(|row| row["age_seconds"].is_null()));
    let mut busy = Value::Null;
    with_requests_for_rows(&mesh, "n2", || {
        wait_until(PATIENCE, "a row stands in", || {
            busy = matrix();
            assert_eq!(row(&busy, "n2")["error"], Value::Null, "{busy}");
            row(&busy, "n2")["age_seconds"].is_f64()
        });
    });
    let age = row(&busy, "n2")["age_seconds"].as_f64().unwrap();
    assert!((CACHE_TIME.as_secs_f64()..30.0).contains(&age), "{age}");
    let at = |matrix: &Value, node: &str| row(matrix, node)["at"].as_f64().unwrap();
    // By the clock of this machine, which the agents share.
    let since = at(&busy, "n1") - at(&busy, "n2");
    assert!((age - 1.0..age + CACHE_TIME.as_secs_f64() + 1.0).contains(&since), "{since}, {age}");
    assert!(row(&busy, "n3")["age_seconds"].is_null());
    wait_until(PATIENCE, "its row is new again", || row(&matrix(), "n2")["age_seconds"].is_null());
    assert_eq!(mesh.sum("wylis_probe_failures_total", &[]), 0.0);
}

#[test]
fn the_matrix_and_pairs_are_compressed_for_people_and_between_agents() {
    let mesh = Mesh::of(6, &binary(), FAST);
    let address = mesh.agent("n1").address;
    // Pairs have the bytes that compression is for after some probes.
    for path in ["/api/v1/cluster", "/api/v1/cluster/n1/n2", "/api/v1/cluster/n2/n3"] {
        let ask = || {
            let accepted = [("Accept-Encoding", "gzip")];
            http::get_with(address, path, &accepted, http::DEADLINE).unwrap()
        };
        let mut response = ask();
        wait_until(PATIENCE, "it is compressed", || {
            response = ask();
            response.header("Content-Encoding") == Some("gzip")
        });
        let document: Value = serde_json::from_slice(&gunzip(&response.body)).unwrap();
        assert_eq!(document["version"], 1, "{path}");
        assert_eq!(response.header("Vary"), Some("Accept-Encoding"), "{path}");
    }
}
