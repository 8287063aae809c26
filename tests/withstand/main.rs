//! An agent in a pod of 32 MiB among all hostile clients at once. The kernel's account of its memory stays
//! below half of the limit, and no probe between agents fails.
//!
//! Needs root, namespaces, nft, a memory cgroup and the static binary in `WYLIS_BINARY`.
#![cfg(test)]

mod field;
mod flooding;
mod forging;
mod holding;
mod hostile;
mod kinds;
mod trial;
mod vanishing;
