//! The agent on a real Kubernetes cluster: `make e2e` starts one on this machine (tests/cluster), or uses
//! KUBECONFIG's. Without a cluster, all tests are skipped.
//!
//! Tests share a cluster: they run one at a time (`--test-threads=1`), and each first ensures what it
//! needs. `scripts/e2e.sh` starts three clusters and assigns these files to them. Tests that stop nodes or
//! parts of the control plane need a cluster of tests/cluster.
#![cfg(test)]

mod answers;
mod cluster;
mod cost;
mod experiments;
mod history;
mod install;
mod memory;
mod nodes;
mod observe;
mod outage;
mod proxy;
mod rights;
mod rolling;
mod secrets;
