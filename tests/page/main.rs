//! The page in a real browser: with real agents, and with documents that no agent would send.
#![cfg(test)]

mod documents;
mod history;
mod mesh;
mod night;
mod pods;
mod recorded;
mod screenshots;
mod stand_in;

use std::path::PathBuf;

/// The agent under test.
fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}
