//! How much time and memory a bad day takes.

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
            // A fault that lasts is one run.
            let [step, begin] = if is_same { [288, 0] } else { [1, 288 - bins] };
            for first in (begin..288).step_by(step) {
                let seed = (source * nodes + target) * 288 + first;
                if noise(seed).is_multiple_of(10) && bins > 0 {
                    let octet = words[usize::try_from(noise(seed + 1) % 2).unwrap()].octet();
                    let [path, first, count] =
                        [path, first, step].map(|place| u16::try_from(place).unwrap());
                    runs.push(Run { path, first, count, failures: 20, probes: 33, octet });
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

/// Time of this thread on a CPU.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "prints times: cargo test --release --lib history::day::tests::speed -- --ignored --nocapture"]
fn times_of_a_bad_day() {
    for (nodes, bins, is_same, what) in [
        (100, 0, true, "well"),
        (100, 288, true, "a tenth of the pairs at fault all day"),
        (100, MAX_RUNS / 10, false, "another tenth in each bin, as much as is told"),
        (418, 0, true, "well"),
        (418, 288, true, "a tenth of the pairs at fault all day"),
        (418, MAX_RUNS / 42, false, "another tenth in each bin, as much as is told"),
    ] {
        let mesh = bad_mesh(nodes, bins, is_same);
        let begun = cpu();
        let mut judged = 0;
        let now = std::time::UNIX_EPOCH + Duration::from_secs(T0 + DAY - 1);
        let day = Day::of(&mesh, now, &mut || {
            judged += 1;
            true
        });
        let lines = day.findings.len() + day.left_out;
        println!("{nodes} nodes, {what}: {:?}, {judged} judged, {lines} lines", cpu() - begun);
    }
}
