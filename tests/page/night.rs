//! Documents of a past day, in the form of an agent.

use std::ops::Range;

use serde_json::{Value, json};

use super::stand_in::{AT, matrix};

/// The routes of the past.
pub(crate) const PAST: &str = "api/v1/history/";
/// The route of the day.
pub(crate) const DAY: &str = "api/v1/history/day";
/// The length of a bin in seconds, and how many of them a strip has.
const BIN: u64 = 300;
const BINS: u64 = 288;
/// The end of the open bin: the next multiple of 5 minutes after [`AT`].
const EDGE: u64 = 1_790_000_100;

/// The begin of a bin of the strip, in Unix seconds.
pub(crate) const fn begin(bin: u64) -> u64 {
    EDGE - (BINS - bin) * BIN
}

/// The second that the page asks for to show a bin.
pub(crate) fn asked(bin: u64) -> String {
    (begin(bin) + 290).to_string()
}

/// The path of the matrix of a bin.
pub(crate) fn path(bin: u64) -> String {
    format!("{PAST}{}", asked(bin))
}

/// What is not as usual in some bins: pairs that are down, one-way, flaky, lossy and mtu, and whether the
/// time has occurred twice; or nothing is remembered.
pub(crate) type Odd = (Range<u64>, Option<[usize; 6]>);

/// A day with so many pairs; without any, nothing is remembered.
pub(crate) fn day(pairs: usize, odd: &[Odd], findings: &Value) -> Value {
    let time = |bin: u64| {
        let odd = odd.iter().find(|(bins, _)| bins.contains(&bin));
        let [down, one_way, flaky, lossy, mtu, repeated] = odd.map_or(Some([0; 6]), |odd| odd.1)?;
        Some(json!([begin(bin), pairs, down, one_way, flaky, lossy, mtu, repeated]))
    };
    let times: Vec<Value> = (0..BINS).filter(|_| pairs > 0).filter_map(time).collect();
    let since = times.first().map(|time| time[0].clone());
    json!({"version": 1, "node": "n1", "at": AT, "since": since, "seconds": BIN,
        "columns": ["from", "pairs", "down", "one_way", "flaky", "lossy", "mtu", "repeated"],
        "times": times, "findings": findings, "missing": []})
}

/// A finding of a day.
pub(crate) fn finding(bins: Range<u64>, grave: bool, text: &str) -> Value {
    json!({"from": begin(bins.start), "to": begin(bins.end), "kind": "pair", "grave": grave,
        "nodes": [], "text": text})
}

/// The matrix of a bin.
pub(crate) fn past(
    nodes: &[String],
    bin: u64,
    finding: &str,
    cell: impl Fn(usize, usize) -> Option<Value>,
) -> Value {
    let mut past = matrix(nodes, cell);
    let at = json!(begin(bin));
    for row in past["rows"].as_array_mut().unwrap() {
        (row["at"], row["seconds"]) = (at.clone(), json!(BIN));
        for cell in row["cells"].as_array_mut().unwrap() {
            if let Some(cell) = cell.as_object_mut() {
                cell.remove("at");
                cell.insert("probes".to_owned(), json!(33));
            }
        }
    }
    (past["at"], past["seconds"]) = (at, json!(BIN));
    past["findings"] = json!([{"grave": true, "text": finding, "pairs": [[0, 1]]}]);
    past
}

/// What the source of a pair remembers: up at 1 ms, 2 ms at worst, or as `cell` says.
pub(crate) fn pair(source: &str, target: &str, cell: impl Fn(u64) -> Option<Value>) -> Value {
    let times: Vec<Value> = (0..BINS).map(|bin| json!([begin(bin), BIN, 0])).collect();
    let up = || json!(["up", 33, 0, 0, 0.001, 0.002]);
    let cells: Vec<Value> = (0..BINS).map(|bin| cell(bin).unwrap_or_else(up)).collect();
    json!({"version": 1, "source": source, "target": target, "at": AT, "since": begin(0),
        "columns": ["verdict", "probes", "failures", "retransmits", "latency_seconds", "worst_seconds"],
        "times": times, "cells": cells, "changes": []})
}
