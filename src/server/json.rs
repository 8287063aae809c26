//! This node's row as JSON: from a snapshot to chunks of text. Pure.
//!
//! One chunk a peer, so that a large cluster costs little memory. Times are Unix seconds,
//! durations seconds, sizes bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Chunks;
use crate::name::{Instance, NodeName};
use crate::probe::FailureReason;
use crate::state::{self, PeerRecord, Sample, Snapshot};

/// Rises when a field changes its meaning or goes; new fields may come at any time.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Head<'a> {
    version: u32,
    node: &'a str,
    instance: &'a str,
    at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    incoming_unknown: Option<u64>,
}

#[derive(Serialize)]
struct Row<'a> {
    node: &'a str,
    address: String,
    other_addresses: Vec<String>,
    instance: Option<&'a str>,
    ready: Option<bool>,
    verdict: &'a str,
    reason: Option<&'static str>,
    up: Option<bool>,
    incoming_syns_only: Option<bool>,
    successes: u64,
    failures: u64,
    failures_by_reason: BTreeMap<&'static str, u64>,
    failures_in_row: u32,
    retransmits: u64,
    retransmits_per_probe: Option<f64>,
    rtt_seconds: Option<f64>,
    path_mtu_bytes: Option<u32>,
    last_success: Option<f64>,
    last_failure: Option<Failure>,
    large: Large,
    incoming_requests: u64,
    last_incoming: Option<f64>,
    announced_interval_seconds: Option<f64>,
    recent: Vec<Probe>,
}

#[derive(Serialize)]
struct Large {
    successes: u32,
    failures: u32,
    last: Option<LargeProbe>,
}

#[derive(Serialize)]
struct LargeProbe {
    at: f64,
    total_seconds: Option<f64>,
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Failure {
    at: f64,
    phase: &'static str,
    reason: &'static str,
}

#[derive(Serialize)]
struct Probe {
    at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    retransmits: u16,
}

/// The row of `node`: every peer with what is known of it.
#[must_use]
pub fn peers_json(node: &NodeName, instance: &Instance, snapshot: &Arc<Snapshot>) -> Chunks {
    let mut opening = opening(node, instance, snapshot, Some(snapshot.incoming_unknown));
    opening.extend_from_slice(b",\"peers\":[");
    let rows = snapshot.peers.clone().into_iter().enumerate().map(|(index, record)| {
        let separator: &[u8] = if index == 0 { b"\n" } else { b",\n" };
        [separator, &peer_value(&record)].concat()
    });
    Box::new(std::iter::once(opening).chain(rows).chain(std::iter::once(b"\n]}\n".to_vec())))
}

/// One peer of that row; `None` when there is none of that name.
#[must_use]
pub fn peer_json(
    node: &NodeName,
    instance: &Instance,
    snapshot: &Snapshot,
    peer: &NodeName,
) -> Option<Vec<u8>> {
    let record = snapshot.peers.iter().find(|record| record.peer.node == *peer)?;
    let mut document = opening(node, instance, snapshot, None);
    document.extend_from_slice(b",\"peer\":");
    document.extend(peer_value(record));
    document.extend_from_slice(b"}\n");
    Some(document)
}

/// What is known of one peer, as it stands in a row.
fn peer_value(record: &PeerRecord) -> Vec<u8> {
    text(&row(record))
}

/// What a document begins with, left open for the rest.
fn opening(
    node: &NodeName,
    instance: &Instance,
    snapshot: &Snapshot,
    incoming_unknown: Option<u64>,
) -> Vec<u8> {
    let mut opening = text(&Head {
        version: VERSION,
        node: node.as_str(),
        instance: instance.as_str(),
        at: unix(snapshot.taken.wall),
        incoming_unknown,
    });
    opening.pop();
    opening
}

fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with text keys can always be written")
}

fn row(record: &PeerRecord) -> Row<'_> {
    let counted = FailureReason::ALL.iter().zip(record.failures).filter(|(_, count)| *count > 0);
    let down = (record.up == Some(false)).then_some(record.last_failure).flatten();
    Row {
        node: record.peer.node.as_str(),
        address: record.peer.address.to_string(),
        other_addresses: record.peer.other_addresses.iter().map(ToString::to_string).collect(),
        instance: record.peer.instance.as_ref().or(record.responder.as_ref()).map(Instance::as_str),
        ready: record.peer.ready,
        verdict: record.verdict.as_str(),
        reason: down.map(|(reason, _)| reason.as_str()),
        up: record.up,
        incoming_syns_only: record.incoming_syns_only,
        successes: record.successes,
        failures: record.failed(),
        failures_by_reason: counted.map(|(reason, count)| (reason.as_str(), count)).collect(),
        failures_in_row: record.consecutive_failures,
        retransmits: record.retransmits,
        retransmits_per_probe: record.retransmits_per_probe(),
        rtt_seconds: record.rtt.map(seconds),
        path_mtu_bytes: record.path_mtu,
        last_success: record.last_success.map(unix),
        last_failure: record.last_failure.map(|(reason, at)| Failure {
            at: unix(at),
            phase: reason.phase().as_str(),
            reason: reason.as_str(),
        }),
        large: large(&record.large),
        incoming_requests: record.incoming,
        last_incoming: record.last_incoming.map(|heard| unix(heard.wall)),
        announced_interval_seconds: record.announced_interval.map(seconds),
        recent: record.recent.iter().map(probe).collect(),
    }
}

fn large(known: &state::LargeProbes) -> Large {
    let last = known.last.map(|(at, result)| LargeProbe {
        at: unix(at),
        total_seconds: result.ok().map(seconds),
        reason: result.err().map(FailureReason::as_str),
    });
    Large { successes: known.successes, failures: known.failures, last }
}

fn probe(sample: &Sample) -> Probe {
    let result = sample.result();
    let times = result.ok();
    Probe {
        at: thousandths(sample.at_millis()),
        connect_seconds: times.map(|(connect, _)| seconds(connect)),
        total_seconds: times.map(|(_, total)| seconds(total)),
        reason: result.err().map(FailureReason::as_str),
        retransmits: sample.retransmits,
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// To the millisecond: more would be noise of the clock.
fn unix(at: SystemTime) -> f64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    thousandths(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
fn thousandths(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}
