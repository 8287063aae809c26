//! The truth table: for each fault, what every agent of a mesh says, how soon, and that nobody else
//! is accused. `table` defines the rows, `trial` runs one, the other modules inject the faults.

mod host;
mod path;
mod peer;
mod rolling;
mod table;
mod trial;
mod watch;

use std::time::Duration;

use crate::cluster::Cluster;

/// The settings of all rows.
const SETTINGS: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "2s"),
    ("WYLIS_TIMEOUT", "5s"),
    ("WYLIS_FAILURE_THRESHOLD", "3"),
    // As often as the blank ones: whatever would make them lie shall show.
    ("WYLIS_LARGE_INTERVAL", "2s"),
    ("WYLIS_REFRESH_INTERVAL", "5s"),
    ("WYLIS_DRAIN", "2s"),
];
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
const THRESHOLD: u32 = 3;
