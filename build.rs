//! Compresses the page: 47 KB of the binary become 14 KB.

use std::io::{Error, Result};
use std::path::Path;

#[expect(dead_code, unreachable_pub, reason = "the rest of it is for the agent")]
#[path = "src/gzip.rs"]
mod gzip;
#[path = "src/server/page/served.rs"]
mod served;

fn main() -> Result<()> {
    // What is included above and in the page is a part of this script.
    println!("cargo::rerun-if-changed=build.rs");
    let page = std::iter::once(served::page().into_bytes());
    let page = gzip::compress(page, gzip::Level::Small, usize::MAX);
    let dir = std::env::var_os("OUT_DIR").ok_or_else(|| Error::other("no OUT_DIR"))?;
    std::fs::write(Path::new(&dir).join("page.gz"), page.ok_or_else(|| Error::other("gzip"))?)
}
