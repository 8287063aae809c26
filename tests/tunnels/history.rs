//! What agents remember of faults on real tunnels. While a fault lasts, a node that it does not affect reports
//! findings; afterwards it must report the same ones of that moment, word for word, in the matrix of the moment, in
//! the day of the mesh and in `wylis history`.
//!
//! `said` reads findings while they are true, `past` asks for them later. A fault has a mesh of its own: two within
//! one cell of five minutes would be remembered as one. Cases in `slow` are ignored: `make test-long` runs them.

mod faults;
mod past;
mod releases;
mod restarts;
mod said;
mod slow;

use std::time::Duration;

/// The agents' settings in all cases. A probe ends before the next one begins, so that a late one alone is no fault.
const SETTINGS: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1500ms"),
    ("WYLIS_TIMEOUT", "1400ms"),
    ("WYLIS_LARGE_INTERVAL", "0s"),
    ("WYLIS_REFRESH_INTERVAL", "5s"),
    ("WYLIS_DRAIN", "1s"),
];
/// Enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
