//! `/api/v1/history/day`: the last day of the mesh.

use std::sync::Arc;

use super::{Chunks, ReadError};
use crate::history::Day;

/// The day.
#[must_use]
pub fn day_json(day: &Arc<Day>) -> Chunks {
    let _ = day;
    todo!()
}

/// Reads a day.
///
/// # Errors
/// When it is malformed or of another version.
pub fn read_day(document: &[u8]) -> Result<Day, ReadError> {
    let _ = document;
    todo!()
}
