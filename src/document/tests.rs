//! Documents written and read back, and documents of hostile peers.

mod found;
mod past;
mod remembered;

use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::matrix::{Cell, Matrix};
use crate::peer::Peer;
use crate::probe::{Answer, KernelView, Outcome, ProbeKind, Report, Timings};
use crate::state::{MeshState, Moment, PeerRecord, RECENT, StateSettings};

const DEADLINE: Duration = Duration::from_secs(2);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn success(milliseconds: u64) -> Outcome {
    let time = Duration::from_millis(milliseconds);
    let timings = Timings { connect: time, response: time, total: time };
    Outcome::Success { timings, answer: Answer::default() }
}

fn failure(reason: FailureReason) -> Outcome {
    Outcome::Failure(reason)
}

/// The snapshot of a node: each peer with the outcomes of its probes and their retransmits.
fn view(of: &str, peers: &[(&str, &[(Outcome, u32)])]) -> Arc<Snapshot> {
    let interval = Duration::from_secs(10);
    let mut state = MeshState::new(StateSettings {
        failure_threshold: 3,
        interval,
        large_interval: Duration::ZERO,
        host_port: None,
        source: name(of),
        drain: interval,
        bounds: [1.0].into(),
        key: crate::token::TokenKey::new(b"key"),
    });
    let peer = |node: &str| Peer {
        node: name(node),
        address: "10.0.0.1:9050".parse().unwrap(),
        other_addresses: Vec::new(),
        host: None,
        instance: None,
        ready: None,
    };
    state.peers(peers.iter().map(|(node, _)| peer(node)).collect(), interval);
    let now = Moment::now();
    for (node, outcomes) in peers {
        for (id, (outcome, retransmits)) in (1..).zip(*outcomes) {
            state.begin(&name(node), id);
            let report = Report {
                id,
                node: name(node),
                due: now.instant,
                started: now.instant,
                ended: Instant::now(),
                kind: ProbeKind::Blank,
                outcome: outcome.clone(),
                kernel: Some(KernelView { retransmits: *retransmits, ..KernelView::default() }),
            };
            state.report(now, &report);
        }
    }
    Arc::new(state.snapshot(now))
}

fn text(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    chunks.flatten().collect()
}

fn row_document(node: &str, snapshot: &Arc<Snapshot>) -> Vec<u8> {
    text(row_json(&name(node), &Instance::new("instance-1").unwrap(), snapshot))
}

fn written(matrix: Matrix) -> Value {
    let matrix = Arc::new(matrix.finish(Duration::from_millis(34)));
    serde_json::from_slice(&text(matrix_json(&matrix))).unwrap()
}

/// Adds the row in a document.
fn add(matrix: &mut Matrix, peer: &str, document: &[u8]) {
    let peer = name(peer);
    matrix.add(&peer, read_row(&peer, document).map_err(RowError::from));
}

/// The matrix of n1, whose peers n2 and n3 sent these documents.
fn with(documents: &[(&str, &[u8])]) -> Value {
    let snapshot = view("n1", &[("n2", &[(success(12), 0)]), ("n3", &[])]);
    let mut matrix = Matrix::new(&name("n1"), &snapshot, DEADLINE);
    for (peer, document) in documents {
        add(&mut matrix, peer, document);
    }
    written(matrix)
}

#[test]
fn a_row_reads_back_as_it_was_written() {
    let twenty = vec![(success(3), 0); 20];
    let down = [(success(5), 1), (failure(FailureReason::Refused), 2)];
    let snapshot = view("n1", &[("n2", &twenty), ("n3", &down), ("n4", &[])]);
    let row = read_row(&name("n1"), &row_document("n1", &snapshot)).unwrap();
    assert_eq!(row.at, unix_millis(snapshot.taken.wall));
    let expected = |record: &Arc<PeerRecord>| (record.peer.node.clone(), Cell::of(record, row.at));
    assert_eq!(row.cells, snapshot.peers.iter().map(expected).collect::<Vec<_>>());
}

#[test]
fn peers_read_back_as_they_were_written() {
    let times = [(success(30), 1), (success(10), 0), (failure(FailureReason::Reset), 2)];
    let snapshot = view("n1", &[("n2", &times), ("n3", &[])]);
    let instance = Instance::new("instance-1").unwrap();
    let document = text(peers_json(&name("n1"), &instance, &snapshot));
    let peers = Peers::read(&document).unwrap();
    assert_eq!((peers.node, peers.at), (name("n1"), unix_millis(snapshot.taken.wall)));
    let [known, unknown] = &peers.lines[..] else { panic!("{:?}", peers.lines) };
    assert_eq!((&known.node, known.verdict), (&name("n2"), Verdict::Up));
    assert_eq!((known.failures, known.probes, known.retransmits), (1, 3, 3));
    assert_eq!(known.latency, Some(Duration::from_millis(10)));
    assert_eq!(known.last_success, Some(unix_millis(snapshot.peers[0].last_success.unwrap())));
    assert_eq!(
        (&unknown.node, unknown.verdict, unknown.probes),
        (&name("n3"), Verdict::Unknown, 0)
    );
    let newer = String::from_utf8(document.clone()).unwrap().replacen(":1,", ":2,", 1);
    assert_eq!(Peers::read(newer.as_bytes()), Err(ReadError::Version));
    // One peer is passed on word for word.
    let [source, target] = ["n1", "n2"].map(name);
    let peer = peer_json(&source, &instance, &snapshot, &target).unwrap();
    let pair: Value = serde_json::from_slice(&pair_json(&source, &target, Ok(&peer))).unwrap();
    let all: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!((&pair["peer"], &pair["at"]), (&all["peers"][0], &all["at"]));
    assert_eq!(peer_json(&source, &instance, &snapshot, &source), None);
}

#[test]
fn every_verdict_reads_back() {
    let plain = ["unknown", "draining", "one-way", "lossy", "up"];
    for word in plain {
        assert_eq!(verdict(word, None, None).map(Verdict::as_str), Some(word));
    }
    for reason in FailureReason::ALL {
        let read = |word| verdict(word, Some(reason.as_str()), None);
        let known = [Verdict::Down(reason), Verdict::Flaky(reason)];
        assert_eq!(["down", "flaky"].map(read), known.map(Some));
    }
    for direction in Direction::ALL {
        let read = verdict("mtu", None, Some(direction.as_str()));
        assert_eq!(read, Some(Verdict::Mtu(direction)));
    }
    for (word, detail) in [
        ("down", None),
        ("down", Some("bored")),
        ("flaky", None),
        ("mtu", Some("up")),
        ("well", None),
    ] {
        assert_eq!(verdict(word, detail, detail), None, "{word} {detail:?}");
    }
}

/// Readers refuse a row with an unknown word; only another version explains why.
#[test]
fn a_new_word_raises_the_version() {
    let reasons = FailureReason::ALL.map(FailureReason::as_str);
    assert_eq!(
        (VERSION, &reasons[..]),
        (
            1,
            &[
                "connect_timeout",
                "refused",
                "unreachable",
                "reset",
                "response_timeout",
                "closed",
                "bad_response",
                "wrong_peer",
            ][..]
        )
    );
    let others = RowError::OTHERS.map(RowError::as_str);
    assert_eq!(
        others,
        ["too_large", "busy", "unsupported", "surveyed", "no_peer", "not_remembered"]
    );
}

#[test]
fn a_row_has_a_compact_cell_for_each_peer() {
    let twenty = vec![(success(3), 0); 20];
    let times = [1, 9, 2, 8].map(|time| (success(time), 0));
    let down = [
        (success(5), 1),
        (failure(FailureReason::Refused), 0),
        (failure(FailureReason::Refused), 2),
        (failure(FailureReason::ConnectTimeout), 2),
    ];
    let snapshot = view("n1", &[("n2", &twenty), ("n3", &times), ("n4", &down), ("n5", &[])]);
    let row: Value = serde_json::from_slice(&row_document("n1", &snapshot)).unwrap();
    assert_eq!((&row["version"], &row["node"]), (&json!(1), &json!("n1")));
    assert_eq!(row["instance"], "instance-1");
    let at = &row["at"];
    assert!(at.as_f64().unwrap() > 1.7e9, "{at}");
    assert_eq!(
        row["cells"],
        json!([
            {"node": "n2", "verdict": "up", "latency_seconds": 0.003, "at": at},
            {"node": "n3", "verdict": "up", "latency_seconds": 0.002, "probes": 4, "at": at},
            {"node": "n4", "verdict": "down", "reason": "connect_timeout", "latency_seconds": 0.005,
             "failures": 3, "retransmits": 3, "probes": 4, "at": at},
            {"node": "n5", "verdict": "unknown", "probes": 0},
        ])
    );
}

#[test]
fn the_cells_of_every_row_are_in_the_order_of_all_names() {
    let lossy = [(success(30), 1), (success(40), 1), (success(20), 1)];
    let theirs = view("n2", &[("n1", &lossy), ("a", &[(failure(FailureReason::Reset), 0)])]);
    let matrix = with(&[("n2", &row_document("n2", &theirs))]);
    assert_eq!(matrix["nodes"], json!(["a", "n1", "n2", "n3"]));
    assert_eq!(matrix["duration_seconds"], 0.034);
    assert_eq!(matrix["deadline_seconds"], 2.0);
    let rows = matrix["rows"].as_array().unwrap();
    assert_eq!(rows[0], json!({"node": "a", "error": "no_peer", "cells": []}));
    assert_eq!(rows[3], json!({"node": "n3", "error": "busy", "cells": []}));
    let own = rows[1]["cells"].as_array().unwrap();
    assert_eq!((&own[0], &own[1]), (&Value::Null, &Value::Null));
    assert_eq!(own[2]["latency_seconds"], 0.012);
    assert_eq!(own[3]["verdict"], "unknown");
    let at = &rows[2]["at"];
    assert_eq!(
        rows[2]["cells"],
        json!([
            {"verdict": "unknown", "failures": 1, "probes": 1, "at": at},
            {"verdict": "lossy", "latency_seconds": 0.03, "retransmits": 3, "probes": 3, "at": at},
            null,
            null,
        ])
    );
}

/// The error of n2 in the matrix after this document.
fn error_of(document: &[u8]) -> String {
    let matrix = with(&[("n2", document)]);
    assert_eq!(matrix["nodes"], json!(["n1", "n2", "n3"]), "names of a refused row are dropped");
    matrix["rows"][1]["error"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn a_refused_row_is_an_error_and_changes_nothing_else() {
    let row = |cells: &str| format!(r#"{{"version":1,"node":"n2","at":1.5,"cells":[{cells}]}}"#);
    let cell = |fields: &str| row(&format!(r#"{{"node":"x",{fields}}}"#));
    let deep = format!(r#"{{"version":1,"node":"n2","at":1,"x":{}"#, "[".repeat(100_000));
    for document in [
        String::new(),
        "null".to_owned(),
        "[2]".to_owned(),
        "{".to_owned(),
        deep,
        row("") + "x",
        row("null"),
        row("[]"),
        cell(r#""verdict":"well""#),
        cell(r#""verdict":"down""#),
        cell(r#""verdict":"down","reason":"bored""#),
        cell(r#""verdict":"up","latency_seconds":-1"#),
        cell(r#""verdict":"up","latency_seconds":1e300"#),
        cell(r#""verdict":"up","at":-5"#),
        cell(r#""verdict":"up","failures":21"#),
        cell(r#""verdict":"up","failures":300"#),
        cell(r#""verdict":"up","failures":3,"probes":2"#),
        cell(r#""verdict":"up","probes":255"#),
        cell(r#""verdict":"up","verdict":"up""#),
        row(r#"{"verdict":"up"}"#),
        row(r#"{"node":"<b>","verdict":"up"}"#),
        row(r#"{"node":"n2","verdict":"up"}"#),
        row(r#"{"node":"n\u0033","verdict":"up"}"#),
        row(&format!(r#"{{"node":"{}","verdict":"up"}}"#, "n".repeat(254))),
        row(r#"{"node":"n1","verdict":"up"},{"node":"n1","verdict":"up"}"#),
        row(
            r#"{"node":"s","verdict":"up"},{"node":"n1","verdict":"up"},{"node":"s","verdict":"up"}"#,
        ),
        row(r#"{"node":"a","verdict":"up"},{"node":"b_","verdict":"up"}"#),
        r#"{"version":1,"node":"n2","at":"now","cells":[]}"#.to_owned(),
        r#"{"version":1,"node":"n2","at":-1,"cells":[]}"#.to_owned(),
        r#"{"version":1,"node":"n2","cells":[]}"#.to_owned(),
    ] {
        assert_eq!(error_of(document.as_bytes()), "bad_response", "{:.200}", document);
    }
    assert_eq!(error_of(b"\xff\xfe"), "bad_response");
    assert_eq!(error_of(br#"{"version":1,"node":"n3","at":1,"cells":[]}"#), "wrong_peer");
    assert_eq!(error_of(br#"{"version":2,"node":"n2","at":1,"cells":[]}"#), "unsupported");
    assert_eq!(error_of(br#"{"node":2,"cells":{},"version":2}"#), "unsupported");
    assert_eq!(error_of(row("").as_bytes()), "none");
    let newer = r#"{"colour":["\u0041",{"a":1e3}],"version":1,"node":"n2","at":1,"cells":[]}"#;
    assert_eq!(error_of(newer.as_bytes()), "none", "unknown fields are ignored");
}

#[test]
fn the_names_that_one_row_adds_are_bounded() {
    let many: Vec<String> =
        (0..2000).map(|n| format!(r#"{{"node":"s{n}","verdict":"up"}}"#)).collect();
    let row = format!(r#"{{"version":1,"node":"n2","at":1,"cells":[{}]}}"#, many.join(","));
    assert!(row.len() < MAX_ROW);
    let theirs = view("n3", &[("n1", &[(success(5), 0)])]);
    let matrix = with(&[("n2", row.as_bytes()), ("n3", &row_document("n3", &theirs))]);
    assert_eq!(matrix["nodes"].as_array().unwrap().len(), 2 * 3 + 64);
    let honest = matrix["rows"].as_array().unwrap().iter().find(|row| row["node"] == "n3");
    assert_eq!(honest.unwrap()["cells"][0]["latency_seconds"], 0.005, "n1 comes first");
}

#[test]
fn a_pair_passes_a_valid_peer_on_word_for_word() {
    let [source, target] = ["n2", "n1"].map(name);
    let peer = |fields: &str| {
        format!(
            r#"{{"version":1,"node":"n2","instance":"i","at":12.3456,"peer":{{"node":"n1",{fields}}}}}"#
        )
    };
    let good = peer(
        r#""verdict":"up","reason":null,"rtt_seconds":0.1,"rtt_age_seconds":90,"path_mtu_bytes":1370,"last_success":5.5,
           "recent":[{"at":1,"total_seconds":0.2,"retransmits":0},
                     {"at":2,"reason":"reset","retransmits":1}],"later":{"x":[1]}"#,
    );
    let pair = |document: Result<&str, RowError>| -> Value {
        let pair = pair_json(&source, &target, document.map(str::as_bytes));
        serde_json::from_slice(&pair).unwrap()
    };
    let error = |document: &str| pair(Ok(document))["error"].clone();
    let shown = pair(Ok(&good));
    assert_eq!((&shown["source"], &shown["target"]), (&json!("n2"), &json!("n1")));
    assert_eq!((&shown["at"], &shown["peer"]["later"]["x"][0]), (&json!(12.346), &json!(1)));
    assert_eq!(shown["error"], Value::Null);
    for bad in [
        peer(r#""verdict":"up""#),
        peer(r#""verdict":"down","recent":[]"#),
        peer(r#""verdict":"up","recent":[{"retransmits":0}]"#),
        peer(r#""verdict":"up","recent":[{"reason":"<b>","retransmits":0}]"#),
        peer(r#""verdict":"up","recent":[],"rtt_seconds":"soon""#),
        peer(r#""verdict":"up","recent":[],"rtt_age_seconds":-1"#),
        peer(r#""verdict":"up","recent":[],"last_success":-1"#),
        peer(&format!(
            r#""verdict":"up","recent":[{}]"#,
            [r#"{"total_seconds":1,"retransmits":0}"#; RECENT + 1].join(",")
        )),
        good.replace("12.3456", "-1"),
        good.replace("}}", "}"),
    ] {
        assert_eq!(error(&bad), "bad_response", "{bad}");
    }
    let other = |from: &str, to: &str| error(&good.replacen(from, to, 1));
    assert_eq!(other("n2", "n3"), "wrong_peer");
    assert_eq!(other("n1", "n3"), "wrong_peer");
    assert_eq!(other(":1,", ":2,"), "unsupported");
    let expected =
        json!({"version": 1, "source": "n2", "target": "n1", "error": "response_timeout"});
    assert_eq!(pair(Err(RowError::Failure(FailureReason::ResponseTimeout))), expected);
}

/// Readers of a pair may recurse; an honest peer nests 3 deep.
#[test]
fn a_peer_nests_no_deeper_than_the_bound() {
    let [source, target] = ["n2", "n1"].map(name);
    let nested = |open: &str, close: &str, count: usize| {
        let later = open.repeat(count) + "0" + &close.repeat(count);
        let document = format!(
            r#"{{"version":1,"node":"n2","at":1,"peer":{{"node":"n1","verdict":"up","recent":[],
               "later":{later}}}}}"#
        );
        let pair = pair_json(&source, &target, Ok(document.as_bytes()));
        serde_json::from_slice::<Value>(&pair).unwrap()["error"].clone()
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[\"]\",", "]"), ("[\"\\\"]\",", "]")] {
        assert_eq!(nested(open, close, 15), Value::Null, "{open}");
        assert_eq!(nested(open, close, 16), "bad_response", "{open}");
    }
    assert_eq!(nested("[", "]", 100_000), "bad_response");
}

#[test]
fn a_matrix_beyond_its_bound_of_cells_is_malformed() {
    const CELLS: usize = 10_000;
    let read = |rows: usize| {
        let names: Vec<String> = (0..rows).map(|number| format!("n{number:04}")).collect();
        let row = |name: &String| json!({"node": name, "at": 1, "cells": vec![(); CELLS - 1]});
        let rows: Vec<Value> = names.iter().map(row).collect();
        let text = json!({"version": 1, "node": "a", "at": 1, "nodes": names, "rows": rows});
        read_matrix(text.to_string().as_bytes()).map(|_| rows.len() * CELLS)
    };
    assert_eq!((read(40), read(41).err()), (Ok(400_000), Some(ReadError::Malformed)));
    let measured = f64::from(u32::try_from(read(40).unwrap()).unwrap());
    assert!(measured <= wylis_harness::bounds::worst_case("MAX_READ_CELLS"));
}

#[test]
fn a_matrix_reads_back_as_it_was_written() {
    let twenty = vec![(success(3), 0); 20];
    let down = vec![(failure(FailureReason::ConnectTimeout), 6); 4];
    let snapshot = view("n2", &[("n1", &twenty), ("n3", &down), ("n4", &[])]);
    let mut matrix = Matrix::new(&name("n2"), &snapshot, DEADLINE);
    let theirs = view("n3", &[("a", &down), ("n2", &twenty)]);
    add(&mut matrix, "n3", &row_document("n3", &theirs));
    matrix.add(&name("n4"), Err(RowError::Failure(FailureReason::Refused)));
    let text = text(matrix_json(&Arc::new(matrix.finish(Duration::from_millis(34)))));
    let read = read_matrix(&text).unwrap();
    assert_eq!(read.node().as_str(), "n2");
    let again = self::text(matrix_json(&Arc::new(read)));
    assert_eq!(String::from_utf8(again), String::from_utf8(text.clone()));
    let good = String::from_utf8(text).unwrap();
    for (from, to) in [
        ("\"n1\",", "\"n9\","),
        ("\"node\":\"n1\"", "\"node\":\"n2\""),
        ("\"connect_timeout\"", "\"bored\""),
        ("\"refused\"", "\"bored\""),
        ("\"kind\":\"", "\"kind\":\"bored"),
        ("\"pairs\":[[", "\"pairs\":[[9"),
        ("\n]}\n", "\n]}]\n"),
        ("\"version\":1", "\"version\":true"),
        ("[null,", "[nul,"),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(read_matrix(good.replacen(from, to, 1).as_bytes()).is_err(), "{from} {to}");
    }
    let newer = good.replacen("\"version\":1", "\"version\":2", 1);
    assert_eq!(read_matrix(newer.as_bytes()).unwrap_err(), ReadError::Version);
}

proptest! {
    #[test]
    fn no_document_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let snapshot = view("n1", &[("n2", &[])]);
        let mut matrix = Matrix::new(&name("n1"), &snapshot, DEADLINE);
        add(&mut matrix, "n2", &bytes);
        let _ = pair_json(&name("n2"), &name("n1"), Ok(&bytes));
        let _ = Peers::read(&bytes);
        let _ = read_matrix(&bytes);
    }

    /// A changed row is taken or refused, and the matrix stays JSON.
    #[test]
    fn a_row_with_one_changed_byte_leaves_the_matrix_valid(at in 0_usize..400, junk in any::<u8>()) {
        let theirs = view("n2", &[("n1", &[(success(30), 1)]), ("n3", &[])]);
        let mut document = row_document("n2", &theirs);
        let at = at % document.len();
        document[at] = junk;
        let matrix = with(&[("n2", &document)]);
        prop_assert_eq!(matrix["rows"][0]["node"].as_str().unwrap().is_empty(), false);
    }
}
