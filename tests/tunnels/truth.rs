//! The truth table: for each injected fault, the verdicts of all agents, the finding of a third node, the
//! time to them, and no false alarm about any other pair. `table` defines the cases with the words that
//! `expect` compares, `trial` runs one, `observer` and `findings` read the agents, `document` writes
//! docs/faults.md, the other modules inject the faults.

mod document;
mod expect;
mod findings;
mod host;
mod observer;
mod partial;
mod path;
mod peer;
mod rolling;
mod table;
mod trial;
mod weather;

use table::INTERVAL;

use crate::mesh::TunnelMesh;
