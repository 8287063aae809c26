//! Hostile files in the state directory, read by a real agent: each costs a line in the log, and little
//! memory.

use std::time::Duration;

use wylis_harness::mesh::Mesh;
use wylis_harness::wait_until;

use super::{FAST, binary};

/// Bytes of each file: just below the longest that is read.
const LENGTH: usize = (3 << 19) - 1024;
/// The most that reading one may add to the peak: the file, and a text or a stack of brackets of its length,
/// which grows by doubling.
const MAX_KB: u64 = 10 * 1024;

/// A file of `LENGTH` bytes: `head`, then `element` again and again, then `tail`.
fn document(head: &str, element: &str, tail: &str) -> String {
    let count = (LENGTH - head.len() - tail.len()) / element.len();
    [head, &element.repeat(count), tail].concat()
}

#[test]
fn no_file_in_the_state_directory_costs_much_memory() {
    let mut mesh = Mesh::new(&binary(), FAST);
    mesh.api.stop();
    let state = mesh.dir().join("state");
    std::fs::create_dir(&state).unwrap();
    let head = "{\"format\":1,\"node\":\"n1\",\"scope\":\"s\",\"saved\":1,\"peers\":[";
    let peer = "{\"node\":\"a\",\"address\":\"10.0.0.1:1\"},";
    let others = "{\"node\":\"a\",\"address\":\"10.0.0.1:1\",\"others\":[";
    let cases = [
        ("garbage", "x".repeat(100)),
        ("brackets", document("{\"x\":", "[", "")),
        ("many peers", document(head, peer, "0]}")),
        ("many addresses", document(&[head, others].concat(), "\"::1\",", "0]}]}")),
        ("a long text", document("{\"node\":\"\\n", "n", "\"}")),
    ];
    let mut peaks = Vec::new();
    for (what, text) in &cases {
        std::fs::write(state.join("peers.json"), text).unwrap();
        mesh.add_with("n1", &[("WYLIS_STATE_DIR", &state.display().to_string())]);
        wait_until(Duration::from_secs(30), "the file is refused", || {
            mesh.agent("n1").log().contains("is not used: damaged")
        });
        peaks.push((what, mesh.agent("n1").status("VmHWM")));
        mesh.kill("n1");
    }
    let base = peaks[0].1;
    assert!(peaks.iter().all(|(_, peak)| *peak < base + MAX_KB), "{peaks:?}");
}
