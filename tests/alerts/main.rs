//! The alerts of manifests/monitoring: each fires when it should and is silent otherwise, shown by
//! promtool on what real agents said in each situation (`make recordings` records that).
#![cfg(test)]

mod alertmanager;
mod cases;
mod promtool;
mod recording;
mod rules;
