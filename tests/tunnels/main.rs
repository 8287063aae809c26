//! Agents on a real network on one machine: hosts as network namespaces, userspace WireGuard between
//! them, a pod network on top, agents and workloads in pods. All traffic stays between namespaces.
//!
//! Needs root, iproute2, nftables, wireguard-go, wireguard-tools and util-linux; skipped without them.
#![cfg(test)]

mod beside;
mod clusters;
mod door;
mod faults;
mod history;
mod long;
mod mesh;
mod mtu;
mod network;
mod proxy;
mod quota;
mod record;
mod smoke;
mod survey;
mod truth;
mod wireguard;
mod workload;

use std::path::PathBuf;

/// The agent under test.
fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}
