//! Documents of what agents remember: history, faults, day.

use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use wylis_harness::bounds::worst_case;

use super::*;
use crate::gzip::{self, Level};
use crate::history::{
    Bin, Cell, CellTime, Day, DayFinding, Faults, MAX_RUNS, MAX_SPANS, MeshFaults, Recollection,
    Span, Summary, VerdictChange, Word,
};
use crate::matrix::FindingKind;

const DOWN: Verdict = Verdict::Down(FailureReason::Refused);
/// Midnight.
const T0: u64 = 1_800_057_600;

/// What an agent remembers of these peers; `cell` is asked for the place of a time and of a peer.
fn recollection(
    peers: &[String],
    times: usize,
    cell: impl Fn(usize, usize) -> Cell,
) -> Arc<Recollection> {
    let span = |place: usize| {
        let from = T0 + 300 * u64::try_from(place).unwrap();
        let time = CellTime { from, seconds: 300, is_repeated: place == 1 };
        Span { time, cells: (0..peers.len()).map(|peer| cell(place, peer)).collect() }
    };
    let wall = UNIX_EPOCH + Duration::from_millis(T0 * 1000 + 500);
    Arc::new(Recollection {
        taken: Moment { instant: Instant::now(), wall },
        names: Arc::new(peers.iter().map(|peer| Some(name(peer))).collect()),
        spans: (0..times).map(span).collect(),
        changes: Vec::new(),
    })
}

fn up(micros: u64) -> Summary {
    Summary {
        word: Word::of(Verdict::Up),
        probes: 33,
        failures: 0,
        retransmits: 0,
        median: Some(Duration::from_micros(micros)),
        worst: Some(Duration::from_micros(micros * 3)),
    }
}

/// Of `n3` and `n2`, for two times: both up, then one down and one unknown.
fn small() -> Arc<Recollection> {
    let cell = |time, peer| match (time, peer) {
        (0, _) => Cell::new(up(50)),
        (_, 0) => Cell::EMPTY,
        _ => {
            let (median, worst) = (None, None);
            Cell::new(Summary { word: Word::of(DOWN), failures: 33, median, worst, ..up(1) })
        }
    };
    let mut recollection = recollection(&["n3".into(), "n2".into()], 2, cell);
    let change = |node, seconds: u64, verdict| VerdictChange {
        at: T0 * 1000 + 1000 * seconds + 250,
        node: name(node),
        verdict,
        detail: None,
    };
    Arc::get_mut(&mut recollection).unwrap().changes =
        vec![change("n3", 10, Verdict::Up), change("n2", 310, DOWN)];
    recollection
}

fn instance() -> Instance {
    Instance::new("i1").unwrap()
}

#[test]
fn a_history_lists_the_cells_of_each_peer() {
    let document = text(history_json(&name("n1"), &instance(), &small()));
    let worst = up(50).worst.map(|_| Cell::new(up(50)).summary().unwrap().worst.unwrap());
    let up = json!(["up", 33, 0, 0, 0.00005, worst.unwrap().as_secs_f64()]);
    let expected = json!({
        "version": 1,
        "node": "n1",
        "instance": "i1",
        "at": T0 as f64 + 0.5,
        "since": T0,
        "columns": ["verdict", "probes", "failures", "retransmits", "latency_seconds", "worst_seconds"],
        "times": [[T0, 300, 0], [T0 + 300, 300, 1]],
        "changes": [
            { "at": T0 as f64 + 10.25, "node": "n3", "verdict": "up" },
            { "at": T0 as f64 + 310.25, "node": "n2", "verdict": "down (refused)" },
        ],
        "peers": [
            { "node": "n2", "cells": [up, ["down (refused)", 33, 33, 0, null, null]] },
            { "node": "n3", "cells": [up, null] },
        ],
    });
    assert_eq!(serde_json::from_slice::<Value>(&document).unwrap(), expected);
    let empty =
        text(history_json(&name("n1"), &instance(), &recollection(&[], 0, |_, _| Cell::EMPTY)));
    let empty: Value = serde_json::from_slice(&empty).unwrap();
    assert_eq!((&empty["since"], &empty["peers"]), (&Value::Null, &json!([])));
}

fn past_pair(document: &[u8]) -> Value {
    let pair = past_pair_json(&name("n1"), &name("n2"), Ok(document));
    serde_json::from_slice(&pair).unwrap()
}

#[test]
fn a_pair_passes_what_its_source_remembers_on_word_for_word() {
    let past = past_peer_json(&name("n1"), &instance(), &small(), &name("n2")).unwrap();
    let whole: Value =
        serde_json::from_slice(&text(history_json(&name("n1"), &instance(), &small()))).unwrap();
    let mut expected =
        json!({ "version": 1, "source": "n1", "target": "n2", "at": T0 as f64 + 0.5 });
    for field in ["since", "columns", "times"] {
        expected[field] = whole[field].clone();
    }
    expected["cells"] = whole["peers"][0]["cells"].clone();
    expected["changes"] = json!([whole["changes"][1]]);
    assert_eq!(past_pair(&past), expected);
    // A later release may add what this one does not know.
    let more =
        String::from_utf8(past).unwrap().replace("\"cells\":", "\"new\":{\"a\":[1]},\"cells\":");
    assert_eq!(past_pair(more.as_bytes())["new"], json!({ "a": [1] }));
    assert_eq!(past_peer_json(&name("n1"), &instance(), &small(), &name("n4")), None);
    let error = past_pair_json(&name("n1"), &name("n2"), Err(RowError::NotRemembered));
    let expected =
        json!({ "version": 1, "source": "n1", "target": "n2", "error": "not_remembered" });
    assert_eq!(serde_json::from_slice::<Value>(&error).unwrap(), expected);
}

#[test]
fn what_a_source_must_not_say_of_a_pair_is_an_error() {
    let past = past_peer_json(&name("n1"), &instance(), &small(), &name("n2")).unwrap();
    let past = String::from_utf8(past).unwrap();
    let error = |from: &str, to: &str| {
        assert!(past.contains(from), "{from}");
        past_pair(past.replacen(from, to, 1).as_bytes())["error"].as_str().map(str::to_owned)
    };
    assert_eq!(error("\"at\":", "\"at\":"), None);
    for (from, to) in [
        ("\"peer\":{", "\"peer\":{\"source\":\"n9\","),
        ("\"peer\":{", "\"peer\":{\"error\":null,"),
        ("\"peer\":{", "\"peer\":{\"at\":1,\"at\":2,"),
        ("\"peer\":{", "\"peer\":{\"version\":1,"),
        ("\"peer\":{", "\"peer\":{\"deep\":[[[[]]]],"),
        ("\"cells\":[", "\"cells\":0,\"x\":["),
        ("\"changes\":[", "\"changes\":{},\"x\":["),
        ("\"columns\":[\"verdict\"", "\"columns\":[\"failures\""),
        (",300,0]", ",300,2]"),
        (",300,0]", ",0,0]"),
        (",300,0]", ",300]"),
        (",300,0]", ",5000000000,0]"),
        ("[1800057600,", "[253402300799,"),
        ("\"times\":", "\"time\":"),
    ] {
        assert_eq!(error(from, to).as_deref(), Some("bad_response"), "{from} {to}");
    }
    assert_eq!(error("\"node\":\"n1\"", "\"node\":\"n3\"").as_deref(), Some("wrong_peer"));
    assert_eq!(error("\"version\":1", "\"version\":2").as_deref(), Some("unsupported"));
    let longest = past_peer_json(
        &name("n1"),
        &instance(),
        &longest(),
        &name(&"n".repeat(crate::name::MAX_NODE_NAME)),
    );
    let length = longest.unwrap().len();
    assert!(length <= MAX_PAST_PEER && length as f64 <= worst_case("MAX_PAST_PEER"), "{length}");
}

/// The most that is remembered of one peer.
fn longest() -> Arc<Recollection> {
    let peer = "n".repeat(crate::name::MAX_NODE_NAME);
    let words = (1..=u8::MAX).filter_map(Word::from_octet);
    let word = words.max_by_key(|word| word.text().len()).unwrap();
    let cell = Cell::new(Summary {
        word,
        probes: 5000,
        failures: 5000,
        retransmits: 5000,
        ..up(1_234_567)
    });
    let mut recollection = recollection(std::slice::from_ref(&peer), MAX_SPANS, |_, _| cell);
    let verdict = word.verdict;
    let change = VerdictChange { at: T0 * 1000 + 123, node: name(&peer), verdict, detail: None };
    Arc::get_mut(&mut recollection).unwrap().changes = vec![change; crate::history::MAX_CHANGES];
    recollection
}

fn faults_of(recollection: &Arc<Recollection>) -> Vec<u8> {
    text(faults_json(&name("n1"), &instance(), recollection))
}

#[test]
fn faults_read_back_as_they_were_written() {
    let document = faults_of(&small());
    assert_eq!(read_faults(&name("n1"), &document), Ok(Faults::of(&small())));
    let octet = Word::of(DOWN).octet();
    let value: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(value["nodes"], json!(["n2", "n3"]));
    assert_eq!(value["runs"], json!([[0, 1, 1, octet, 33, 33], [1, 1, 1, 0, 0, 0]]));
    assert_eq!(read_faults(&name("n2"), &document), Err(ReadError::OtherNode));
}

#[test]
fn faults_outside_their_bounds_are_malformed() {
    let document = String::from_utf8(faults_of(&small())).unwrap();
    let read = |from: &str, to: &str| {
        assert!(document.contains(from), "{from}");
        read_faults(&name("n1"), document.replacen(from, to, 1).as_bytes())
    };
    assert!(read("\"at\":", "\"more\":[{}],\"at\":").is_ok());
    let octet = Word::of(DOWN).octet();
    let run = format!("[0,1,1,{octet},33,33]");
    for to in [
        "[2,1,1,4,33,33]".to_owned(),
        "[0,2,1,4,33,33]".to_owned(),
        "[0,1,2,4,33,33]".to_owned(),
        "[0,1,0,4,33,33]".to_owned(),
        "[0,1,1,255,33,33]".to_owned(),
        "[0,1,1,256,33,33]".to_owned(),
        "[0,1,1,4,34,33]".to_owned(),
        "[0,1,65536,4,33,33]".to_owned(),
        "[0,1,-1,4,33,33]".to_owned(),
        "[0,1,1,4,33]".to_owned(),
        "[0,1,1,4,33,33,1]".to_owned(),
        "[0,1,1,4,1,1,1,1,1]".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        // Twice, or in another order.
        format!("{run},{run}"),
        "[1,0,1,4,33,33],[0,1,1,4,33,33]".to_owned(),
    ] {
        assert_eq!(read(&run, &to), Err(ReadError::Malformed), "{to}");
    }
    for (from, to) in [
        ("[\"n2\",\"n3\"]", "[\"n3\",\"n2\"]"),
        ("[\"n2\",\"n3\"]", "[\"n2\",\"n2\"]"),
        ("[\"n2\",\"n3\"]", "[\"n2\",\"n_3\"]"),
        ("[\"n2\",\"n3\"]", "[\"n1\",\"n3\"]"),
        ("[\"n2\",\"n3\"]", "[\"n2\"]"),
        (",300,0]", ",300,2]"),
        (",300,0]", ",-300,0]"),
        ("\"runs\":", "\"run\":"),
        ("\"times\":", "\"time\":"),
        ("\"nodes\":", "\"node_names\":"),
        ("\"left_out\":0", "\"left_out\":-1"),
    ] {
        assert_eq!(read(from, to), Err(ReadError::Malformed), "{from} {to}");
    }
    assert_eq!(read("\"version\":1", "\"version\":2"), Err(ReadError::Version));
    let runs = |count: u64| {
        let run = |place: u64| format!("[{},{},1,4,1,1]", place / 2, place % 2);
        let runs: Vec<String> = (0..count).map(run).collect();
        let names: Vec<String> = (0..count).map(|number| format!("\"m{number:04}\"")).collect();
        let document = document.replace("[\"n2\",\"n3\"]", &format!("[{}]", names.join(",")));
        let (head, _) = document.split_once("\"runs\":").unwrap();
        let whole = format!("{head}\"runs\":[{}],\"left_out\":0}}", runs.join(","));
        read_faults(&name("n1"), whole.as_bytes()).map(|faults| faults.runs.len())
    };
    let times = |count: usize| {
        let (head, tail) = document.split_once("\"times\":[").unwrap();
        let times = "[0,86400,0],".repeat(count);
        read_faults(&name("n1"), format!("{head}\"times\":[{times}{tail}").as_bytes())
            .map(|faults| faults.times.len())
    };
    // Two are there.
    assert_eq!(times(MAX_SPANS - 2), Ok(MAX_SPANS));
    assert_eq!(times(MAX_SPANS - 1), Err(ReadError::Malformed));
    assert_eq!(runs(1024), Ok(MAX_RUNS));
    assert_eq!(runs(1025), Err(ReadError::Malformed));
}

#[test]
fn the_faults_of_a_thousand_peers_fit() {
    let peers: Vec<String> = (0..1000).map(|peer| format!("node-{peer:04}.eu.example")).collect();
    let down = Cell::new(Summary { word: Word::of(DOWN), failures: 33, ..up(1) });
    let cell = |time, peer| {
        if time == 599 || peer == 0 && time % 30 == 0 { down } else { Cell::new(up(1)) }
    };
    let recollection = recollection(&peers, MAX_SPANS, cell);
    assert!(Faults::of(&recollection).runs.len() > 1000);
    let length = faults_of(&recollection).len();
    assert!(length <= MAX_FAULTS && length as f64 <= worst_case("MAX_FAULTS"), "{length}");
}

fn some_day() -> Day {
    let finding = |from, kind, is_grave, is_repeated| DayFinding {
        from,
        to: from + 600,
        kind,
        is_grave,
        nodes: vec![name("n1"), name("n2")],
        text: "n1 → n2: down (refused)".to_owned(),
        is_repeated,
    };
    Day {
        node: name("n1"),
        at: T0 + 900,
        since: Some(T0),
        bins: vec![Bin { from: T0, pairs: 12, faulty: [1, 2, 3, 4, 5], is_repeated: true }],
        findings: vec![
            finding(T0, FindingKind::Pair, true, false),
            finding(T0 + 300, FindingKind::Link, false, true),
        ],
        left_out: 0,
        judged_since: None,
        missing: vec![(name("n3"), RowError::NotRemembered)],
    }
}

fn day_document(day: Day) -> Vec<u8> {
    text(day_json(&Arc::new(day)))
}

#[test]
fn a_day_reads_back_as_it_was_written_without_its_times() {
    let document = day_document(some_day());
    let line = json!({
        "kind": "pair",
        "grave": true,
        "nodes": ["n1", "n2"],
        "text": "n1 → n2: down (refused)",
        "from": T0,
        "to": T0 + 600,
    });
    let mut second = line.clone();
    for (field, value) in [
        ("kind", json!("link")),
        ("grave", json!(false)),
        ("from", json!(T0 + 300)),
        ("to", json!(T0 + 900)),
        ("repeated", json!(true)),
    ] {
        second[field] = value;
    }
    let expected = json!({
        "version": 1,
        "node": "n1",
        "at": T0 + 900,
        "since": T0,
        "seconds": 300,
        "columns": ["from", "pairs", "down", "one_way", "flaky", "lossy", "mtu", "repeated"],
        "times": [[T0, 12, 1, 2, 3, 4, 5, 1]],
        "findings": [line, second],
        "missing": [{ "node": "n3", "error": "not_remembered" }],
    });
    assert_eq!(serde_json::from_slice::<Value>(&document).unwrap(), expected);
    let read_back = |day: Day| {
        assert_eq!(read_day(&day_document(day.clone())), Ok(Day { bins: Vec::new(), ..day }));
    };
    read_back(some_day());
    read_back(Day { left_out: 7, judged_since: Some(T0 + 300), ..some_day() });
    read_back(Day { since: None, findings: Vec::new(), missing: Vec::new(), ..some_day() });
}

#[test]
fn a_day_outside_its_bounds_is_malformed() {
    let document = String::from_utf8(day_document(some_day())).unwrap();
    let read = |from: &str, to: &str| {
        assert!(document.contains(from), "{from}");
        read_day(document.replacen(from, to, 1).as_bytes())
    };
    assert!(read("\"at\":", "\"more\":{},\"at\":").is_ok());
    for (from, to) in [
        ("\"kind\":\"pair\"", "\"kind\":\"other\""),
        ("[\"n1\",\"n2\"]", "[\"n1\",\"n_2\"]"),
        ("\"from\":1800057600", "\"from\":1800058200"),
        ("\"to\":1800058200", "\"to\":253402300800"),
        ("\"to\":1800058200", "\"till\":1800058200"),
        ("\"error\":\"not_remembered\"", "\"error\":\"other\""),
        ("\"missing\":", "\"absent\":"),
        ("\"findings\":", "\"finding\":"),
        ("\"since\":1800057600", "\"since\":253402300800"),
        ("[1800057600,12,", "[1800057600,1,1,12,"),
        ("\"node\":\"n1\"", "\"node\":\"\""),
    ] {
        assert_eq!(read(from, to), Err(ReadError::Malformed), "{from} {to}");
    }
    assert_eq!(read("\"version\":1", "\"version\":2"), Err(ReadError::Version));
}

#[test]
fn documents_of_a_hundred_peers_are_small() {
    let noise = |seed: usize| {
        let seed = u64::try_from(seed).unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (seed ^ (seed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
    };
    // Latencies of each pair differ by a third, one cell in a hundred has a failure, one in a thousand is a fault.
    let cell = |time: usize, peer: usize| {
        let seed = peer * 288 + time;
        let base = 300 + noise(peer) % 40_000;
        let usual = up(base + noise(seed) % (base / 3));
        let worst = usual.median.map(|median| median.mul_f64(1.1 + noise(seed + 3) as f64 / 1e7));
        let failures = u32::from(noise(seed + 1).is_multiple_of(100));
        let is_fault = noise(seed + 2).is_multiple_of(1000);
        let word = if is_fault { Word::of(DOWN) } else { usual.word };
        Cell::new(Summary { word, failures, worst, ..usual })
    };
    let packed = |document: &[u8]| {
        let chunks = document.chunks(4096).map(<[u8]>::to_vec);
        gzip::compress(chunks, Level::Small, usize::MAX).unwrap().len()
    };
    let peers: Vec<String> = (1..100).map(|node| format!("node-{node:02}")).collect();
    let recollection = recollection(&peers, 288, cell);
    let history = text(history_json(&name("node-00"), &instance(), &recollection));
    for (what, document, raw, gzipped) in [
        ("history", history, 1_000_000, 150_000),
        ("faults", faults_of(&recollection), 10_000, 3_000),
    ] {
        let sizes = (document.len(), packed(&document));
        println!("{what}: {} bytes, {} gzipped", sizes.0, sizes.1);
        assert!(sizes.0 <= raw && sizes.1 <= gzipped, "{what}: {sizes:?}");
    }
}

proptest! {
    /// A changed document is read or refused.
    #[test]
    fn documents_of_the_past_with_one_changed_byte_do_no_harm(at in 0_usize..600, junk in any::<u8>()) {
        let past = past_peer_json(&name("n1"), &instance(), &small(), &name("n2")).unwrap();
        for mut document in [past, faults_of(&small()), day_document(some_day())] {
            if let Some(byte) = document.get_mut(at) {
                *byte = junk;
            }
            let _ = read_day(&document);
            if let Ok(faults) = read_faults(&name("n1"), &document) {
                let mesh = MeshFaults::new(&name("n1"), faults);
                let _ = Day::of(&mesh, UNIX_EPOCH + Duration::from_secs(T0), &mut || true);
            }
            let pair = past_pair_json(&name("n1"), &name("n2"), Ok(&document));
            prop_assert!(serde_json::from_slice::<Value>(&pair).is_ok());
        }
    }
}
