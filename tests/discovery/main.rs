//! Discovery over real TLS against a fake API server.
//!
//! Every failure must leave the last good set in force, have its own reason, and keep the token out of
//! the log, which [`fixture::Fixture`] checks at the end of each test.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

mod cache;
mod certificates;
mod failures;
mod fixture;
mod hostile;
mod lists;
mod table;
mod thread;
