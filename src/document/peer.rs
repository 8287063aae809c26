//! `/api/v1/peers/NODE`, one peer as its source sees it, and `/api/v1/cluster/SOURCE/TARGET`, which
//! passes such a peer on.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::found::{FlowsFields, FoundInput, HostFields, MtuFields, MtuInput, read_detail};
use super::list::List;
use super::{Head, PeerSurvey, ReadError, VERSION};
use super::{
    duration, failure_reason, json, millis, of_text, opening, optional, read, unix, unix_seconds,
    verdict,
};
use crate::experiment::Detail;
use crate::matrix::{RowError, median, unix_millis};
use crate::name::{Instance, NodeName};
use crate::probe::FailureReason;
use crate::state::{
    self, Direction, Incoming, Moment, PeerRecord, RECENT, Sample, Snapshot, Verdict,
};

/// Deeper than any peer; readers of a pair may recurse.
const MAX_DEPTH: usize = 16;

/// All fields of a peer, as they are written.
#[derive(Serialize)]
pub(super) struct PeerFields<'a> {
    node: &'a str,
    address: String,
    other_addresses: Vec<String>,
    instance: Option<&'a str>,
    ready: Option<bool>,
    verdict: &'a str,
    reason: Option<&'static str>,
    direction: Option<&'static str>,
    up: Option<bool>,
    incoming: Option<&'static str>,
    successes: u64,
    failures: u64,
    #[serde(serialize_with = "map")]
    failures_by_reason: Vec<(&'static str, u32)>,
    consecutive_failures: u32,
    retransmits: u64,
    retransmits_per_probe: Option<f64>,
    rtt_seconds: Option<f64>,
    rtt_age_seconds: Option<f64>,
    slow: bool,
    intercepted: bool,
    path_mtu_bytes: Option<u32>,
    last_success: Option<f64>,
    last_failure: Option<Failure>,
    large: Large,
    incoming_requests: u64,
    incoming_retransmits: u8,
    last_incoming: Option<f64>,
    announced_interval_seconds: Option<f64>,
    longest_gap_seconds: Option<f64>,
    mtu: MtuFields,
    host: Option<HostFields>,
    flows: Option<FlowsFields>,
    survey: Option<PeerSurvey>,
    surveyed: bool,
    recent: Vec<Probe>,
}

#[derive(Serialize)]
struct Large {
    successes: u32,
    failures: u32,
    last: Option<LargeProbe>,
    outgoing: LargeDirection,
    incoming: LargeDirection,
}

#[derive(Serialize)]
struct LargeDirection {
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

/// Writes pairs as an object. A `BTreeMap` would add 6 KB to the binary.
fn map<S: Serializer>(pairs: &[(&str, u32)], output: S) -> Result<S::Ok, S::Error> {
    output.collect_map(pairs.iter().copied())
}

impl<'a> PeerFields<'a> {
    /// The fields of a peer in a snapshot that was taken at `taken`.
    pub(super) fn new(record: &'a PeerRecord, taken: Moment) -> Self {
        let rtt = record.rtt();
        let rtt_at = record.last_success.filter(|_| rtt.is_some());
        let peer = &record.peer;
        let counted =
            FailureReason::ALL.iter().zip(record.failures).filter(|(_, count)| *count > 0);
        let (large, found) = (&record.large, &record.experiments);
        Self {
            node: peer.node.as_str(),
            address: peer.address.to_string(),
            other_addresses: peer.other_addresses.iter().map(ToString::to_string).collect(),
            instance: peer.instance.as_ref().or(record.responder.as_ref()).map(Instance::as_str),
            ready: peer.ready,
            verdict: record.verdict.as_str(),
            reason: record.verdict.reason().map(FailureReason::as_str),
            direction: record.verdict.direction().map(Direction::as_str),
            up: record.up,
            incoming: record.incoming_kind.map(Incoming::as_str),
            successes: record.successes,
            failures: record.failed(),
            failures_by_reason: counted.map(|(reason, count)| (reason.as_str(), count)).collect(),
            consecutive_failures: record.consecutive_failures,
            retransmits: record.retransmits,
            retransmits_per_probe: record.retransmits_per_probe(),
            rtt_seconds: rtt.map(|rtt| rtt.as_secs_f64()),
            rtt_age_seconds: rtt_at
                .map(|at| taken.wall.duration_since(at).unwrap_or_default().as_secs_f64()),
            slow: record.is_slower_than_timeout(),
            intercepted: record.is_intercepted(),
            path_mtu_bytes: record.path_mtu,
            last_success: record.last_success.map(unix),
            last_failure: record.last_failure.map(|(reason, at)| Failure {
                at: unix(at),
                phase: reason.phase().as_str(),
                reason: reason.as_str(),
            }),
            large: Large {
                successes: large.successes,
                failures: large.failures,
                last: large.last().map(LargeProbe::new),
                outgoing: LargeDirection::new(&large.outgoing),
                incoming: LargeDirection::new(&large.incoming),
            },
            incoming_requests: record.incoming,
            incoming_retransmits: record.recent_incoming_retransmits(),
            last_incoming: record.last_incoming.map(unix),
            announced_interval_seconds: record.announced_interval.map(|span| span.as_secs_f64()),
            longest_gap_seconds: record.longest_gap(taken.instant).map(|gap| gap.as_secs_f64()),
            mtu: MtuFields::new(found),
            host: HostFields::new(found),
            flows: FlowsFields::new(found),
            survey: record
                .survey
                .as_ref()
                .map(|found| PeerSurvey::new(&found.result, unix_millis(found.at))),
            surveyed: record.surveyed(),
            recent: record.recent.iter().map(Probe::new).collect(),
        }
    }
}

impl LargeDirection {
    fn new(direction: &state::LargeDirection) -> Self {
        let state::LargeDirection { successes, failures, last, .. } = *direction;
        Self { successes, failures, last: last.map(LargeProbe::new) }
    }
}

impl LargeProbe {
    fn new(sample: Sample) -> Self {
        let result = sample.result();
        Self {
            at: unix_seconds(sample.at_millis()),
            total_seconds: result.ok().map(|(_, total)| total.as_secs_f64()),
            reason: result.err().map(FailureReason::as_str),
        }
    }
}

impl Probe {
    fn new(sample: &Sample) -> Self {
        let result = sample.result();
        let times = result.ok();
        Self {
            at: unix_seconds(sample.at_millis()),
            connect_seconds: times.map(|(connect, _)| connect.as_secs_f64()),
            total_seconds: times.map(|(_, total)| total.as_secs_f64()),
            reason: result.err().map(FailureReason::as_str),
            retransmits: sample.retransmits().into(),
        }
    }
}

/// One peer of `node`; `None` when `node` has no such peer.
#[must_use]
pub fn peer_json(
    node: &NodeName,
    instance: &Instance,
    snapshot: &Snapshot,
    peer: &NodeName,
) -> Option<Vec<u8>> {
    let record = snapshot.peers.iter().find(|record| record.peer.node == *peer)?;
    let mut document = opening(&Head::new(node, instance, snapshot), "peer");
    document.extend(json(&PeerFields::new(record, snapshot.taken)));
    document.extend_from_slice(b"}\n");
    Some(document)
}

/// One peer, as far as a table shows it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "PeerInput<'_>")]
pub struct PeerLine {
    /// Its node.
    pub node: NodeName,
    /// Its verdict.
    pub verdict: Verdict,
    /// What comes in from it while it is down or one-way.
    pub incoming: Option<Incoming>,
    /// Median total time of the successes among the recent probes.
    pub latency: Option<Duration>,
    /// Failures among the recent probes.
    pub failures: usize,
    /// Number of recent probes.
    pub probes: usize,
    /// Retransmits of the recent probes.
    pub retransmits: u32,
    /// The kernel's round-trip time.
    pub rtt: Option<Duration>,
    /// How old it is.
    pub rtt_age: Option<Duration>,
    /// The kernel's path MTU, in bytes.
    pub path_mtu: Option<u32>,
    /// The last success, in Unix milliseconds.
    pub last_success: Option<u64>,
    /// What an experiment adds to the verdict.
    pub detail: Option<Detail>,
    /// It rests for a survey: all of this is from before.
    pub is_surveyed: bool,
}

/// The fields of a peer that are read.
struct PeerInput<'a> {
    node: &'a str,
    verdict: &'a str,
    reason: Option<&'a str>,
    direction: Option<&'a str>,
    incoming: Option<&'a str>,
    rtt_seconds: Option<f64>,
    rtt_age_seconds: Option<f64>,
    path_mtu_bytes: Option<u32>,
    last_success: Option<f64>,
    mtu: Option<MtuInput<'a>>,
    host: Option<FoundInput<'a>>,
    flows: Option<FoundInput<'a>>,
    surveyed: bool,
    recent: List<ProbeInput<'a>>,
}

read_object!(
    PeerInput<'de>,
    required: [node, verdict, recent],
    optional: [
        reason,
        direction,
        incoming,
        rtt_seconds,
        rtt_age_seconds,
        path_mtu_bytes,
        last_success,
        mtu,
        host,
        flows,
        surveyed
    ]
);

struct ProbeInput<'a> {
    total_seconds: Option<f64>,
    reason: Option<&'a str>,
    retransmits: u32,
}

read_object!(ProbeInput<'de>, required: [retransmits], optional: [total_seconds, reason]);

impl TryFrom<PeerInput<'_>> for PeerLine {
    type Error = &'static str;

    fn try_from(fields: PeerInput<'_>) -> Result<Self, Self::Error> {
        fields.line().ok_or("a value outside its bounds")
    }
}

impl PeerInput<'_> {
    fn line(&self) -> Option<PeerLine> {
        let (mut times, mut retransmits) = (Vec::new(), 0_u32);
        for probe in &self.recent.0 {
            match (probe.total_seconds, probe.reason) {
                (Some(total), None) => times.push(duration(total)?),
                (None, Some(reason)) => drop(failure_reason(reason)?),
                _ => return None,
            }
            retransmits = retransmits.saturating_add(probe.retransmits);
        }
        let probes = self.recent.0.len();
        let verdict = verdict(self.verdict, self.reason, self.direction)?;
        let line = PeerLine {
            node: NodeName::new(self.node).ok()?,
            verdict,
            incoming: optional(self.incoming, |word| {
                of_text(Incoming::ALL, Incoming::as_str, word)
            })?,
            failures: probes - times.len(),
            probes,
            retransmits,
            latency: median(times.into_iter()),
            rtt: optional(self.rtt_seconds, duration)?,
            rtt_age: optional(self.rtt_age_seconds, duration)?,
            path_mtu: self.path_mtu_bytes,
            last_success: optional(self.last_success, millis)?,
            detail: read_detail(
                verdict,
                self.mtu.as_ref(),
                self.flows.as_ref(),
                self.host.as_ref(),
            )?,
            is_surveyed: self.surveyed,
        };
        (probes <= RECENT).then_some(line)
    }
}

#[derive(Serialize)]
pub(super) struct Pair<'a> {
    version: u32,
    source: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'static str>,
}

impl<'a> Pair<'a> {
    pub(super) fn new(source: &'a NodeName, target: &'a NodeName) -> Self {
        let (source, target) = (source.as_str(), target.as_str());
        Self { version: VERSION, source, target, at: None, peer: None, error: None }
    }
}

/// One pair: `peer` is the peer document that `source` sent of `target`, or why there is none.
#[must_use]
pub fn pair_json(source: &NodeName, target: &NodeName, peer: Result<&[u8], RowError>) -> Vec<u8> {
    let peer = peer.and_then(|document| Ok(read_peer(source, target, document)?));
    let mut document = json(&Pair {
        at: peer.ok().map(|(at, _)| unix_seconds(at)),
        peer: peer.ok().map(|(_, peer)| peer),
        error: peer.err().map(RowError::as_str),
        ..Pair::new(source, target)
    });
    document.push(b'\n');
    document
}

/// The peer in `document`, word for word, and when its source saw it so, in Unix milliseconds.
fn read_peer<'a>(
    source: &NodeName,
    target: &NodeName,
    document: &'a [u8],
) -> Result<(u64, &'a RawValue), ReadError> {
    let document = read(document)?;
    if document.node != source.as_str() {
        return Err(ReadError::OtherNode);
    }
    let peer = || {
        let peer = document.peer.filter(|peer| depth(peer.get()) <= MAX_DEPTH)?;
        let line: PeerLine = serde_json::from_slice(peer.get().as_bytes()).ok()?;
        Some((line.node, millis(document.at)?, peer))
    };
    match peer() {
        Some((node, at, peer)) if node == *target => Ok((at, peer)),
        Some(_) => Err(ReadError::OtherNode),
        None => Err(ReadError::Malformed),
    }
}

/// The depth to which valid JSON nests.
pub(super) fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
