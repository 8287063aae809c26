//! The life of a mesh: real agents, started, stopped, killed, cut off, and rolled over.
#![cfg(test)]

mod flight;
mod goodbye;
mod health;
mod mixed;
mod outage;
mod overload;
mod rolling;
mod stopping;

use std::path::PathBuf;

/// The agent under test.
fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}

/// Ten times faster than the defaults, where the defaults are not what is tested.
const FAST: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1s"),
    ("WYLIS_TIMEOUT", "2s"),
    ("WYLIS_REFRESH_INTERVAL", "2s"),
    ("WYLIS_DRAIN", "1s"),
];
