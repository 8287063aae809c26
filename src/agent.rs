//! Ties the parts together: starts the threads, runs the loop, stops the threads.
//!
//! The loop runs on the thread that calls [`run`]. It alone owns schedule and state. Everything
//! reaches it through bounded channels, and it blocks on nothing else.

mod collect;
mod detour;
mod event_loop;
mod history;
mod log_changes;
mod reads;
mod remember;
mod requests;
mod silent;
mod start;
mod survey;
mod views;

pub use start::{AgentError, run};
