//! The structure of the code: which crates are allowed, under which licences, which module may import
//! which, no circle of imports between files, and how long a file may be.

mod dependencies;
mod imports;
mod licence;
mod rules;
mod source;
