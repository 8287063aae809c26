//! The lifecycle of a mesh: real agents that start, stop, crash, lose the API server and are updated.
#![cfg(test)]

mod aimed;
mod directions;
mod flight;
mod goodbye;
mod health;
mod history;
mod hostile_cache;
mod log;
mod mixed;
mod outage;
mod overload;
mod rolling;
mod stopping;
mod survey;
mod threads;

use std::path::PathBuf;

/// The agent under test.
fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}

/// Ten times faster than the defaults, for tests that do not test the defaults.
const FAST: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1s"),
    ("WYLIS_TIMEOUT", "2s"),
    ("WYLIS_REFRESH_INTERVAL", "2s"),
    ("WYLIS_DRAIN", "1s"),
];
