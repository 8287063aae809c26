//! The truth table of faults that need more than one pair to be understood: of a node, of the cluster, of the
//! agent's own host. For each: the findings of every agent, word for word, in `/api/v1/cluster`, in
//! `/api/v1/health` and in `wylis cluster`, and no finding and no verdict about any other pair.
//!
//! `table` defines the cases, `trial` runs one, `view` reads one agent; the other modules inject the faults.
//! Cases in `slow` are ignored: `make test-long` runs them, and `slow::hour` waits for an hour.
//!
//! With `WYLIS_RECORD_FINDINGS` each case writes the documents that its agents gave into that folder, as
//! fixtures for the tests of the findings.

mod host;
mod past;
mod paths;
mod slow;
mod table;
mod trial;
mod view;

use std::time::Duration;

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
