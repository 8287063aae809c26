//! One cell of a row or of the matrix.

use serde::Serialize;

use super::found::{dead_flows, detail, host_state, largest_packet, split};
use super::list::List;
use super::{duration, millis, of_text, optional, unix_seconds, verdict};
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

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
            failures: failures.into(),
            retransmits: cell.retransmits().into(),
            probes: (usize::from(probes) != RECENT).then_some(probes.into()),
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

    /// The cell, if every value is within its bounds.
    pub(super) fn check(&self, row_at: u64) -> Option<Cell> {
        let latency = optional(self.latency_seconds, duration)?;
        let age = optional(self.at, millis)?.map(|at| row_at.saturating_sub(at));
        let count = |count: u32, max| u8::try_from(count).ok().filter(|count| *count <= max);
        let all = u8::try_from(RECENT).unwrap_or(u8::MAX);
        let probes = count(self.probes.unwrap_or(all.into()), all)?;
        let verdict = verdict(self.verdict, self.reason, self.direction)?;
        Some(Cell::new(CellFacts {
            verdict,
            latency,
            age,
            failures: count(self.failures, probes)?,
            retransmits: count(self.retransmits, probes)?,
            probes,
            incoming_retransmits: count(self.incoming_retransmits, all)?,
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
