//! The alerts of manifests/monitoring: promtool evaluates them on recordings of real agents (`make
//! recordings`). Each fires in its situations and is silent in all others.
#![cfg(test)]

mod alertmanager;
mod annotations;
mod cases;
mod clusters;
mod promtool;
mod recording;
mod rules;
