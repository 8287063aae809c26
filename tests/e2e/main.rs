//! The agent on a real Kubernetes: `make e2e` brings one up on this machine (tests/cluster), or uses
//! the one that KUBECONFIG names. Without either, everything here is skipped.
//!
//! The tests of one cluster share it, so they run one after another (`--test-threads=1`), and each
//! begins by making sure of what it needs. `scripts/e2e.sh` brings up three clusters, and says which of
//! these files runs in which. What stops parts of the control plane, or whole nodes, runs on our own
//! clusters only.
#![cfg(test)]

mod answers;
mod cluster;
mod cost;
mod install;
mod memory;
mod nodes;
mod outage;
mod proxy;
mod rights;
mod rolling;
mod secrets;
mod watch;
