//! The agent before a real API server with a real etcd behind it: `scripts/control-plane.sh` brings both up
//! on this machine, without nodes, and runs these tests; `make test` does so too.
//!
//! The tests play the DaemonSet controller and the kubelets: a pod is an object that they write, and a
//! process at an address of loopback. All else is real: validation, admission, rights, tokens,
//! certificates, the watch cache. They share the one server, so each has it for itself while it runs.
#![cfg(test)]

mod agents;
mod manifests;
mod mesh;
mod outage;
mod plane;
mod prometheus;
mod rights;
mod tokens;
