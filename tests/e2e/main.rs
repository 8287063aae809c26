//! The agent on a real Kubernetes: `make e2e` brings one up on this machine (tests/cluster), or uses
//! the one that KUBECONFIG names. Without either, everything here is skipped.
//!
//! The tests share the one cluster, so they run one after another (`--test-threads=1`), and each
//! begins by making sure of what it needs. What stops parts of the control plane, or whole nodes,
//! runs on our own cluster only.
#![cfg(test)]

mod cluster;
mod cost;
mod install;
mod memory;
mod nodes;
mod outage;
mod rights;
mod rolling;
mod secrets;
mod watch;
