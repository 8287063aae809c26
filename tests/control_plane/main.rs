//! Agents and a real API server with a real etcd. `scripts/control-plane.sh`, a part of `make test`, starts
//! both on this machine, without nodes, and runs these tests.
//!
//! The tests do the work of the DaemonSet controller and the kubelets: a pod is an object that they write,
//! and a process on a loopback address. Everything else is real: validation, admission, rights, tokens,
//! certificates, the watch cache. The tests share the server and run one at a time.
#![cfg(test)]

mod agents;
mod manifests;
mod mesh;
mod outage;
mod plane;
mod prometheus;
mod rights;
mod tokens;
