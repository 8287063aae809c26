//! gzip by the tool of that name, which shares no code with the agent.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Inflates what an agent sent.
///
/// # Panics
/// When it is no gzip.
#[must_use]
pub fn gunzip(compressed: &[u8]) -> Vec<u8> {
    let mut tool = Command::new("gzip");
    tool.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut tool = tool.spawn().expect("gzip, which every distribution has");
    let mut stdin = tool.stdin.take().expect("a pipe");
    let compressed = compressed.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&compressed));
    let output = tool.wait_with_output().expect("its output");
    let _ = writer.join();
    assert!(output.status.success(), "no gzip");
    output.stdout
}
