//! One cell of a row or of the matrix.

use serde::{Deserialize, Serialize};

use super::{duration, millis, optional, unix_seconds, verdict};
use crate::matrix::Cell;
use crate::state::{RECENT, Verdict};

/// The fields of a cell. What is usual is left out.
#[derive(Serialize, Deserialize)]
pub(super) struct CellFields<'a> {
    /// In a row; in the matrix, the position tells the node.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<&'a str>,
    verdict: &'a str,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "is_default")]
    failures: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    retransmits: u32,
    #[serde(default = "all_probes", skip_serializing_if = "is_all_probes")]
    probes: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    incoming_syns_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<f64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn all_probes() -> u32 {
    u32::try_from(RECENT).unwrap_or(u32::MAX)
}

fn is_all_probes(probes: &u32) -> bool {
    *probes == all_probes()
}

impl<'a> CellFields<'a> {
    /// `row_at` is when the row was taken, in Unix milliseconds.
    pub(super) fn new(node: Option<&'a str>, cell: &Cell, row_at: u64) -> Self {
        let (failures, probes) = cell.failures();
        let reason = match cell.verdict() {
            Verdict::Down(reason) => Some(reason.as_str()),
            _ => None,
        };
        Self {
            node,
            verdict: cell.verdict().as_str(),
            reason,
            latency_seconds: cell.latency().map(|latency| latency.as_secs_f64()),
            failures: failures.into(),
            retransmits: cell.retransmits().into(),
            probes: probes.into(),
            incoming_syns_only: cell.is_incoming_syns_only(),
            at: cell.age().map(|age| unix_seconds(row_at.saturating_sub(age.into()))),
        }
    }

    /// The cell, if every value is within its bounds.
    pub(super) fn check(&self, row_at: u64) -> Option<Cell> {
        let latency = optional(self.latency_seconds, duration)?;
        let age = optional(self.at, millis)?.map(|at| row_at.saturating_sub(at));
        if self.probes > all_probes() || self.failures.max(self.retransmits) > self.probes {
            return None;
        }
        let verdict = verdict(self.verdict, self.reason)?;
        let counts = [self.failures, self.retransmits, self.probes]
            .map(|count| u8::try_from(count).unwrap_or(u8::MAX));
        Some(Cell::new(verdict, latency, age, counts, self.incoming_syns_only))
    }
}
