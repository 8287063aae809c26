//! Arguments, build, run, exit codes.

fn main() {}
