//! A real network on one machine: hosts as network namespaces, WireGuard in userspace between them,
//! a pod network on top, agents and workloads as pods. All traffic stays between namespaces.
//!
//! Needs root, iproute2, nftables, wireguard-go, wireguard-tools and util-linux; says so and passes
//! without.
#![cfg(test)]

mod cluster;
mod door;
mod faults;
mod long;
mod network;
mod quota;
mod record;
mod smoke;
mod truth;
mod workload;

use std::path::PathBuf;

/// The agent under test.
fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}
