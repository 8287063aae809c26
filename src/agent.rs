//! Ties the parts together: starts the named threads, owns the schedule and the state, stops all.
//!
//! The agent's loop runs on the thread that calls [`run`]. It alone touches schedule and state;
//! everything reaches it through bounded channels, and it blocks on nothing else.

mod collect;
mod event_loop;
mod requests;
mod start;
mod views;

pub use start::{AgentError, run};
