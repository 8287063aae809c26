//! One cell of a row or of the matrix.

use serde::Serialize;

use super::list::List;
use super::{duration, millis, of_text, optional, unix_seconds, verdict};
use crate::matrix::{Cell, CellFacts};
use crate::probe::FailureReason;
use crate::state::{Direction, Incoming, RECENT};

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
        Some(Cell::new(CellFacts {
            verdict: verdict(self.verdict, self.reason, self.direction)?,
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
        }))
    }
}
