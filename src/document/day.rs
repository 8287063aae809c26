//! `/api/v1/history/day`: the last day of the mesh.

use std::sync::Arc;

use serde::Serialize;

use super::finding::FindingFields;
use super::list::{List, Numbers};
use super::{Chunks, MAX_UNIX, ReadError, VERSION};
use super::{is_default, json, millis, optional, read};
use crate::bounded_list::BoundedList;
use crate::history::{BIN, Bin, Day};
use crate::matrix::RowError;
use crate::name::NodeName;

/// What a time lists, in this order.
const COLUMNS: [&str; 8] =
    ["from", "pairs", "down", "one_way", "flaky", "lossy", "mtu", "repeated"];

#[derive(Serialize)]
struct DayFields<'a> {
    version: u32,
    node: &'a str,
    at: u64,
    since: Option<u64>,
    seconds: u64,
    columns: [&'a str; COLUMNS.len()],
    times: List<Numbers>,
    findings: Vec<FindingFields<'a>>,
    #[serde(skip_serializing_if = "is_default")]
    left_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    judged_since: Option<u64>,
    missing: Vec<MissingFields<'a>>,
}

/// A node that told nothing, or only a part, and why.
#[derive(Serialize)]
pub(super) struct MissingFields<'a> {
    node: &'a str,
    error: &'a str,
}

read_object!(MissingFields<'de>, required: [node, error], optional: []);

/// The day.
#[must_use]
pub fn day_json(day: &Arc<Day>) -> Chunks {
    let time = |bin: &Bin| {
        let Bin { from, pairs, faulty: [down, one_way, flaky, lossy, mtu], is_repeated } = *bin;
        let counts = [pairs, down, one_way, flaky, lossy, mtu, is_repeated.into()];
        BoundedList(std::iter::once(from).chain(counts.map(u64::from)).collect())
    };
    let mut document = json(&DayFields {
        version: VERSION,
        node: day.node.as_str(),
        at: day.at,
        since: day.since,
        seconds: BIN,
        columns: COLUMNS,
        times: BoundedList(day.bins.iter().map(time).collect()),
        findings: day.findings.iter().map(FindingFields::of_day).collect(),
        left_out: day.left_out,
        judged_since: day.judged_since,
        missing: day
            .missing
            .iter()
            .map(|(node, error)| MissingFields { node: node.as_str(), error: error.as_str() })
            .collect(),
    });
    document.push(b'\n');
    Box::new(std::iter::once(document))
}

/// Reads a day, without its times.
///
/// # Errors
/// When it is malformed or of another version.
pub fn read_day(document: &[u8]) -> Result<Day, ReadError> {
    let document = read(document)?;
    let day = || {
        let findings = document.findings?.0.into_iter().map(FindingFields::check_day);
        let missing = |one: &MissingFields<'_>| {
            Some((NodeName::new(one.node).ok()?, RowError::from_text(one.error)?))
        };
        let time = |time: u64| (time <= MAX_UNIX).then_some(time);
        Some(Day {
            node: NodeName::new(document.node).ok()?,
            at: millis(document.at)? / 1000,
            since: optional(document.since, time)?,
            bins: Vec::new(),
            findings: findings.collect::<Option<_>>()?,
            left_out: document.left_out,
            judged_since: optional(document.judged_since, time)?,
            missing: document.missing?.0.iter().map(missing).collect::<Option<_>>()?,
        })
    };
    day().ok_or(ReadError::Malformed)
}
