//! The truth table: for each injected fault, the verdicts of all agents, the time to them, and no false
//! alarm about any other pair. `table` defines the cases, `trial` runs one, `observer` reads the agents,
//! the other modules inject the faults.

mod host;
mod observer;
mod path;
mod peer;
mod rolling;
mod table;
mod trial;

use std::time::Duration;

use crate::mesh::TunnelMesh;

/// The agents' settings in all cases.
const SETTINGS: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "2s"),
    ("WYLIS_TIMEOUT", "5s"),
    ("WYLIS_FAILURE_THRESHOLD", "3"),
    // As often as blank probes, so that a false alarm of large probes shows.
    ("WYLIS_LARGE_INTERVAL", "2s"),
    ("WYLIS_REFRESH_INTERVAL", "5s"),
    ("WYLIS_DRAIN", "2s"),
];
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
const THRESHOLD: u32 = 3;
