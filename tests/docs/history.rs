//! The past as JSON in docs/api.md, and the figures of docs/history.md.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::Value;
use wylis::document::{day_json, history_json, matrix_json, past_pair_json, past_peer_json};
use wylis::document::{read_day, read_matrix};
use wylis::experiment::{Detail, HostState};
use wylis::history::{BIN, Bin, Cell, CellTime, Day, DayFinding, MAX_CHANGES, MAX_DAY_FINDINGS};
use wylis::history::{Recollection, Span, Summary, VerdictChange, WIDTHS, Word};
use wylis::matrix::{FindingKind, RowError};
use wylis::name::{Instance, NodeName};
use wylis::probe::FailureReason;
use wylis::state::{Moment, Verdict};

use super::markdown::{json_example, table};
use super::peers::fields;
use super::{API, Row, assert_says, assert_table, read, row};

const PAGE: &str = "docs/history.md";
const FROM: u64 = 1_767_225_000;
const DOWN: Verdict = Verdict::Down(FailureReason::ConnectTimeout);
const SILENT: Option<Detail> = Some(Detail::Host(HostState::Silent));

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn documented(heading: &str) -> BTreeSet<String> {
    let rows = table(&read(API), heading, 0).unwrap();
    rows.iter().filter_map(|row| row.first().cloned()).collect()
}

fn example(heading: &str) -> Value {
    serde_json::from_str(&json_example(&read(API), heading)).unwrap()
}

fn cell(word: Word, [probes, failures, retransmits]: [u32; 3], micros: Option<[u64; 2]>) -> Cell {
    let [median, worst] = match micros {
        Some(both) => both.map(|time| Some(Duration::from_micros(time))),
        None => [None; 2],
    };
    Cell::new(Summary { word, probes, failures, retransmits, median, worst })
}

/// What the agent of the example remembers.
fn recollection() -> Recollection {
    let up = |counts, micros| cell(Word::of(Verdict::Up), counts, Some(micros));
    let silent = Word { host: Some(HostState::Silent), ..Word::of(DOWN) };
    let cells = [
        vec![up([33, 0, 0], [1100, 2000])],
        vec![cell(silent, [33, 33, 33], None), up([20, 0, 0], [400, 600])],
        vec![up([18, 0, 1], [1100, 1_030_000]), up([18, 0, 0], [400, 600])],
    ];
    let spans = (FROM..).step_by(300).zip(cells).map(|(from, cells)| {
        let time = CellTime { from, seconds: 300, is_repeated: false };
        Span { time, cells: cells.into_iter().collect() }
    });
    let at = 1_767_225_365_665;
    Recollection {
        taken: Moment {
            instant: Instant::now(),
            wall: UNIX_EPOCH + Duration::from_millis(1_767_225_761_393),
        },
        names: Arc::new(["node-02", "node-03"].map(|node| Some(name(node))).to_vec()),
        spans: spans.collect(),
        changes: vec![VerdictChange { at, node: name("node-02"), verdict: DOWN, detail: SILENT }],
    }
}

#[test]
fn the_history_of_one_agent_is_what_it_would_write() {
    let heading = "History of one agent";
    let instance = Instance::new("652b17c8-180b-4b5e-bd91-b529a18fcb1e").unwrap();
    let known = Arc::new(recollection());
    let text: Vec<u8> = history_json(&name("node-01"), &instance, &known).flatten().collect();
    let written: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(written, example(heading), "{written}");
    assert_eq!(documented(heading), fields(&written));
    // One pair of it.
    let [source, target] = ["node-01", "node-02"].map(name);
    let past = past_peer_json(&source, &instance, &known, &target).unwrap();
    let pair = past_pair_json(&source, &target, Ok(&past));
    let pair: Value = serde_json::from_slice(&pair).unwrap();
    let shared = ["since", "columns", "times", "cells", "changes"];
    let head = ["version", "source", "target", "at"];
    assert_eq!(
        pair.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(),
        head.into_iter().chain(shared).collect(),
    );
    for field in ["columns", "times", "changes"] {
        assert_eq!(pair[field], written[field], "{field}");
    }
    assert_eq!(pair["cells"], written["peers"][0]["cells"]);
    assert_says(
        API,
        "either `at`, `since`, `columns`, `times`, `cells` and `changes` as above, or `error`",
    );
}

/// The day of the example.
fn day() -> Day {
    let bin = |at: u64, faulty| Bin { from: FROM + at, pairs: 6, faulty, is_repeated: false };
    let finding = |at: u64, kind, nodes: &[&str], text: &str| DayFinding {
        from: FROM + at,
        to: FROM + at + 300,
        kind,
        is_grave: kind == FindingKind::NodeDown,
        nodes: nodes.iter().map(|node| name(node)).collect(),
        text: text.to_owned(),
        is_repeated: false,
    };
    let dead = "node-02 is down: none of 2 others reaches it (connect_timeout); nothing from node-02 or its host";
    Day {
        node: name("node-01"),
        at: 1_767_225_761,
        since: Some(FROM),
        bins: vec![bin(0, [0; 5]), bin(300, [2, 0, 0, 0, 0]), bin(600, [0, 0, 0, 1, 0])],
        findings: vec![
            finding(300, FindingKind::NodeDown, &["node-02"], dead),
            finding(600, FindingKind::Pair, &["node-01", "node-03"], "node-01 → node-03: lossy"),
        ],
        left_out: 0,
        judged_since: None,
        missing: vec![(name("node-04"), RowError::NotRemembered)],
    }
}

#[test]
fn the_day_of_the_mesh_is_what_an_agent_would_write() {
    let heading = "The day of the mesh";
    let written = |day: Day| {
        let text: Vec<u8> = day_json(&Arc::new(day)).flatten().collect();
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    assert_eq!(written(day()), example(heading), "{}", written(day()));
    let mut full = day();
    (full.left_out, full.judged_since) = (1, Some(FROM));
    full.findings[0].is_repeated = true;
    assert_eq!(documented(heading), fields(&written(full)));
    let read = read_day(&serde_json::to_vec(&example(heading)).unwrap()).unwrap();
    assert_eq!(read, Day { bins: Vec::new(), ..day() });
    assert_eq!(BIN, 300);
    assert_says(API, &format!("in the order of its begin, {MAX_DAY_FINDINGS} at most"));
}

#[test]
fn the_fields_of_a_past_matrix_are_documented() {
    let cell = r#"{"verdict":"lossy","latency_seconds":0.0011,"failures":3,"retransmits":20,
        "probes":33,"recent_retransmits":4,"incoming_retransmits":1}"#;
    let text = format!(
        r#"{{"version":1,"node":"a","at":{FROM},"seconds":300,"repeated":true,"duration_seconds":0.1,
        "deadline_seconds":2,"nodes":["a","b","c"],"rows":[
        {{"node":"a","at":{FROM},"seconds":300,"repeated":true,"cells":[null,{cell},null]}},
        {{"node":"b","at":{FROM},"seconds":300,"through":"a","cells":[{cell},null,null]}},
        {{"node":"c","error":"not_remembered","cells":[]}}]}}"#
    );
    let matrix = read_matrix(text.as_bytes()).expect("a matrix");
    let text: Vec<u8> = matrix_json(&Arc::new(matrix)).flatten().collect();
    let written = fields(&serde_json::from_slice(&text).unwrap());
    let past = documented("The matrix of a past moment");
    assert_eq!(past.difference(&written).collect::<Vec<_>>(), Vec::<&String>::new());
    let known: BTreeSet<String> = past.union(&documented("The matrix as JSON")).cloned().collect();
    assert_eq!(written.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(written.contains("rows.seconds") && written.len() > 20, "{written:?}");
}

/// 2400 is `2,400`.
fn grouped(number: usize) -> String {
    match number / 1000 {
        0 => number.to_string(),
        thousands => format!("{thousands},{:03}", number % 1000),
    }
}

#[test]
fn the_bounds_of_the_cells_are_those_of_the_code() {
    let length = |seconds: u32| match seconds {
        3600 => "1 hour".to_owned(),
        7200 => "2 hours".to_owned(),
        seconds => format!("{} minutes", seconds / 60),
    };
    let mut known: Vec<Row> = WIDTHS
        .iter()
        .map(|(seconds, paths)| row([&*format!("up to {}", grouped(*paths)), &*length(*seconds)]))
        .collect();
    known.last_mut().unwrap()[0].push_str(", with those that left");
    assert_table(PAGE, "Bounds", 2, &known);
    let (seconds, paths) = WIDTHS[0];
    let bytes = 86_400 / seconds as usize * Cell::OCTETS;
    assert_says(PAGE, &format!("{:.2} KB a day", bytes as f64 / 1000.0));
    for (seconds, paths) in WIDTHS {
        assert!(paths * (86_400 / seconds as usize) * Cell::OCTETS <= 300_000);
    }
    assert_says(PAGE, "all cells of an agent at most 300 KB");
    assert_says(PAGE, &format!("last {MAX_CHANGES} changes of verdict"));
    assert_says("docs/sizing.md", &format!("above {paths} peers"));
}
