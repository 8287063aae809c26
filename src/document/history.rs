//! `/api/v1/history`, what one agent remembers; `/api/v1/past/peers/NODE`, what it remembers of one peer; and
//! `/api/v1/history/SOURCE/TARGET`, which passes that on.

use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::list::{List, Numbers};
use super::peer::{Pair, depth};
use super::{Chunks, Head, MAX_UNIX, ReadError};
use super::{append, json, list_after, millis, opening, read, unix_seconds};
use crate::bounded_list::BoundedList;
use crate::history::{Cell, CellTime, MAX_SPANS, Recollection, VerdictChange};
use crate::matrix::{RowError, unix_millis};
use crate::name::{Instance, NodeName};

/// Maximum bytes of what an agent remembers of one peer: 600 cells of 110, and their times; 256 changes of 340.
pub const MAX_PAST_PEER: usize = 192 * 1024;
/// What a cell lists, in this order.
const COLUMNS: [&str; 6] =
    ["verdict", "probes", "failures", "retransmits", "latency_seconds", "worst_seconds"];
/// A cell in a list in a list.
const MAX_DEPTH: usize = 3;

/// A cell, in the order of [`COLUMNS`]; `None` where nothing is known.
type CellFields = Option<(String, u32, u32, u32, Option<f64>, Option<f64>)>;

#[derive(Serialize)]
struct Remembered<'a> {
    since: Option<u64>,
    columns: [&'a str; COLUMNS.len()],
    times: List<Numbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cells: Option<Vec<CellFields>>,
    changes: Vec<Change<'a>>,
}

#[derive(Serialize)]
struct Change<'a> {
    at: f64,
    node: &'a str,
    verdict: String,
}

impl<'a> Remembered<'a> {
    /// Of all peers, without cells; or of one.
    fn new(recollection: &'a Recollection, peer: Option<(usize, &NodeName)>) -> Self {
        let is_of = |change: &&VerdictChange| peer.is_none_or(|(_, node)| change.node == *node);
        let changes = recollection.changes.iter().filter(is_of).map(|change| Change {
            at: unix_seconds(change.at),
            node: change.node.as_str(),
            verdict: change.verdict.with(change.detail),
        });
        Self {
            since: recollection.since(),
            columns: COLUMNS,
            times: times(recollection.spans.iter().map(|span| span.time)),
            cells: peer.map(|(path, _)| cells(recollection, path)),
            changes: changes.collect(),
        }
    }
}

/// Times as begin, seconds, and whether they have occurred before.
pub(super) fn times(times: impl Iterator<Item = CellTime>) -> List<Numbers> {
    let time =
        |time: CellTime| BoundedList(vec![time.from, time.seconds.into(), time.is_repeated.into()]);
    BoundedList(times.map(time).collect())
}

fn cells(recollection: &Recollection, path: usize) -> Vec<CellFields> {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let fields = |cell: Cell| {
        let cell = cell.summary()?;
        let text = cell.word.text();
        let times = (seconds(cell.median), seconds(cell.worst));
        Some((text, cell.probes, cell.failures, cell.retransmits, times.0, times.1))
    };
    recollection.spans.iter().map(|span| fields(span.cell(path))).collect()
}

/// What `node` remembers, one peer a chunk.
#[must_use]
pub fn history_json(
    node: &NodeName,
    instance: &Instance,
    recollection: &Arc<Recollection>,
) -> Chunks {
    let mut document = json(&Head::at(node, instance, unix_millis(recollection.taken.wall)));
    append(&mut document, &json(&Remembered::new(recollection, None)));
    document.pop();
    document.extend_from_slice(b",\"peers\":");
    let peers = recollection.sorted_paths();
    let (count, recollection) = (peers.len(), Arc::clone(recollection));
    let item = move |(name, path): &(NodeName, usize)| {
        json(&PeerFields { node: name.as_str(), cells: cells(&recollection, *path) })
    };
    list_after(
        document,
        count,
        Box::new(move |index| peers.get(index).map(&item).unwrap_or_default()),
    )
}

#[derive(Serialize)]
struct PeerFields<'a> {
    node: &'a str,
    cells: Vec<CellFields>,
}

/// What `node` remembers of one peer; `None` when it remembers no such peer.
#[must_use]
pub fn past_peer_json(
    node: &NodeName,
    instance: &Instance,
    recollection: &Recollection,
    peer: &NodeName,
) -> Option<Vec<u8>> {
    let path = recollection.path(peer)?;
    let head = Head::at(node, instance, unix_millis(recollection.taken.wall));
    let mut document = opening(&head, "peer");
    document.extend(json(&Remembered::new(recollection, Some((path, peer)))));
    document.extend_from_slice(b"}\n");
    Some(document)
}

/// What is read of a peer before it is passed on.
struct PastInput<'a> {
    columns: List<&'a str>,
    times: List<Numbers>,
    cells: &'a RawValue,
    changes: &'a RawValue,
    // Of the document that it is put into.
    version: IsThere,
    source: IsThere,
    target: IsThere,
    at: IsThere,
    error: IsThere,
}

/// Whether a field is there, whatever its value.
#[derive(Default)]
struct IsThere(bool);

impl<'de> Deserialize<'de> for IsThere {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(input).map(|_| Self(true))
    }
}

read_object!(
    PastInput<'de>,
    required: [columns, times, cells, changes],
    optional: [version, source, target, at, error]
);

/// One pair as its source remembers it: `past` is the document that `source` sent of `target`, or why there is none.
#[must_use]
pub fn past_pair_json(
    source: &NodeName,
    target: &NodeName,
    past: Result<&[u8], RowError>,
) -> Vec<u8> {
    let past = past.and_then(|document| Ok(read_past(source, document)?));
    let mut pair = Pair::new(source, target);
    pair.at = past.ok().map(|(at, _)| unix_seconds(at));
    pair.error = past.err().map(RowError::as_str);
    let mut document = json(&pair);
    if let Ok((_, past)) = past {
        append(&mut document, past.get().as_bytes());
    }
    document.push(b'\n');
    document
}

/// What `source` remembers of a peer, word for word, and when that was so, in Unix milliseconds.
fn read_past<'a>(source: &NodeName, document: &'a [u8]) -> Result<(u64, &'a RawValue), ReadError> {
    let document = read(document)?;
    if document.node != source.as_str() {
        return Err(ReadError::OtherNode);
    }
    let past = || {
        let past = document.peer.filter(|peer| depth(peer.get()) <= MAX_DEPTH)?;
        let input: PastInput<'_> = serde_json::from_slice(past.get().as_bytes()).ok()?;
        let PastInput { columns, times, cells, changes, version, source, target, at, error } =
            input;
        let is_list = |value: &RawValue| value.get().starts_with('[');
        let is_free = [version, source, target, at, error].iter().all(|field| !field.0);
        let fits = columns.0.starts_with(&COLUMNS) && is_list(cells) && is_list(changes);
        let at = millis(document.at)?;
        (fits && is_free && read_times(times).is_some()).then_some((at, past))
    };
    past().ok_or(ReadError::Malformed)
}

/// The times of cells, each with a begin, some seconds, and whether it has occurred before.
pub(super) fn read_times(times: List<Numbers>) -> Option<Vec<CellTime>> {
    let time = |time: &Numbers| match time.0.as_slice() {
        [from, seconds, repeated @ (0 | 1)] => Some(CellTime {
            from: *from,
            seconds: u32::try_from(*seconds).ok().filter(|seconds| *seconds > 0)?,
            is_repeated: *repeated == 1,
        }),
        _ => None,
    };
    let times: Option<Vec<_>> = times.0.iter().map(time).collect();
    times.filter(|times| times.len() <= MAX_SPANS && times.iter().all(|time| time.to() <= MAX_UNIX))
}
