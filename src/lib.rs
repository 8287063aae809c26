//! Wylis keeps every pair of nodes of a cluster warm with constant blank requests, and measures
//! them. ARCHITECTURE.md has the code map.

pub mod agent;
mod bounded_list;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod document;
pub mod experiment;
mod file;
pub mod gate;
pub mod gzip;
pub mod heartbeat;
pub mod history;
pub mod host_port;
mod label;
pub mod logger;
pub mod matrix;
pub mod metrics;
pub mod name;
pub mod peer;
pub mod probe;
pub mod prober;
pub mod random;
pub mod route;
pub mod schedule;
pub mod server;
pub mod shutdown;
mod sort;
pub mod state;
pub mod survey;
mod tcp_info;
pub mod token;
pub mod wire;
