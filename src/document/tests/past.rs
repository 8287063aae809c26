//! Rows and matrices of a past moment, written and read back.

use super::*;
use crate::history::{self, CellTime, Recollection, Span, Summary, Word};
use crate::matrix::{NamedRow, Past};

const FROM: u64 = 1_767_225_600;

/// A word, its probes, failures and retransmits, and the median in milliseconds.
fn cell(word: Word, [probes, failures, retransmits]: [u32; 3], median: u64) -> history::Cell {
    let median = (median > 0).then(|| Duration::from_millis(median));
    history::Cell::new(Summary { word, probes, failures, retransmits, median, worst: median })
}

/// What n1 remembers: five minutes, and the same again, since its clock was set back; of a number that is free and of
/// a peer without a cell, nothing.
fn remembered() -> Recollection {
    let lossy = Word { losses: [6, 3], ..Word::of(Verdict::Lossy) };
    let down = Word {
        incoming: Some(crate::state::Incoming::Syns),
        host: Some(crate::experiment::HostState::Silent),
        ..Word::of(Verdict::Down(FailureReason::ConnectTimeout))
    };
    let before = vec![cell(Word::of(Verdict::Up), [20, 0, 0], 0)];
    let cells = vec![
        cell(Word::of(Verdict::Up), [30, 0, 1], 0),
        history::Cell::EMPTY,
        cell(lossy, [1500, 3, 63], 10),
        cell(down, [20, 20, 20], 0),
    ];
    let span = |is_repeated, cells: Vec<_>| {
        let time = CellTime { from: FROM, seconds: 300, is_repeated };
        Span { time, cells: cells.into_iter().collect() }
    };
    Recollection {
        taken: Moment::now(),
        names: Arc::new(["n2", "n3", "n4", "n5", "n6"].map(|node| Some(name(node))).into()),
        spans: vec![span(false, before), span(true, cells)],
        changes: Vec::new(),
    }
}

fn past_row(seconds: u64) -> Option<Vec<u8>> {
    let instance = Instance::new("instance-1").unwrap();
    let row = remembered().row_at(seconds).map(Arc::new);
    row.map(|row| text(past_row_json(&name("n1"), &instance, &row)))
}

#[test]
fn a_past_row_tells_its_time_and_the_counts_of_all_its_probes() {
    assert_eq!([FROM - 1, FROM + 300].map(past_row), [None, None]);
    let document = past_row(FROM + 299).unwrap();
    let row: Value = serde_json::from_slice(&document).unwrap();
    let few = ["version", "node", "instance", "at", "seconds", "repeated"].map(|field| &row[field]);
    assert_eq!(json!(few), json!([1, "n1", "instance-1", 1_767_225_600.0, 300, true]));
    let mut cells = row["cells"].clone();
    // On scales.
    let probes = cells[1]["probes"].take().as_f64().unwrap();
    let retransmits = cells[1]["retransmits"].take().as_f64().unwrap();
    let latency = cells[1]["latency_seconds"].take().as_f64().unwrap();
    assert!((0.9..=1.0).contains(&(probes / 1500.0)), "{probes}");
    assert!((0.5..=1.0).contains(&(retransmits / 63.0)), "{retransmits}");
    assert!((0.95..1.05).contains(&(latency / 0.01)), "{latency}");
    assert_eq!(
        cells,
        json!([
            {"node": "n2", "verdict": "up", "retransmits": 1, "probes": 30},
            {"node": "n4", "verdict": "lossy", "latency_seconds": null, "failures": 3, "retransmits": null,
             "probes": null, "recent_retransmits": 6, "incoming_retransmits": 3},
            {"node": "n5", "verdict": "down", "reason": "connect_timeout", "failures": 20, "retransmits": 20,
             "incoming": "syns", "host": "silent"},
        ])
    );
    let read = read_row(&name("n1"), &document).unwrap();
    assert_eq!((read.at, read.past), (FROM * 1000, Some(Past { seconds: 300, is_repeated: true })));
    assert_eq!(read.cells, remembered().row_at(FROM).unwrap().cells);
}

#[test]
fn a_past_matrix_reads_back_as_it_was_written() {
    let row = read_row(&name("n1"), &past_row(FROM).unwrap()).unwrap();
    for is_repeated in [false, true] {
        let past = Past { seconds: 900, is_repeated };
        let row = NamedRow { cells: row.cells.clone(), through: None, ..row };
        let peers = ["n5", "n4"].map(name);
        let (own, at) = (name("n1"), (FROM - 300) * 1000);
        let matrix = Matrix::of_the_past(&own, at, past, peers.into_iter(), Ok(row), DEADLINE);
        let document = written(matrix);
        assert_eq!(document["nodes"], json!(["n1", "n2", "n4", "n5"]));
        assert_eq!((&document["at"], &document["seconds"]), (&json!(1_767_225_300.0), &json!(900)));
        assert_eq!(document.get("repeated"), is_repeated.then_some(&json!(true)));
        let rows = &document["rows"];
        assert_eq!(json!([rows[0]["seconds"], rows[0]["repeated"]]), json!([300, true]));
        assert_eq!(rows[2], json!({"node": "n4", "error": "busy", "cells": []}));
        let again = read_matrix(document.to_string().as_bytes()).unwrap();
        assert_eq!((again.past(), again.at()), (Some(past), at));
        let again: Value = serde_json::from_slice(&text(matrix_json(&Arc::new(again)))).unwrap();
        assert_eq!(again, document);
    }
}

#[test]
fn a_document_of_now_has_no_word_of_the_past() {
    let snapshot = view("n1", &[("n2", &[(success(5), 3)])]);
    let row = row_document("n1", &snapshot);
    let matrix = written(Matrix::new(&name("n1"), &snapshot, DEADLINE)).to_string();
    for document in [String::from_utf8(row.clone()).unwrap(), matrix.clone()] {
        for word in ["\"seconds\"", "repeated", "recent_retransmits"] {
            assert!(!document.contains(word), "{document}");
        }
    }
    assert_eq!(read_row(&name("n1"), &row).unwrap().past, None);
    assert_eq!(read_matrix(matrix.as_bytes()).unwrap().past(), None);
}

#[test]
fn counts_of_a_past_row_are_bounded() {
    let read = |head: &str, cell: &str| {
        let cell = format!(r#"{{"node":"n2","verdict":"lossy",{cell}}}"#);
        let row = format!(r#"{{"version":1,"node":"n1","at":1.5{head},"cells":[{cell}]}}"#);
        read_row(&name("n1"), row.as_bytes()).ok().map(|row| row.cells[0].1.failures())
    };
    let past = r#","seconds":300"#;
    for (cell, counts) in [
        (
            r#""probes":2080768,"failures":2080768,"retransmits":2080768"#,
            Some((2_080_768, 2_080_768)),
        ),
        (r#""probes":2080769"#, None),
        (r#""probes":30,"failures":31"#, None),
        (r#""probes":30,"retransmits":31"#, None),
        (r#""failures":21"#, None),
        (r#""recent_retransmits":20"#, Some((0, 20))),
        (r#""recent_retransmits":21"#, None),
        (r#""recent_retransmits":65536"#, None),
        (r#""incoming_retransmits":21"#, None),
    ] {
        assert_eq!(read(past, cell), counts, "{cell}");
    }
    // Of a row of now, as ever.
    assert_eq!(read("", r#""probes":21"#), None);
    assert_eq!(read("", r#""probes":20,"failures":20,"recent_retransmits":99"#), Some((20, 20)));
}
