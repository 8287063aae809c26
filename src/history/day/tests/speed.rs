//! How much time and memory a bad day takes.

use std::time::Instant;

use super::*;
use crate::history::{CellTime, MAX_RUNS, Run};

/// A number without order.
fn noise(seed: usize) -> u64 {
    let seed = u64::try_from(seed).unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (seed ^ (seed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

/// A mesh in which a tenth of the pairs is at fault in every bin of the last `bins`.
fn bad_mesh(nodes: usize, bins: usize, is_same: bool) -> MeshFaults {
    let name = |node: usize| NodeName::new(&format!("node-{node:03}.example")).unwrap();
    let times: Vec<CellTime> = (0..288)
        .map(|bin| CellTime { from: T0 + bin * 300, seconds: 300, is_repeated: false })
        .collect();
    let words = [down(FailureReason::ConnectTimeout), flaky(FailureReason::ResponseTimeout)];
    let faults = |source: usize| {
        let mut runs = Vec::new();
        let others: Vec<usize> = (0..nodes).filter(|node| *node != source).collect();
        for (path, target) in others.iter().enumerate() {
            for first in 288 - bins..288 {
                let seed = (source * nodes + target) * 288 + if is_same { 0 } else { first };
                if noise(seed) % 10 == 0 {
                    let octet = words[usize::try_from(noise(seed + 1) % 2).unwrap()].octet();
                    let [path, first] = [path, first].map(|place| u16::try_from(place).unwrap());
                    runs.push(Run { path, first, count: 1, failures: 20, probes: 33, octet });
                }
            }
        }
        let nodes = others.into_iter().map(name).collect();
        Faults { at: 0, times: times.clone(), nodes, runs, left_out: 0 }
    };
    let mut mesh = MeshFaults::new(&name(0), faults(0));
    for node in 1..nodes {
        mesh.add(&name(node), Ok(faults(node)));
    }
    mesh
}

#[test]
#[ignore = "prints times: cargo test --release --lib history::day::tests::speed -- --ignored --nocapture"]
fn times_of_a_bad_day() {
    for (nodes, bins, is_same, what) in [
        (100, 0, false, "well"),
        (100, 288, true, "a tenth of the pairs at fault all day"),
        (100, 1024 / 10, false, "another tenth in each bin, as much as is told"),
        (100, 288, false, "another tenth in each bin, more than is told"),
        (418, 0, false, "well"),
        (418, 288, true, "a tenth of the pairs at fault all day"),
        (418, 1024 / 42, false, "another tenth in each bin, as much as is told"),
    ] {
        let mesh = bad_mesh(nodes, bins, is_same);
        let begun = Instant::now();
        let mut judged = 0;
        let now = std::time::UNIX_EPOCH + Duration::from_secs(T0 + DAY - 1);
        let day = Day::of(&mesh, now, &mut || {
            judged += 1;
            true
        });
        let lines = day.findings.len() + day.left_out;
        println!("{nodes} nodes, {what}: {:?}, {judged} judged, {lines} lines", begun.elapsed());
        assert!(MAX_RUNS > 0);
    }
}
