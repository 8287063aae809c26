//! The gate and the server behind it, attacked from outside. Each test starts them in a process of their
//! own, does what would end a process with tiny_http on an open port, and checks that probes still
//! succeed, and what the attack cost.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly, and its helpers with it"
)]

mod answered;
mod backend_faults;
mod child;
mod client;
mod exhaustion;
mod gzip;
mod hostile;
mod lanes;
mod memory;
mod responses;
mod retransmits;
