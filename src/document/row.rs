//! `/api/v1/row`: one node's peers in the compact form from which the matrix is collected.

use std::sync::Arc;

use super::cell::CellFields;
use super::{Chunks, Head, ReadError, json, list, millis, past, read};
use crate::matrix::{Cell, NamedRow, unix_millis};
use crate::name::{Instance, NodeName};
use crate::state::Snapshot;

/// Maximum bytes of a row: more than a thousand peers with names of usual length.
pub const MAX_ROW: usize = 128 * 1024;

/// The row of `node`.
#[must_use]
pub fn row_json(node: &NodeName, instance: &Instance, snapshot: &Arc<Snapshot>) -> Chunks {
    let head = Head::new(node, instance, snapshot);
    let (snapshot, at) = (Arc::clone(snapshot), unix_millis(snapshot.taken.wall));
    list(
        &head,
        "cells",
        snapshot.peers.len(),
        Box::new(move |index| {
            let cell = |record: &Arc<_>| {
                let cell = Cell::of(record, at);
                json(&CellFields::new(Some(record.peer.node.as_str()), &cell, at))
            };
            snapshot.peers.get(index).map(cell).unwrap_or_default()
        }),
    )
}

/// The row of `node` at a past moment.
#[must_use]
pub fn past_row_json(node: &NodeName, instance: &Instance, row: &Arc<NamedRow>) -> Chunks {
    let (row, at) = (Arc::clone(row), row.at);
    let head = Head::at(node, instance, at).of_the_past(row.past);
    let count = row.cells.len();
    let cell = move |(name, cell): &(NodeName, Cell)| {
        json(&CellFields::new(Some(name.as_str()), cell, at))
    };
    let item = move |index| row.cells.get(index).map(&cell).unwrap_or_default();
    list(&head, "cells", count, Box::new(item))
}

/// Reads the row that `peer` sent.
///
/// # Errors
/// When it is malformed, of another version, or of another node.
pub fn read_row(peer: &NodeName, document: &[u8]) -> Result<NamedRow, ReadError> {
    let document = read(document)?;
    if document.node != peer.as_str() {
        return Err(ReadError::OtherNode);
    }
    let row = || {
        let (at, past) = (millis(document.at)?, past(document.seconds, document.repeated));
        let cell = |cell: &Option<Box<CellFields<'_>>>| {
            let cell = cell.as_ref()?;
            let node = NodeName::new(cell.node?).ok().filter(|node| node != peer)?;
            Some((node, cell.check(at, past.is_some())?))
        };
        let cells = document.cells?.0.iter().map(cell).collect::<Option<_>>()?;
        Some(NamedRow { at, age: 0, clock: None, through: None, past, cells })
    };
    row().ok_or(ReadError::Malformed)
}
