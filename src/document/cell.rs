//! One cell of a row or of the matrix.

use serde::Serialize;

use super::found::{dead_flows, detail, host_state, largest_packet, split};
use super::list::List;
use super::{duration, is_default, millis, of_text, optional, unix_seconds, verdict};
use crate::experiment::{Detail, HostState};
use crate::matrix::{Cell, CellFacts};
use crate::probe::FailureReason;
use crate::state::{Direction, Incoming, RECENT, Verdict};

/// The fields of a cell. What is usual is left out.
#[derive(Serialize)]
pub(super) struct CellFields<'a> {
    /// In a row only; in the matrix, the position stands for the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<&'a str>,
    verdict: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_seconds: Option<f64>,
    #[serde(skip_serializing_if = "is_default")]
    failures: u32,
    #[serde(skip_serializing_if = "is_default")]
    retransmits: u32,
    /// [`RECENT`] where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<u32>,
    /// Of the past only.
    #[serde(skip_serializing_if = "is_default")]
    recent_retransmits: u32,
    #[serde(skip_serializing_if = "is_default")]
    incoming_retransmits: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    incoming: Option<&'a str>,
    #[serde(skip_serializing_if = "is_default")]
    slow: bool,
    #[serde(skip_serializing_if = "is_default")]
    intercepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu_bytes: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    mtu_at_least: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_flows: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "is_default")]
    surveyed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<f64>,
}

read_object!(
    CellFields<'de>,
    required: [verdict],
    optional: [
        node,
        reason,
        direction,
        latency_seconds,
        failures,
        retransmits,
        probes,
        recent_retransmits,
        incoming_retransmits,
        incoming,
        slow,
        intercepted,
        mtu_bytes,
        mtu_at_least,
        dead_flows,
        flows,
        host,
        surveyed,
        at
    ]
);

/// Cells as they are read. They are boxed because `null` takes 4 bytes in a document: a hostile row must
/// not become 20 times as large in memory.
pub(super) type Cells<'a> = List<Option<Box<CellFields<'a>>>>;

#[expect(clippy::cast_possible_truncation, reason = "it is 20")]
const ALL_RECENT: u32 = RECENT as u32;

impl<'a> CellFields<'a> {
    /// `row_at` is when the row was taken, in Unix milliseconds.
    pub(super) fn new(node: Option<&'a str>, cell: &Cell, row_at: u64) -> Self {
        let (failures, probes) = cell.failures();
        let verdict = cell.verdict();
        let (largest, flows, host) = split(cell.detail());
        Self {
            node,
            verdict: verdict.as_str(),
            reason: verdict.reason().map(FailureReason::as_str),
            direction: verdict.direction().map(Direction::as_str),
            latency_seconds: cell.latency().map(|latency| latency.as_secs_f64()),
            failures,
            retransmits: cell.retransmits(),
            probes: (probes != ALL_RECENT).then_some(probes),
            recent_retransmits: match cell.is_of_the_past() {
                true => cell.recent_retransmits().into(),
                false => 0,
            },
            incoming_retransmits: cell.incoming_retransmits().into(),
            incoming: cell.incoming().map(Incoming::as_str),
            slow: cell.is_slow(),
            intercepted: cell.is_intercepted(),
            mtu_bytes: largest.map(|largest| largest.bytes.into()),
            mtu_at_least: largest.is_some_and(|largest| !largest.is_exact),
            dead_flows: flows.map(|flows| flows.dead.into()),
            flows: flows.map(|flows| flows.flows.into()),
            host: host.map(HostState::as_str),
            surveyed: cell.is_surveyed(),
            at: cell.age().map(|age| unix_seconds(row_at.saturating_sub(age.into()))),
        }
    }

    /// The cell of a row, of the past or not, if every value is within its bounds.
    pub(super) fn check(&self, row_at: u64, is_past: bool) -> Option<Cell> {
        let latency = optional(self.latency_seconds, duration)?;
        let age = optional(self.at, millis)?.map(|at| row_at.saturating_sub(at));
        let count = |count: u32, max: u32| Some(count).filter(|count| *count <= max);
        let recent = |number: u32| u8::try_from(count(number, ALL_RECENT)?).ok();
        let max = if is_past { Cell::MAX_COUNT } else { ALL_RECENT };
        let probes = count(self.probes.unwrap_or(ALL_RECENT), max)?;
        let verdict = verdict(self.verdict, self.reason, self.direction)?;
        Some(Cell::new(CellFacts {
            verdict,
            latency,
            age,
            failures: count(self.failures, probes)?,
            retransmits: count(self.retransmits, probes)?,
            probes,
            recent_retransmits: optional(is_past.then_some(self.recent_retransmits), recent)?,
            incoming_retransmits: recent(self.incoming_retransmits)?,
            incoming: optional(self.incoming, |word| {
                of_text(Incoming::ALL, Incoming::as_str, word)
            })?,
            is_slow: self.slow,
            is_intercepted: self.intercepted,
            detail: self.detail(verdict)?,
            is_surveyed: self.surveyed,
        }))
    }

    /// What an experiment adds to this verdict.
    fn detail(&self, verdict: Verdict) -> Option<Option<Detail>> {
        let largest = optional(self.mtu_bytes, |bytes| largest_packet(bytes, !self.mtu_at_least))?;
        let flows = match (self.dead_flows, self.flows) {
            (None, None) => None,
            (Some(dead), Some(flows)) => Some(dead_flows(dead, flows)?),
            _ => return None,
        };
        let host = optional(self.host, host_state)?;
        Some(detail(verdict, largest, flows, host))
    }
}
