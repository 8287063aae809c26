//! Discovery over real TLS against a stand-in for the API server.
//!
//! Every failure must leave the last good set in force, have its own reason, and keep the token out
//! of everything that is logged (which [`rig::Rig`] checks at the end of each test).

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

#[path = "discovery/failures.rs"]
mod failures;
#[path = "discovery/kept.rs"]
mod kept;
#[path = "discovery/lists.rs"]
mod lists;
#[path = "discovery/rig.rs"]
mod rig;
#[path = "discovery/rows.rs"]
mod rows;
#[path = "discovery/thread.rs"]
mod thread;
