//! The prober with real sockets, in this process: each test has its own network in 127/8.

#![cfg(test)]

mod child;
mod exchange;
mod fetch;
mod large;
mod peer;
mod pool;
mod routes;
