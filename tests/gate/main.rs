//! The gate and the server behind it, attacked from outside: each test starts them in a process of
//! its own, does what would kill tiny_http on an open port, and looks whether the peers' requests
//! are still answered, and what it cost.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly, and its helpers with it"
)]

mod answers;
mod child;
mod client;
mod hostile;
mod lanes;
mod limits;
mod wrong;
