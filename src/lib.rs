//! Wylis keeps every pair of nodes of a cluster warm with constant blank requests, and measures
//! them. ARCHITECTURE.md is the map; each module says its own job.

pub mod metrics;
pub mod name;
pub mod peer;
pub mod probe;
pub mod pulse;
pub mod schedule;
pub mod shutdown;
pub mod state;
pub mod wire;
