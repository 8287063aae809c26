//! The matrix of real agents.

use std::sync::Barrier;
use std::time::Duration;

use serde_json::Value;
use wylis_harness::http;
use wylis_harness::mesh::Mesh;
use wylis_harness::wait_until;

use crate::{CACHE_TIME, DEADLINE, FAST, PATIENCE, SLACK, binary, cell, document, row};

/// Requests for the row of this agent.
fn row_requests(mesh: &Mesh, node: &str) -> f64 {
    let labels = ["route=\"/api/v1/row\"", "code=\"200\""];
    mesh.agent(node).metrics().sum("wylis_gate_requests_total", &labels)
}

/// Every row is there, and every cell of two different nodes has a verdict.
fn assert_complete(matrix: &Value, names: &[String]) {
    assert_eq!(matrix["nodes"].as_array().unwrap(), names);
    for source in names {
        assert_eq!(row(matrix, source)["error"], Value::Null, "{source}: {matrix}");
        for target in names {
            let cell = cell(matrix, source, target);
            assert_eq!(cell["verdict"].is_string(), source != target, "{source} to {target}");
        }
    }
}

#[test]
fn the_matrix_is_complete_and_its_requests_count_as_no_keep_alive() {
    let mesh = Mesh::of(6, &binary(), FAST);
    // Counted before every agent knew all others.
    let unknown = || mesh.sum("wylis_incoming_requests_total", &["source_node=\"unknown\""]);
    let before = unknown();
    let (matrix, took) = document(mesh.agent("n1").address, "/api/v1/cluster");
    assert!(took < DEADLINE, "{took:?}");
    assert!(matrix["duration_seconds"].as_f64().unwrap() < 2.0);
    assert_eq!((&matrix["version"], &matrix["node"]), (&1.into(), &"n1".into()));
    let nodes = matrix["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 6);
    for source in nodes {
        for target in nodes.iter().filter(|target| *target != source) {
            let cell = cell(&matrix, source.as_str().unwrap(), target.as_str().unwrap());
            assert_eq!(cell["verdict"], "up", "{source} to {target}: {matrix}");
            assert!(cell["latency_seconds"].as_f64().unwrap() > 0.0);
            assert!(cell["at"].as_f64().unwrap() > 1.7e9);
        }
    }
    assert_eq!(unknown(), before, "a request for a row is no keep-alive");
    assert_eq!(mesh.sum("wylis_probe_failures_total", &[]), 0.0);
    assert_eq!(row_requests(&mesh, "n1"), 0.0, "the own row needs no request");
}

#[test]
fn a_frozen_peer_costs_no_more_than_the_deadline_and_only_its_row() {
    let mesh = Mesh::of(6, &binary(), FAST);
    let (one, frozen) = (mesh.agent("n1"), "n4");
    mesh.agent(frozen).signal(libc::SIGSTOP);
    let (matrix, took) = document(one.address, "/api/v1/cluster");
    assert!(took < DEADLINE + SLACK, "{took:?}");
    assert_eq!(row(&matrix, frozen)["error"], "response_timeout");
    assert_eq!(row(&matrix, frozen)["cells"], Value::Array(Vec::new()));
    for source in ["n1", "n2", "n3", "n5", "n6"] {
        for target in ["n1", "n2", "n3", "n5", "n6"].iter().filter(|target| **target != source) {
            assert_eq!(cell(&matrix, source, target)["verdict"], "up", "{source} to {target}");
        }
        assert_ne!(cell(&matrix, source, frozen), &Value::Null);
    }
    // A pair with the frozen peer as its source is missing too, after no more time.
    let (pair, took) = document(one.address, &format!("/api/v1/cluster/{frozen}/n1"));
    assert!(took < DEADLINE + SLACK, "{took:?}");
    assert_eq!((&pair["error"], &pair["peer"]), (&"response_timeout".into(), &Value::Null));
    // A peer that is known to be down has a shorter deadline.
    mesh.wait_for_verdict("n1", frozen, "down");
    let mut down = Value::Null;
    wait_until(PATIENCE, "the matrix has it down", || {
        down = document(one.address, "/api/v1/cluster").0;
        cell(&down, "n1", frozen)["verdict"] == "down"
    });
    assert_eq!(cell(&down, "n1", frozen)["reason"], "response_timeout");
    let took = down["duration_seconds"].as_f64().unwrap();
    assert!((0.5..1.5).contains(&took), "{took}");
    mesh.agent(frozen).signal(libc::SIGCONT);
    wait_until(PATIENCE, "its row is back", || {
        row(&document(one.address, "/api/v1/cluster").0, frozen)["error"].is_null()
    });
}

#[test]
fn simultaneous_requests_share_one_collection() {
    const CLIENTS: usize = 12;
    let mesh = Mesh::of(4, &binary(), FAST);
    let address = mesh.agent("n1").address;
    // So that all of them arrive during the collection.
    mesh.agent("n4").signal(libc::SIGSTOP);
    let start = Barrier::new(CLIENTS);
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let request = || {
            start.wait();
            document(address, "/api/v1/cluster").0
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(request)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    mesh.agent("n4").signal(libc::SIGCONT);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!([row_requests(&mesh, "n2"), row_requests(&mesh, "n3")], [1.0, 1.0]);
    // After that time the matrix is collected again.
    std::thread::sleep(CACHE_TIME);
    assert_ne!(document(address, "/api/v1/cluster").0["at"], answers[0]["at"]);
    assert_eq!(row_requests(&mesh, "n2"), 2.0);
}

#[test]
fn agents_that_collect_from_each_other_do_not_block_each_other() {
    let mesh = Mesh::of(6, &binary(), FAST);
    let names = mesh.names();
    for _ in 0..3 {
        let start = Barrier::new(names.len());
        let matrices: Vec<Value> = std::thread::scope(|scope| {
            let request = |node: &String| {
                let address = mesh.agent(node).address;
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    document(address, "/api/v1/cluster").0
                })
            };
            let clients: Vec<_> = names.iter().map(request).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        for matrix in matrices {
            assert_complete(&matrix, &names);
            assert!(
                matrix["duration_seconds"].as_f64().unwrap() < 2.0,
                "{}",
                matrix["duration_seconds"]
            );
        }
        std::thread::sleep(CACHE_TIME);
    }
}

#[test]
fn a_collection_delays_neither_probes_nor_scrapes() {
    /// Far above the delays of a busy machine, far below the deadline.
    const LATE: &str = "le=\"0.5\"";
    let mesh = Mesh::of(8, &binary(), FAST);
    let one = mesh.agent("n1");
    let before = one.metrics();
    mesh.agent("n8").signal(libc::SIGSTOP);
    for _ in 0..4 {
        std::thread::scope(|scope| {
            let collecting = scope.spawn(|| document(one.address, "/api/v1/cluster"));
            while !collecting.is_finished() {
                for path in ["/metrics", "/api/v1/peers", "/healthz", "/keepalive"] {
                    let began = std::time::Instant::now();
                    assert!(http::get(one.address, path).unwrap().status < 300, "{path}");
                    assert!(began.elapsed() < Duration::from_secs(1), "{path}");
                }
            }
            assert_eq!(row(&collecting.join().unwrap().0, "n2")["error"], Value::Null);
        });
        std::thread::sleep(CACHE_TIME);
    }
    let after = one.metrics();
    mesh.agent("n8").signal(libc::SIGCONT);
    assert_eq!(after.sum("wylis_local_errors_total", &[]), 0.0);
    let of_frozen = after.sum("wylis_probe_failures_total", &["target_node=\"n8\""]);
    assert!(of_frozen > 0.0);
    assert_eq!(after.sum("wylis_probe_failures_total", &[]), of_frozen, "only of the frozen peer");
    let delay = "wylis_schedule_delay_seconds";
    let made =
        after.sum(&format!("{delay}_count"), &[]) - before.sum(&format!("{delay}_count"), &[]);
    let bucket = format!("{delay}_bucket");
    let prompt = after.sum(&bucket, &[LATE]) - before.sum(&bucket, &[LATE]);
    assert!(made > 100.0, "{made}");
    // A stall of a busy machine delays some in any case.
    assert!(prompt >= 0.95 * made, "{prompt} of {made} probes started in time");
}

#[test]
fn asks_for_pairs_of_a_frozen_source_cost_its_askers_only() {
    const ASKS: usize = 12;
    let mesh = Mesh::of(4, &binary(), FAST);
    let (address, frozen) = (mesh.agent("n1").address, "n4");
    mesh.agent(frozen).signal(libc::SIGSTOP);
    std::thread::scope(|scope| {
        let ask = || http::get(address, &format!("/api/v1/cluster/{frozen}/n1")).unwrap();
        let asks: Vec<_> = (0..ASKS).map(|_| scope.spawn(ask)).collect();
        wait_until(PATIENCE, "the asks wait, or are refused", || {
            let metrics = mesh.agent("n1").metrics();
            metrics.sum("wylis_gate_rejected_total", &["reason=\"overload\""]) > 0.0
                || metrics.sum("wylis_gate_connections", &[]) > ASKS as f64
        });
        let (matrix, took) = document(address, "/api/v1/cluster");
        assert!(took < DEADLINE + SLACK, "{took:?}");
        assert_eq!(row(&matrix, "n2")["error"], Value::Null);
        // Of another source, after the one that is under way.
        let (pair, took) = document(address, "/api/v1/cluster/n2/n3");
        assert!(took < DEADLINE + SLACK, "{took:?}");
        assert_eq!(pair["peer"]["node"], "n3");
        let answers: Vec<_> = asks.into_iter().map(|ask| ask.join().unwrap()).collect();
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
        assert!((1..ASKS).contains(&refused.len()), "{}", refused.len());
        assert!(refused.iter().all(|answer| answer.header("Retry-After") == Some("1")));
    });
    mesh.agent(frozen).signal(libc::SIGCONT);
}

#[test]
fn a_pair_is_shown_as_its_source_sees_it() {
    let mesh = Mesh::of(3, &binary(), FAST);
    let address = mesh.agent("n1").address;
    for (source, target) in [("n1", "n2"), ("n2", "n1"), ("n2", "n3")] {
        let (pair, _) = document(address, &format!("/api/v1/cluster/{source}/{target}"));
        assert_eq!((&pair["source"], &pair["target"]), (&source.into(), &target.into()));
        assert_eq!((&pair["version"], &pair["peer"]["node"]), (&1.into(), &target.into()));
        assert!(pair["at"].as_f64().unwrap() > 1.7e9);
        assert!(!pair["peer"]["recent"].as_array().unwrap().is_empty());
        let (own, _) = document(mesh.agent(source).address, &format!("/api/v1/peers/{target}"));
        assert_eq!(own["node"], source);
        let fields = |peer: &Value| peer.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields(&own["peer"]), fields(&pair["peer"]));
    }
    for path in ["cluster/n1/n1", "cluster/n9/n1", "cluster/n2/n9", "peers/n1", "peers/n9"] {
        let response = http::get(address, &format!("/api/v1/{path}")).unwrap();
        assert_eq!(response.status, 404, "{path}");
    }
}
