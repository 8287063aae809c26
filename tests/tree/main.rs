//! What the house is built of: which crates come in, under which licences, which module may know
//! which, and how long a file may grow.

mod dependencies;
mod imports;
mod licence;
mod rules;
